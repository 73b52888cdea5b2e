//! What is read of resolv.conf, and when.

use super::*;

fn servers(file: &mut ResolvConf) -> Option<Vec<String>> {
    file.changed().map(|servers| servers.iter().map(ToString::to_string).collect())
}

/// Field report F4: a change is followed, also by way of a link, and what leads back here is left out.
#[test]
fn changes_are_followed_and_servers_read() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other, path) = (dir.path().join("one"), dir.path().join("other"), dir.path().join("resolv.conf"));
    fs::write(&one, "# made\nsearch a b\nnameserver 127.0.0.53\nnameserver x.y\nnameserver 10.0.0.9\nnameserver ::1\n")
        .unwrap();
    std::os::unix::fs::symlink(&one, &path).unwrap();
    let own = vec!["10.0.0.9".parse().unwrap()];
    let mut file = ResolvConf::new(&path, own);
    assert_eq!(servers(&mut file), Some(vec!["127.0.0.53:53".to_owned(), "[::1]:53".to_owned()]));
    assert_eq!(servers(&mut file), None);
    fs::write(&other, "nameserver 9.9.9.9").unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(servers(&mut file), None, "away for a moment");
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert_eq!(servers(&mut file), Some(vec!["9.9.9.9:53".to_owned()]));
    fs::write(&other, "").unwrap();
    assert_eq!(servers(&mut file), Some(vec![]));
}
