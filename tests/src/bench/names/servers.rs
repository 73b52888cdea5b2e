//! The servers that others run, with the same names.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dnsmasq,
    Unbound,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Dnsmasq, Self::Unbound];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Dnsmasq => "dnsmasq",
            Self::Unbound => "unbound",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Dnsmasq => 5301,
            Self::Unbound => 5302,
        }
    }
}

/// A server in a container; ended when dropped.
pub(super) struct Server {
    kind: Kind,
    address: Ipv4Addr,
    child: Child,
    _folder: TempDir,
}

impl Server {
    pub(super) fn start(kind: Kind, netns: &str, address: Ipv4Addr, names: &[(String, Ipv4Addr)]) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for a server")?;
        let file = folder.path().join("names");
        let text = match kind {
            Kind::Dnsmasq => names.iter().map(|(name, addr)| format!("{addr} {name}\n")).collect(),
            Kind::Unbound => unbound(address, names),
        };
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        let (file, port) = (file.to_string_lossy(), kind.port().to_string());
        let hosts = format!("--addn-hosts={file}");
        let listen = format!("--listen-address={address}");
        let words: Vec<&str> = match kind {
            Kind::Dnsmasq => vec![
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--pid-file",
                "--user=root",
                "--no-resolv",
                "--no-hosts",
                "--bind-interfaces",
                "--local=/weave.local/",
                "--local-ttl=1",
                &hosts,
                &listen,
                "--port",
                &port,
            ],
            Kind::Unbound => vec!["unbound", "-d", "-c", &file],
        };
        // nsenter becomes the server, so the child's number is the server's.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{netns}")).args(words);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot run {}", kind.name()))?;
        Ok(Self { kind, address, child, _folder: folder })
    }

    pub(super) fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.kind.port())
    }

    pub(super) fn pid(&self) -> Result<i32> {
        i32::try_from(self.child.id()).context("the number of a process")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// unbound's settings, with one thread as the others have.
fn unbound(address: Ipv4Addr, names: &[(String, Ipv4Addr)]) -> String {
    let mut text = format!(
        "server:\n interface: {address}@{}\n access-control: 0.0.0.0/0 allow\n do-daemonize: no\n username: \"\"\n \
         chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n local-zone: \"weave.local.\" static\n",
        Kind::Unbound.port()
    );
    for (name, addr) in names {
        text += &format!(" local-data: \"{name}. 1 A {addr}\"\n");
    }
    text
}
