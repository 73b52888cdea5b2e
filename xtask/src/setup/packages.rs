//! The programs that tests, demo, kernel runs and bench start: looked up, and installed by apt where that works.
//!
//! Does not: install anything when all are there, or without being root on a Debian-like system.

use anyhow::{Result, bail};

use crate::sh;

/// A program and the Debian package that has it.
pub(super) const TOOLS: [(&str, &str); 20] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("bpftool", "bpftool"),
    ("tcpdump", "tcpdump"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("iptables-legacy", "iptables"),
    ("nsenter", "util-linux"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("busybox", "busybox-static"),
    ("modprobe", "kmod"),
    ("xz", "xz-utils"),
    ("dash", "dash"),
    ("dig", "bind9-dnsutils"),
    ("kdig", "knot-dnsutils"),
    ("musl-gcc", "musl-tools"),
    ("systemd-analyze", "systemd"),
];

/// What the bench runs beside them.
pub(super) const SERVERS: [(&str, &str); 3] =
    [("dnsperf", "dnsperf"), ("dnsmasq", "dnsmasq-base"), ("unbound", "unbound")];

pub(super) fn have(what: &str, tools: &[(&str, &'static str)]) -> Result<()> {
    let mut missing: Vec<&str> = tools.iter().filter(|(tool, _)| sh::which(tool).is_none()).map(|(_, p)| *p).collect();
    missing.dedup();
    if missing.is_empty() {
        println!("tools for {what}: ready");
        return Ok(());
    }
    println!("tools for {what}: missing {}", missing.join(", "));
    install(&missing)
}

/// Installs Debian packages, or says in one sentence which ones somebody has to install.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if sh::which("apt-get").is_none() {
        bail!("this is not a Debian-like system: install what these Debian packages hold: {}", packages.join(" "));
    }
    if !sh::is_root() {
        bail!("not root: run `apt-get install --no-install-recommends {}` as root", packages.join(" "));
    }
    let apt = || {
        let mut command = sh::command("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    sh::run(apt().args(["update", "--quiet"]))?;
    sh::run(apt().args(["install", "--quiet", "--yes", "--no-install-recommends"]).args(packages))
}
