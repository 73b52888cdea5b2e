//! The whole user space of a machine: busybox, the network tools with their libraries, our binaries, modules, scripts.
//!
//! Built anew for each run from what this machine has, in `target/kernels/VERSION/root`.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Payload, live,
    package::{Kernel, modules},
};
use crate::sh;

/// Modules that the tests need; what they depend on comes along.
const MODULES: [&str; 5] = ["veth", "sch_ingress", "cls_bpf", "vxlan", "dummy"];
/// Real programs; busybox's namesakes lack what we use.
const TOOLS: [&str; 8] = ["ip", "tc", "bpftool", "ethtool", "ping", "iperf3", "nsenter", "dash"];
/// What busybox is good enough for.
const APPLETS: [&str; 20] = [
    "cat", "cut", "dmesg", "grep", "head", "insmod", "kill", "killall", "ls", "mkdir", "mount", "poweroff", "rm",
    "sed", "sleep", "sysctl", "tail", "timeout", "tr", "uname",
];
const FOLDERS: [&str; 12] =
    ["bin", "dev", "etc", "lib", "lib64", "modules", "proc", "root", "run/netns", "sys", "tmp", "var/lib"];

/// Builds the image and gives its path.
pub(super) fn build(kernel: &Kernel, payload: &Payload) -> Result<PathBuf> {
    let root = kernel.folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot make {folder} of the initramfs"))?;
    }
    busybox(&root)?;
    for tool in TOOLS {
        let path = sh::which(tool).with_context(|| format!("`{tool}` is missing: run `cargo xtask setup`"))?;
        program(&root, &path, tool)?;
    }
    symlink("dash", root.join("bin/sh")).context("cannot link the shell")?;
    for (file, name) in [(&payload.guest, "guest"), (&payload.weave_ctl, "weave-ctl")] {
        program(&root, &stripped(file, &kernel.folder.join(name))?, name)?;
    }
    copy(&payload.object, &root.join("programs.o"))?;
    kernel_modules(kernel, &root)?;
    script(&root.join("init"), live::INIT)?;
    script(&root.join("live.sh"), live::LIVE)?;
    pack(&root, &kernel.folder.join("initramfs.cpio"))
}

fn busybox(root: &Path) -> Result<()> {
    let busybox = sh::which("busybox").context("`busybox` is missing: run `cargo xtask setup`")?;
    if !libraries(&busybox)?.is_empty() {
        bail!("{} is not static: install the Debian package busybox-static", busybox.display());
    }
    copy(&busybox, &root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).with_context(|| format!("cannot link {applet}"))?;
    }
    Ok(())
}

/// Without debugging sections, which would fill the machine's memory. Without `strip` it is taken as it is.
fn stripped(from: &Path, to: &Path) -> Result<PathBuf> {
    let Some(strip) = sh::which("strip") else { return Ok(from.to_path_buf()) };
    sh::output(sh::command(strip).arg("-o").args([to, from]))?;
    Ok(to.to_path_buf())
}

/// Copies a program into `bin/`, and the libraries it loads to where it looks for them.
fn program(root: &Path, from: &Path, name: &str) -> Result<()> {
    copy(from, &root.join("bin").join(name))?;
    for library in libraries(from)? {
        let to = root.join(library.strip_prefix("/").unwrap_or(&library));
        if !to.exists() {
            copy(&library, &to)?;
        }
    }
    Ok(())
}

/// Absolute paths of what the loader would load; nothing for a static binary.
fn libraries(file: &Path) -> Result<Vec<PathBuf>> {
    let out = sh::command("ldd").arg(file).output().context("cannot start `ldd`")?;
    Ok(loaded(&String::from_utf8_lossy(&out.stdout)))
}

/// `libc.so.6 => /lib/libc.so.6 (0x...)` and `/lib64/ld-linux-x86-64.so.2 (0x...)`.
pub(super) fn loaded(ldd: &str) -> Vec<PathBuf> {
    let paths = ldd.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(PathBuf::from).collect()
}

fn kernel_modules(kernel: &Kernel, root: &Path) -> Result<()> {
    let mut order = String::new();
    for file in modules(kernel, &MODULES)? {
        let name = file.file_name().context("a module without a name")?.to_string_lossy().into_owned();
        let plain = name.trim_end_matches(".xz");
        let to = root.join("modules").join(plain);
        if name.ends_with(".xz") {
            let out = File::create(&to).with_context(|| format!("cannot make {}", to.display()))?;
            let status = sh::command("xz").arg("-dc").arg(&file).stdout(out).status().context("cannot start `xz`")?;
            if !status.success() {
                bail!("xz cannot unpack {}", file.display());
            }
        } else {
            copy(&file, &to)?;
        }
        order.push_str(plain);
        order.push('\n');
    }
    fs::write(root.join("modules/order"), order).context("cannot write the order of modules")
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn pack(root: &Path, image: &Path) -> Result<PathBuf> {
    let out = File::create(image).with_context(|| format!("cannot make {}", image.display()))?;
    let mut find = sh::command("find").arg(".").current_dir(root).stdout(Stdio::piped()).spawn().context("`find`")?;
    let names = find.stdout.take().context("a pipe was asked for")?;
    let mut cpio = sh::command("cpio");
    cpio.args(["-o", "-H", "newc", "--quiet", "--owner", "0:0"]).current_dir(root).stdin(names).stdout(out);
    let packed = cpio.status().context("cannot start `cpio`")?.success();
    if !(find.wait().context("cannot wait for `find`")?.success() && packed) {
        bail!("the initramfs cannot be packed");
    }
    Ok(image.to_path_buf())
}
