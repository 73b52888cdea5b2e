//! What arrives on the socket, and that a socket that is not there does no harm.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::Duration,
};

use super::{Notifier, STATUS_MAX, send};

/// All that has arrived.
fn received(socket: &UnixDatagram) -> Vec<String> {
    socket.set_nonblocking(true).expect("a mode");
    let mut all = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) => all.push(String::from_utf8(buffer[..len].to_vec()).expect("UTF-8")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

fn tell_all(notifier: &Notifier) {
    notifier.ready("all is well");
    notifier.stopping();
    notifier.failed("a reason\nREADY=1");
}

const ALL: [&str; 3] = ["READY=1\nSTATUS=all is well", "STOPPING=1\nSTATUS=stopping", "STATUS=a reason READY=1"];

#[test]
fn messages_arrive_on_a_path() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    tell_all(&Notifier::new(Some(&path)));
    assert_eq!(received(&socket), ALL);

    Notifier::new(Some(&path)).failed(&"long ".repeat(STATUS_MAX));
    assert_eq!(received(&socket)[0].len(), "STATUS=".len() + STATUS_MAX, "systemd drops what is longer than a page");
}

#[test]
fn messages_arrive_on_an_abstract_name() {
    let name = format!("weave-ctl-notify-{}", std::process::id());
    let addr = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&addr).expect("a socket");
    tell_all(&Notifier::new(Some(Path::new(&format!("@{name}")))));
    assert_eq!(received(&socket), ALL);
}

#[test]
fn without_a_receiver_nothing_is_sent_and_nothing_breaks() {
    let dir = tempfile::tempdir().expect("a directory");
    tell_all(&Notifier::new(None));
    for nobody in [dir.path().join("nobody"), "@".into(), "vsock:2:1234".into(), "relative".into()] {
        tell_all(&Notifier::new(Some(&nobody)));
    }
    assert_eq!(dir.path().read_dir().expect("the directory").count(), 0);
}

#[test]
fn a_receiver_that_does_not_read_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let full = UnixDatagram::bind(&path).expect("a socket");
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a mode");
    while filler.send_to(b"X", &path).is_ok() {}
    let gave_up = send(&path, "unheard", Duration::from_millis(1)).expect_err("a full queue");
    assert_eq!(gave_up.kind(), io::ErrorKind::WouldBlock);
    assert!(received(&full).iter().all(|message| message == "X"));
}
