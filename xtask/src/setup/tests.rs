//! The file that `weave-ctl/build.rs` reads.

use super::Toolchain;

#[test]
fn what_is_written_is_read_again_and_half_a_file_is_not_a_toolchain() {
    let file = std::env::temp_dir().join(format!("weave-xtask-{}-env", std::process::id()));
    let toolchain = Toolchain {
        recipe: "rustup".to_owned(),
        cargo: "/a b/cargo".into(),
        rustc: "/a b/rustc".into(),
        src: "/src=1/library".into(),
        linker: "/l".into(),
    };
    toolchain.write(&file).unwrap();
    assert_eq!(Toolchain::read(&file), Some(toolchain));
    std::fs::write(&file, "RECIPE=rustup\nCARGO=/c\n").unwrap();
    assert_eq!(Toolchain::read(&file), None);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(Toolchain::read(&file), None);
}
