//! A controller in the foreground reports to the socket that the environment names, in the order in which things happen.

use std::{os::unix::net::UnixDatagram, path::Path};

use super::{Moments, notify::Notifier, run_notifying};
use crate::{
    cli::Engine,
    config::{self, Dirs, LaunchConfig, env::Env, flags},
};

/// An engine that starts, is told to stop, and ends so.
struct Ends(Result<(), String>);

impl Engine for Ends {
    fn run(&self, _: LaunchConfig, moments: Moments) -> Result<(), String> {
        (moments.ready)();
        if self.0.is_ok() {
            (moments.stopping)();
        }
        self.0.clone()
    }

    fn wipe(&self, _: &Dirs) -> Result<Vec<String>, String> {
        Err("not asked for".to_owned())
    }

    fn teardown(&self, _: &Dirs) -> Result<Vec<String>, String> {
        Err("not asked for".to_owned())
    }
}

fn told(ends: Result<(), String>, socket: &Path) -> Vec<String> {
    let receiver = UnixDatagram::bind(socket).expect("a socket");
    let env = Env { notify_socket: Some(socket.to_owned()), ..Env::default() };
    let dirs = config::dirs(&flags::DirFlags::default(), &env).expect("the defaults");
    let config = config::launch(&flags::LaunchFlags::default(), dirs, &env).expect("the defaults");
    let notifier = Notifier::new(env.notify_socket.as_deref());
    assert_eq!(run_notifying(&Ends(ends.clone()), config, &notifier).is_ok(), ends.is_ok());
    let mut buffer = [0; 256];
    let mut next = || {
        let len = receiver.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..len].to_vec()).expect("UTF-8")
    };
    vec![next(), next()]
}

#[test]
fn systemd_hears_when_a_controller_is_ready_and_how_it_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let ready = "READY=1\nSTATUS=control on TCP 6783, packets on UDP 6784";
    assert_eq!(told(Ok(()), &dir.path().join("well")), [ready, "STOPPING=1\nSTATUS=stopping"]);
    assert_eq!(told(Err("the disk is full".into()), &dir.path().join("ill")), [ready, "STATUS=the disk is full"]);
}
