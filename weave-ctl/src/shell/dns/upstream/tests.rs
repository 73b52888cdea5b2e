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
    let own = Own::new(["10.0.0.9:53".parse().unwrap()]);
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

/// A server on another port of the same address does not lead back.
#[test]
fn servers_that_lead_back_are_told_by_address_and_port() {
    let leads_back = |own: &str, server: &str| Own::new([own.parse().unwrap()]).has(server.parse().unwrap());
    for (own, server, back) in [
        ("127.0.0.1:53", "127.0.0.1:53", true),
        ("127.0.0.1:53", "0.0.0.0:53", true),
        ("127.0.0.1:53", "127.0.0.1:5353", false),
        ("127.0.0.1:53", "127.0.0.53:53", false),
        ("[::1]:53", "[::]:53", true),
    ] {
        assert_eq!(leads_back(own, server), back, "{server} where {own} is answered");
    }
}

#[test]
fn devices_of_link_local_servers_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    fs::write(&path, "nameserver fe80::1%lo\nnameserver fe80::2%7\nnameserver fe80::3%none\n").unwrap();
    let servers = ResolvConf::new(&path, Own::new([])).changed().unwrap();
    let scope = |server: &SocketAddr| match server {
        SocketAddr::V6(server) => server.scope_id(),
        SocketAddr::V4(_) => panic!("{server}"),
    };
    // The loopback device is the first of every namespace.
    assert_eq!(servers.iter().map(scope).collect::<Vec<_>>(), [1, 7, 0]);
}
