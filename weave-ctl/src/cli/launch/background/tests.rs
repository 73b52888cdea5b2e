//! The word between a launch and the process that it starts.

use clap::Parser;

use super::{
    super::super::args::{Cli, Verb},
    arguments,
};
use crate::config::{
    self, LaunchConfig,
    env::Env,
    flags::{DirFlags, DnsKernel, LaunchFlags, LogLevel, Xdp},
};

#[test]
fn a_child_reads_the_same_settings_from_its_arguments() {
    let text = |s: &str| Some(s.to_owned());
    // Every field is named: one that is new and not handed over does not compile here, or fails below.
    let full = LaunchFlags {
        peers: vec!["host-2".into(), "192.0.2.3:7000".into()],
        name: text("::3"),
        nickname: text("-odd.name"),
        port: text("7001"),
        password: text("secret"),
        ipalloc_range: text("10.2.0.0/16"),
        ipalloc_default_subnet: text("10.2.1.0/24"),
        seed: vec!["::1".into(), "::3".into()],
        no_discovery: true,
        conn_limit: text("3"),
        test_grace: text("2"),
        host: text("127.0.0.9"),
        xdp: Xdp::Native,
        log_level: LogLevel::Debug,
        foreground: false,
        password_file: None,
        key_file: None,
        initial_peer_count: None,
        observer: false,
        ipalloc_init: None,
        no_dns: false,
        dns_domain: text("corp.example."),
        dns_ttl: text("7"),
        dns_upstream: vec!["9.9.9.9".into(), "[2620:fe::fe]:5353".into()],
        dns_listen: vec!["192.0.2.1".into()],
        dns_kernel: DnsKernel::Off,
        ready_fd: None,
    };
    let without = LaunchFlags { no_dns: true, ..LaunchFlags::default() };
    let key_file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(key_file.path(), "5e".repeat(31) + "ec").expect("the file");
    let key = LaunchFlags { key_file: Some(key_file.path().to_owned()), ..LaunchFlags::default() };
    let handed = tempfile::NamedTempFile::new().expect("a file");
    for flags in [full, key, without, LaunchFlags::default()] {
        let env = Env { run_dir: Some("/tmp/some where".into()), ..Env::default() };
        let dirs = config::dirs(&DirFlags::default(), &env).expect("directories");
        let parent = config::launch(&flags, dirs, &env).expect("settings");
        let list = arguments(&parent, flags.log_level, 9, &handed.path().to_string_lossy());
        assert!(!list.iter().any(|a| a.to_string_lossy().contains("secret")), "the password shows: {list:?}");
        if let Some(secret) = &parent.secret {
            secret.write(&mut handed.reopen().expect("the file")).expect("the secret");
        }

        let cli = Cli::try_parse_from(std::iter::once("weave-ctl".into()).chain(list)).expect("arguments");
        let Verb::Launch(again) = cli.verb else { panic!("another verb") };
        assert_eq!((again.foreground, again.ready_fd, again.log_level), (true, Some(9), flags.log_level));
        let dirs = config::dirs(&cli.dirs, &Env::default()).expect("directories");
        let child = config::launch(&again, dirs, &Env::default()).expect("settings");
        // The parent has said that a password on the command line shows.
        let warnings = if parent.secret.is_some() { Vec::new() } else { parent.warnings.clone() };
        assert_eq!(child, LaunchConfig { warnings, ..parent });
    }
}
