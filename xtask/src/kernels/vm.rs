//! Boots a kernel and listens to its console.
//!
//! One emulated core and one emulation thread: with more, swapping XDP programs under traffic panics some kernels in the
//! emulator. `panic=-1` and `-no-reboot` let a panic end the machine.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{package::Kernel, report::Report};
use crate::sh;

/// After this long a machine is stopped; a whole run takes well under a minute on an idle core.
pub(super) const LIMIT: Duration = Duration::from_secs(300);
/// Memory, in MiB; the initramfs is part of it.
const MEMORY: &str = "1024";
/// How often a running machine is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Where all that the machine says is kept.
pub(super) fn log(kernel: &Kernel) -> PathBuf {
    kernel.folder.join("console.log")
}

/// Runs the machine to its end, or to the limit.
pub(super) fn run(kernel: &Kernel, image: &Path, no_live: bool) -> Result<Report> {
    let append = format!("console=ttyS0 quiet panic=-1 weave={}", if no_live { "packets" } else { "live" });
    let mut qemu = sh::command("qemu-system-x86_64");
    qemu.args(["-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "1", "-m", MEMORY])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(image)
        .args(["-append", &append])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = qemu.spawn().context("cannot start `qemu-system-x86_64`: run `cargo xtask setup`")?;
    let console = child.stdout.take().context("a pipe was asked for")?;
    let path = log(kernel);
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let version = kernel.version.clone();
    let listener = thread::spawn(move || listen(console, &file, &version));
    wait(&mut child, start + LIMIT)?;
    let mut report = listener.join().unwrap_or_else(|_| Report::new(&kernel.version));
    report.took(start.elapsed());
    Ok(report)
}

fn wait(child: &mut Child, deadline: Instant) -> Result<()> {
    while child.try_wait().context("cannot wait for the machine")?.is_none() {
        if Instant::now() >= deadline {
            eprintln!("xtask: the machine did not end in {} s: stopped", LIMIT.as_secs());
            child.kill().and_then(|()| child.wait()).context("cannot stop the machine")?;
            return Ok(());
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Keeps every line, shows those that count.
fn listen(console: ChildStdout, mut log: &File, version: &str) -> Report {
    let mut report = Report::new(version);
    for line in BufReader::new(console).split(b'\n').map_while(std::io::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        if report.line(line) {
            println!("{version}: {}", line.trim_start());
        }
        if let Err(error) = writeln!(log, "{line}") {
            eprintln!("xtask: the console of {version} cannot be kept: {error}");
        }
    }
    report
}
