//! Every setting that cannot be used is refused with one sentence.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use super::{
    Dirs, LaunchConfig, addr, dirs,
    env::Env,
    flags::{DirFlags, LaunchFlags},
    launch, targets,
};
use crate::proto::{
    boot::{Init, SecretKind},
    command::AddrRequest,
};

fn some_dirs() -> Dirs {
    dirs(&DirFlags::default(), &Env::default()).expect("the defaults")
}

fn from(change: impl FnOnce(&mut LaunchFlags)) -> Result<LaunchConfig, String> {
    let mut flags = LaunchFlags::default();
    change(&mut flags);
    launch(&flags, some_dirs(), &Env::default()).map_err(|e| e.to_string())
}

fn refusal(change: impl FnOnce(&mut LaunchFlags)) -> String {
    from(change).expect_err("a refusal")
}

#[test]
fn nothing_given_means_resume() {
    let config = from(|_| {}).expect("the defaults");
    assert_eq!((config.launch.port, config.launch.conn_limit, config.launch.test_grace), (6783, 200, None));
    assert_eq!((config.launch.name, config.launch.range, config.launch.default_subnet), (None, None, None));
    assert!(config.launch.discovery && config.launch.secret == SecretKind::None && !config.launch.nickname.is_empty());
    assert!(config.listen.is_unspecified());
    assert_eq!(config.dirs.bpf, PathBuf::from("/sys/fs/bpf/weave"));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_default() {
    let env = Env { run_dir: Some("/e/run".into()), state_dir: Some("/e/state".into()), ..Env::default() };
    let flags = DirFlags { run_dir: Some("/f/run".into()), ..DirFlags::default() };
    let picked = dirs(&flags, &env).expect("directories");
    assert_eq!((picked.run, picked.state), ("/f/run".into(), "/e/state".into()));

    let env = Env { port: Some("7000".into()), ..Env::default() };
    let config = launch(&LaunchFlags::default(), some_dirs(), &env).expect("settings");
    assert_eq!(config.launch.port, 7000);
    let flags = LaunchFlags { port: Some("8000".into()), ..LaunchFlags::default() };
    assert_eq!(launch(&flags, some_dirs(), &env).expect("settings").launch.port, 8000);
}

#[test]
fn relative_directories_become_absolute() {
    let flags = DirFlags { run_dir: Some("some/run".into()), ..DirFlags::default() };
    assert!(dirs(&flags, &Env::default()).expect("directories").run.is_absolute());
    let flags = DirFlags { run_dir: Some("".into()), ..DirFlags::default() };
    assert!(dirs(&flags, &Env::default()).is_err());
}

#[test]
fn networks() {
    let range = |text: &str| from(|f| f.ipalloc_range = Some(text.to_owned())).map(|c| c.launch.range);
    assert_eq!(range("10.0.0.0/30"), Ok(Some("10.0.0.0/30".parse().expect("a network"))));
    for (text, sentence) in [
        ("10.0.0.0/31", "--ipalloc-range 10.0.0.0/31 is too small: at least a /30 is needed"),
        ("10.0.0.1/24", "--ipalloc-range \"10.0.0.1/24\" is not a network: the network of that length is 10.0.0.0/24"),
        ("10.0.0.0", "--ipalloc-range \"10.0.0.0\" is not a CIDR: write an IPv4 network like 10.32.0.0/12"),
        ("10.0.0.0/33", "--ipalloc-range \"10.0.0.0/33\" is not a CIDR: write an IPv4 network like 10.32.0.0/12"),
        ("fd00::/64", "--ipalloc-range \"fd00::/64\" is not a CIDR: write an IPv4 network like 10.32.0.0/12"),
    ] {
        assert_eq!(range(text), Err(sentence.to_owned()));
    }
    for text in ["127.1.0.0/16", "224.0.0.0/8", "0.0.0.0/0", "128.0.0.0/1", "240.0.0.0/4"] {
        assert!(range(text).expect_err("a refusal").contains("cannot be given to containers"), "{text}");
    }
}

#[test]
fn the_default_subnet_lies_in_the_range() {
    let both = |range: Option<&str>, subnet: &str| {
        from(|f| {
            f.ipalloc_range = range.map(str::to_owned);
            f.ipalloc_default_subnet = Some(subnet.to_owned());
        })
    };
    assert!(both(Some("10.2.0.0/16"), "10.2.1.0/24").is_ok());
    assert!(both(Some("10.2.0.0/16"), "10.2.0.0/16").is_ok());
    // What the range is, an earlier launch may have said.
    assert!(both(None, "10.2.1.0/24").is_ok());
    for subnet in ["10.3.0.0/24", "10.0.0.0/8"] {
        let sentence = both(Some("10.2.0.0/16"), subnet).expect_err("a refusal");
        assert_eq!(sentence, format!("--ipalloc-default-subnet {subnet} is not inside --ipalloc-range 10.2.0.0/16"));
    }
}

#[test]
fn seeds_come_from_either_flag() {
    let names = |c: LaunchConfig| c.launch.seeds.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = ["00:00:00:00:00:01", "00:00:00:00:00:02"];
    assert_eq!(names(from(|f| f.seed = vec!["::1".into(), "::2".into()]).expect("seeds")), expected);
    assert_eq!(names(from(|f| f.ipalloc_init = Some("seed=::1,::2".into())).expect("seeds")), expected);
    for mode in ["consensus", "", "seeds=::1", "observer=1"] {
        let sentence = refusal(|f| f.ipalloc_init = Some(mode.to_owned()));
        assert!(sentence.contains("write seed=NAME,NAME,..., consensus=N or observer"), "{sentence}");
    }
    assert!(refusal(|f| f.ipalloc_init = Some("seed=".into())).contains("is not a peer name"));
    assert!(refusal(|f| f.seed = vec!["::1".into(), "0:0:0:0:0:1".into()]).contains("named twice"));
    let five = refusal(|f| {
        f.ipalloc_range = Some("10.0.0.0/30".into());
        f.seed = (1..=5).map(|n| format!("::{n}")).collect();
    });
    assert_eq!(five, "--ipalloc-range 10.0.0.0/30 is too small for 5 seeds: each needs an address");
}

#[test]
fn electors_and_observers_come_from_either_flag() {
    let init = |c: LaunchConfig| c.launch.init;
    assert_eq!(init(from(|_| {}).expect("nothing")), Init::Undeclared);
    assert_eq!(init(from(|f| f.seed = vec!["::1".into()]).expect("seeds")), Init::Seeds);
    assert_eq!(init(from(|f| f.initial_peer_count = Some("3".into())).expect("a count")), Init::Election(3));
    assert_eq!(init(from(|f| f.ipalloc_init = Some("consensus=3".into())).expect("a count")), Init::Election(3));
    assert_eq!(init(from(|f| f.observer = true).expect("an observer")), Init::Observer);
    assert_eq!(init(from(|f| f.ipalloc_init = Some("observer".into())).expect("an observer")), Init::Observer);
    for count in ["0", "-1", "three", "1025", ""] {
        let sentence = refusal(|f| f.initial_peer_count = Some(count.to_owned()));
        assert!(sentence.contains("the number of electors"), "{sentence}");
    }
}

#[test]
fn names_ports_and_addresses() {
    assert!(refusal(|f| f.name = Some("host1".into())).contains("is not a peer name"));
    assert!(
        refusal(|f| f.peers = vec!["good".into(), "bad host".into()]).contains("\"bad host\" is not a peer address")
    );
    for port in ["0", "65535", "65536", "-1", "http"] {
        assert!(refusal(|f| f.port = Some(port.to_owned())).starts_with(&format!("port {port:?} cannot be used")));
    }
    for limit in ["1", "200", "1024"] {
        let config = from(|f| f.conn_limit = Some(limit.to_owned())).expect("settings");
        assert_eq!(config.launch.conn_limit.to_string(), limit);
    }
    for limit in ["0", "1025", "4294967296", "-1", "", "many", "1.5"] {
        let sentence = format!("--conn-limit {limit:?} cannot be used: write a number from 1 to 1024");
        assert_eq!(refusal(|f| f.conn_limit = Some(limit.to_owned())), sentence);
    }
    for seconds in [1, 60] {
        let config = from(|f| f.test_grace = Some(seconds.to_string())).expect("settings");
        assert_eq!(config.launch.test_grace, Some(Duration::from_secs(seconds)));
    }
    for seconds in ["0", "61", "-1", "", "2.5", "1h"] {
        let sentence = format!("--test-grace {seconds:?} cannot be used: write a number of seconds from 1 to 60");
        assert_eq!(refusal(|f| f.test_grace = Some(seconds.to_owned())), sentence);
    }
    for host in ["::1", "localhost", "10.0.0.256"] {
        assert_eq!(refusal(|f| f.host = Some(host.to_owned())), format!("--host {host:?} is not an IPv4 address"));
    }
    for nickname in ["", "two words", "a(b)", "line\nbreak", &"x".repeat(65)] {
        assert!(refusal(|f| f.nickname = Some(nickname.to_owned())).contains("--nickname"), "{nickname:?}");
    }
}

#[test]
fn secret_stays_out_of_what_is_printed() {
    let config = from(|f| f.password = Some("s3cret".into())).expect("settings");
    assert!(config.secret.is_some() && config.launch.secret == SecretKind::Password && config.warnings.len() == 1);
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn targets_of_one_command_are_bounded() {
    assert_eq!(targets(&vec!["h".to_owned(); 1024]).expect("targets").len(), 1024);
    assert!(targets(&vec!["h".to_owned(); 1025]).is_err());
}

#[test]
fn address_arguments() {
    let ip = Ipv4Addr::new(10, 32, 0, 5);
    for (text, request) in [
        ("10.32.0.5", AddrRequest::Fixed(ip, None)),
        ("ip:10.32.0.5", AddrRequest::Fixed(ip, None)),
        ("10.32.0.5/24", AddrRequest::Fixed(ip, Some(24))),
        ("ip:10.32.0.5/24", AddrRequest::Fixed(ip, Some(24))),
        ("net:10.32.1.0/24", AddrRequest::Subnet("10.32.1.0/24".parse().expect("a network"))),
        ("net:default", AddrRequest::Default),
    ] {
        assert_eq!(addr::attach(text), Ok(request));
    }
    for text in [
        "",
        "ip:",
        "net:",
        "net:10.32.0.5",
        "net:ip:10.0.0.0/8",
        "ip:net:default",
        "10.32.0",
        "10.0.0.1/33",
        "fd00::1",
        "c1",
    ] {
        assert_eq!(addr::attach(text), Err(addr::AddrError::Form(text.to_owned())));
    }
    let sentence = addr::attach("net:10.32.1.1/24").expect_err("a refusal").to_string();
    assert_eq!(
        sentence,
        "\"net:10.32.1.1/24\" is not a subnet: the address of a subnet of that length is 10.32.1.0/24"
    );

    assert_eq!(addr::detach("ip:10.32.0.5/24"), Ok(ip));
    for text in ["net:10.32.1.0/31", "net:10.32.1.5/32"] {
        let sentence = addr::attach(text).expect_err("a refusal").to_string();
        assert!(sentence.contains("too small a subnet") && sentence.contains("/30"), "{sentence}");
    }
    for text in ["net:default", "net:10.32.1.0/24"] {
        assert_eq!(addr::detach(text), Err(addr::AddrError::NotSingle(text.to_owned())));
    }
}
