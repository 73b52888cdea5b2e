//! Putting files in place, also where something is in the way.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{below, link, put, read};

#[test]
fn the_binary_and_its_other_name_are_replaced_whole() {
    let folder = std::env::temp_dir().join(format!("weave-xtask-{}-install", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (built, binary, name) = (folder.join("built"), folder.join("weave-ctl"), folder.join("weave"));
    fs::write(&name, "the predecessor's script").unwrap();
    for content in ["first", "second"] {
        fs::write(&built, content).unwrap();
        put(&read(&built).unwrap(), &binary, 0o755).unwrap();
        link(Path::new("weave-ctl"), &name).unwrap();
        assert_eq!(fs::read_to_string(&name).unwrap(), content);
        assert_eq!(fs::read_link(&name).unwrap(), Path::new("weave-ctl"));
        assert_eq!(fs::metadata(&binary).unwrap().permissions().mode() & 0o777, 0o755);
    }
    assert!(read(&folder.join("gone")).is_err());
    fs::create_dir_all(folder.join("folder/in the way")).unwrap();
    assert!(put(b"third", &folder.join("folder"), 0o755).is_err());
    assert!(put(b"third", &folder.join("gone/weave-ctl"), 0o755).is_err());
    assert_eq!(fs::read_to_string(&binary).unwrap(), "second", "a failure leaves what was there");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn another_root_goes_before_every_path() {
    assert_eq!(below(Path::new("/"), Path::new("/usr/local")), Path::new("/usr/local"));
    assert_eq!(below(Path::new("/srv/image"), Path::new("/usr/local")), Path::new("/srv/image/usr/local"));
}
