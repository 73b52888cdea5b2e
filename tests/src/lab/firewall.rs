//! Firewalls inside a host's namespace, as administrators and distributions set them.
//!
//! Each is what a real host has: a chain of nftables, or rules of iptables. All rules are gone with the namespace.
//!
//! Does not: filter between hosts: that is [`super::faults`] and [`super::router`].

use std::{fs, net::Ipv4Addr, net::SocketAddrV4, net::TcpListener, net::TcpStream, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Host, cmd::run, traffic::within, underlay};

/// What a filtered connection attempt is given.
const REFUSED_WITHIN: Duration = Duration::from_millis(500);

/// See the head of this file. "The two ports" are TCP 6783 and UDP 6784.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// nftables, input: drops all but answers, ICMP and the two ports.
    TwoPorts,
    /// As [`Self::TwoPorts`], but what is not allowed is refused by a message.
    Reject,
    /// As [`Self::TwoPorts`], with the two ports outside connection tracking.
    NoTrack,
    /// Legacy iptables, `-P INPUT DROP`; answers and the two ports are accepted.
    Iptables,
    /// Legacy iptables, `-P INPUT DROP`; answers and TCP 6783 are accepted, UDP 6784 is closed.
    ControlOnly,
    /// Legacy iptables, `-P FORWARD DROP` on a host that forwards, as Docker sets it.
    Forward,
    /// Legacy iptables, `-P OUTPUT DROP`; only the two ports may be sent to, and answered from.
    Output,
    /// nftables, input: drops all but answers to what the host sent.
    Answers,
}

impl Firewall {
    /// Lines of chains for nft; nothing for those of iptables.
    fn chains(self) -> Option<&'static str> {
        Some(match self {
            Self::TwoPorts => {
                "chain in { type filter hook input priority 0; policy drop; ct state established,related accept;
                 iif lo accept; ip protocol icmp accept; tcp dport 6783 accept; udp dport 6784 accept; }"
            }
            Self::Reject => {
                "chain in { type filter hook input priority 0; policy accept; ct state established,related accept;
                 iif lo accept; ip protocol icmp accept; tcp dport 6783 accept; udp dport 6784 accept;
                 meta l4proto tcp reject with tcp reset; reject with icmpx type admin-prohibited; }"
            }
            Self::NoTrack => {
                "chain early { type filter hook prerouting priority -300; tcp dport 6783 notrack; tcp sport 6783 notrack;
                 udp dport 6784 notrack; udp sport 6784 notrack; }
                 chain sent { type filter hook output priority -300; tcp dport 6783 notrack; tcp sport 6783 notrack;
                 udp dport 6784 notrack; udp sport 6784 notrack; }
                 chain in { type filter hook input priority 0; policy drop; ct state established,related accept;
                 iif lo accept; ip protocol icmp accept; tcp dport 6783 accept; tcp sport 6783 accept;
                 udp dport 6784 accept; }"
            }
            Self::Answers => {
                "chain in { type filter hook input priority 0; policy drop; ct state established,related accept;
                 iif lo accept; }"
            }
            Self::Iptables | Self::ControlOnly | Self::Forward | Self::Output => return None,
        })
    }

    /// Rules of iptables, each the words after `iptables`.
    fn rules(self) -> &'static [&'static str] {
        const ANSWERS: &str = "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT";
        const CONTROL: &str = "-A INPUT -p tcp --dport 6783 -j ACCEPT";
        match self {
            Self::Iptables => &[
                "-P INPUT DROP",
                "-A INPUT -i lo -j ACCEPT",
                ANSWERS,
                CONTROL,
                "-A INPUT -p udp --dport 6784 -j ACCEPT",
            ],
            Self::ControlOnly => &["-P INPUT DROP", "-A INPUT -i lo -j ACCEPT", ANSWERS, CONTROL],
            Self::Forward => &["-P FORWARD DROP"],
            Self::Output => &[
                "-P OUTPUT DROP",
                "-A OUTPUT -o lo -j ACCEPT",
                "-A OUTPUT -p tcp --dport 6783 -j ACCEPT",
                "-A OUTPUT -p tcp --sport 6783 -j ACCEPT",
                "-A OUTPUT -p udp --dport 6784 -j ACCEPT",
            ],
            Self::TwoPorts | Self::Reject | Self::NoTrack | Self::Answers => &[],
        }
    }
}

impl Host {
    /// Puts this firewall on the host.
    ///
    /// # Errors
    /// When nft or iptables refuses.
    pub fn set_firewall(&self, firewall: Firewall) -> Result<()> {
        let net = format!("--net=/run/netns/{}", self.netns());
        if let Some(chains) = firewall.chains() {
            let file = self.run_dir().with_file_name("firewall.nft");
            fs::create_dir_all(self.run_dir()).context("make the host's directory")?;
            fs::write(&file, format!("table inet lab_firewall {{\n{chains}\n}}\n")).context("write the firewall")?;
            run(&["nsenter", &net, "nft", "-f", &file.to_string_lossy()])?;
        }
        for rule in firewall.rules() {
            let words: Vec<&str> = rule.split(' ').collect();
            run(&[&["nsenter", &net, "iptables-legacy", "-w", "20"], &words[..]].concat())?;
        }
        if firewall == Firewall::Forward {
            within(self.netns(), || fs::write("/proc/sys/net/ipv4/ip_forward", "1")).context("let the host forward")?;
        }
        Ok(())
    }

    /// Another port of this host than the network's cannot be reached from host `other`: its firewall is in force.
    ///
    /// # Errors
    /// When it can be reached.
    pub fn is_closed_to(&self, other: &Self) -> Result<()> {
        let listener = within(self.netns(), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let at = SocketAddrV4::new(underlay(self.number()), listener.local_addr()?.port());
        let reached = within(other.netns(), || Ok(TcpStream::connect_timeout(&at.into(), REFUSED_WITHIN).is_ok()))?;
        ensure!(!reached, "{at} can be reached from {}: the firewall is not in force", other.netns());
        Ok(())
    }
}
