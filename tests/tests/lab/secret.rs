//! Networks with a shared secret: who gets in, what others see of it, and what the operator is told.

use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, path::Path};

use weave_tests::lab::{Host, Lab, Plan, SETTLED, eventually, host::ping, underlay};

const HEX: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/// Another key, in the other form.
const RAW: [u8; 32] = *b"\x00\x01\x02 raw bytes of another key...\xff";

fn put(path: &Path, content: &[u8], mode: u32) -> String {
    fs::write(path, content).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    path.display().to_string()
}

/// What every user may read of the host's controller, and what root may.
fn shown(host: &Host) -> String {
    let pid = host.pid().expect("a controller");
    let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).expect("a running controller");
    String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned()
}

fn all_ping(all: &[(String, Ipv4Addr)]) {
    for (from, _) in all {
        for (to, address) in all.iter().filter(|(to, _)| to != from) {
            assert!(eventually(SETTLED, || ping(from, *address, 1)), "{from} to {to} ({address})");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_network_with_a_key_keeps_it_and_others_outside() {
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str| files.path().join(name);
    let hex = put(&file("hex"), format!("{HEX}\n").as_bytes(), 0o600);
    let raw = put(&file("raw"), &RAW, 0o600);
    let lab = Lab::new(Plan::of("lskey", 3).containers(1)).expect("a Lab");
    let targets: Vec<String> = [1, 2].map(|n| underlay(n).to_string()).into();
    let key = ["--key-file", &hex, &targets[0], &targets[1]];
    for n in [1, 2] {
        let said = lab.launch(n, &key).expect("launch");
        assert!(!said.contains("Warning"), "{said}");
    }
    for n in [1, 2] {
        assert!(eventually(SETTLED, || lab.host(n).established() == 1), "{}", lab.host(n).connections_text());
        let (shown, log) = (shown(lab.host(n)), lab.host(n).log_tail(1000));
        for secret in [HEX, &HEX[..16], &hex] {
            assert!(!shown.contains(secret) && !log.contains(secret), "{secret} shows: {shown} {log}");
        }
        lab.host(n).attach(&lab.host(n).container(1)).expect("attach");
    }
    let containers: Vec<(String, Ipv4Addr)> = [1, 2]
        .map(|n| (lab.host(n).container(1), lab.host(n).address(&lab.host(n).container(1)).expect("an address")))
        .into();
    all_ping(&containers);

    // Another key, a password and nothing at all: refused, and both sides say why.
    let three = lab.host(3);
    let cases: [(&[&str], &[&str]); 3] = [
        (&["--key-file", &raw], &["the peer's key differs from this one's", "same --key-file"]),
        (&["--password", HEX], &["the peer has a key, this one has a password", "--password-file"]),
        (&[], &["the peer has a key, this one has neither password nor key", "--key-file"]),
    ];
    for (secret, words) in cases {
        lab.launch(3, &[secret, &[targets[0].as_str()]].concat()).expect("launch");
        let says = |text: &str| words.iter().all(|word| text.contains(word));
        assert!(eventually(SETTLED, || says(&three.connections_text())), "{}", three.connections_text());
        assert!(eventually(SETTLED, || says(&three.log_tail(50))), "{}", three.log_tail(50));
        let refused = "refused a connection from 192.168.77.3";
        assert!(eventually(SETTLED, || lab.host(1).log_tail(50).contains(refused)));
        let status = lab.host(1).weave(&["status"]).expect("status");
        assert!(status.contains(&format!("Warning: {refused}")), "{status}");
        assert_eq!((three.established(), lab.host(1).established()), (0, 1));
        three.weave(&["reset", "--force"]).expect("reset");
    }
    // The same key in a file of the other form, and a relaunch with it.
    let bytes: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&HEX[2 * at..2 * at + 2], 16).expect("hex")).collect();
    let same = put(&file("same"), &bytes, 0o600);
    lab.launch(3, &["--key-file", &same, &targets[0]]).expect("launch");
    assert!(eventually(SETTLED, || three.established() >= 1), "{}", three.connections_text());
    three.weave(&["stop"]).expect("stop");
    three.weave(&["launch", "--key-file", &same]).expect("launch");
    assert!(eventually(SETTLED, || three.established() >= 1), "{}", three.connections_text());
}

#[test]
#[ignore = "needs root"]
fn another_range_is_named_beside_the_password() {
    let lab = Lab::new(Plan::of("lsrange", 2)).expect("a Lab");
    let one = underlay(1).to_string();
    lab.host(1).launch(&["--password", "same"]).expect("launch");
    lab.host(2).launch(&["--password", "same", "--ipalloc-range", "10.99.0.0/16", &one]).expect("launch");
    let words = ["the peer's password differs from this one's, or its range from 10.99.0.0/16", "--ipalloc-range"];
    let says = |text: &str, words: &[&str]| words.iter().all(|word| text.contains(word));
    let two = lab.host(2);
    assert!(eventually(SETTLED, || says(&two.connections_text(), &words)), "{}", two.connections_text());
    assert!(eventually(SETTLED, || says(&two.log_tail(50), &words)), "{}", two.log_tail(50));
    let words = ["refused a connection from 192.168.77.2", "or its range from 10.32.0.0/12"];
    assert!(eventually(SETTLED, || says(&lab.host(1).log_tail(50), &words)), "{}", lab.host(1).log_tail(50));
    let status = lab.host(1).weave(&["status"]).expect("status");
    assert!(says(&status, &words), "{status}");
    assert_eq!([lab.host(1).established(), two.established()], [0, 0]);
}

#[test]
#[ignore = "needs root"]
fn launch_warns_of_what_others_can_see_or_do() {
    let files = tempfile::tempdir().expect("a directory");
    let open = put(&files.path().join("open"), HEX.as_bytes(), 0o644);
    let lab = Lab::new(Plan::of("lswarn", 1)).expect("a Lab");
    let host = lab.host(1);
    let cases: [(&[&str], &[&str]); 3] = [
        (&["--password", "on the line"], &["list of processes", "--password-file", "--key-file"]),
        (&["--key-file", &open], &["may read or change the key", "chmod 600"]),
        (&[], &["neither password nor key", "can join the network"]),
    ];
    for (secret, words) in cases {
        let said = host.launch(secret).expect("launch");
        let warnings: Vec<&str> = said.lines().filter(|line| line.starts_with("Warning: ")).collect();
        assert!(warnings.len() == 1 && words.iter().all(|word| warnings[0].contains(word)), "{said}");
        assert!(!shown(host).contains("on the line"), "{}", shown(host));
        // Said once, not at each look.
        assert!(!host.weave(&["status"]).expect("status").contains(words[0]));
        host.weave(&["stop"]).expect("stop");
    }
    assert!(host.log_tail(1000).contains("neither password nor key"));
    let refused = host.refused(&["launch", "--key-file", "/dev/null"], 2).expect("refused");
    assert!(refused.contains("openssl rand -hex 32"), "{refused}");
}
