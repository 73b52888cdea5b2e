//! Reading what apt, modprobe, ldd and the machines print.

use std::path::PathBuf;

use super::{
    initramfs::loaded,
    package::{needed, pick},
    report::Report,
};

#[test]
fn the_newest_kernel_of_a_family_is_picked_by_number() {
    let found = "linux-image-6.1.0-9-cloud-amd64 - Linux\n\
                 linux-image-6.1.0-56-cloud-amd64 - Linux\n\
                 linux-image-6.12-cloud-amd64 - a name for the newest\n\
                 linux-image-6.12.117+deb12-cloud-amd64 - Linux\n\
                 linux-image-6.12.99+deb12-cloud-amd64 - Linux\n\
                 linux-image-6.12.118+deb12-rt-amd64 - Linux\n";
    assert_eq!(pick(found, "6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
    assert_eq!(pick(found, "6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
    assert_eq!(pick(found, "6.6"), None);
}

#[test]
fn modules_come_with_what_they_need() {
    let shown = "insmod /k/udp_tunnel.ko.xz \ninsmod /k/vxlan.ko.xz log_ecn_error=1\nbuiltin ipv6\n";
    assert_eq!(needed(shown).unwrap(), [PathBuf::from("/k/udp_tunnel.ko.xz"), PathBuf::from("/k/vxlan.ko.xz")]);
    assert!(needed("modprobe: FATAL").is_err());
}

#[test]
fn libraries_are_read_from_ldd() {
    let ldd = "\tlinux-vdso.so.1 (0x7ff)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
    assert_eq!(loaded(ldd), [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld.so.2")]);
    assert_eq!(loaded("\tnot a dynamic executable\n"), Vec::<PathBuf>::new());
}

fn report(lines: &[&str]) -> Report {
    let mut report = Report::new("6.1");
    for line in lines {
        report.line(&format!("WEAVE: {line}"));
    }
    report
}

const GOOD: [&str; 5] = ["load weave_underlay 120", "packet arp::answer ok", "steps live 1", "live ping ok", "end"];

#[test]
fn only_a_whole_run_without_failures_is_good() {
    assert!(report(&GOOD).is_good(true));
    for missing in GOOD {
        let lines: Vec<&str> = GOOD.into_iter().filter(|line| *line != missing).collect();
        assert!(!report(&lines).is_good(true), "without `{missing}`");
    }
    for bad in
        ["load weave_socket failed: refused", "packet arp failed: 3 bytes", "live tcp failed: none", "steps live 2"]
    {
        assert!(!report(&[&GOOD[..], &[bad]].concat()).is_good(true), "with `{bad}`");
    }
    assert!(report(&["load a 1", "packet a ok", "end"]).is_good(false));
    assert!(!Report::not_run("6.1", &anyhow::anyhow!("no network")).is_good(false));
}

#[test]
fn lines_of_the_kernel_do_not_count_and_complaints_name_the_step() {
    let mut report = report(&["live tcp failed: no answer", "live ping ok"]);
    assert!(!report.line("[    1.2] veth: loaded"));
    assert!(!report.line("WEAVE: something else"));
    assert!(report.line("\u{1b}[0mWEAVE: packet a ok"));
    assert_eq!(report.complaints(), ["live tcp: failed: no answer", "the machine did not come to its end"]);
}
