//! Whole nodes, joined by sessions, whose kernels answer probes as a test says.

mod leave;
mod outside;
mod peers;
mod refused;
mod removal;

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use super::*;
use crate::proto::{
    command::{Command, Container, NameRequest},
    domain::Domain,
    fixture::{NOW, id, ip, key, name, uid},
    ids::{DialId, OpId, SessionId},
    io::{Direction, Egress, LinkOp, PathKind, ProbeReply},
    ipam::Ring,
    params::{Identity, SecretKind},
    reservation::{Netns, NetnsId, Place},
    target::Target,
    wire::entry::Verify,
};

/// Nodes 1 to N, by number; the node at place 0 is number 1.
struct Net {
    nodes: Vec<Node>,
    sessions: Vec<(SessionId, usize, usize)>,
    /// Pairs of nodes between which probes are answered, from the first to the second.
    answers: BTreeSet<(usize, usize)>,
    replies: Vec<(RequestId, Result<Answer, Refusal>)>,
    log: Vec<String>,
    /// Jobs on interfaces, and the node that asked.
    jobs: Vec<(usize, OpId, LinkOp)>,
    shutdown: Option<Shutdown>,
    now: Instant,
}

/// The container of the namespace that is called `id`.
fn container(id: &str) -> Container {
    let inode = id.bytes().map(u64::from).sum();
    let netns = Netns { path: format!("/run/netns/{id}"), id: NetnsId { inode, ..NetnsId::default() } };
    Container { owner: id.to_owned(), chosen: false, place: Place::Netns(netns), names: NameRequest::default() }
}

fn range() -> ipnet::Ipv4Net {
    "10.32.0.0/16".parse().expect("a range")
}

fn egress() -> Egress {
    Egress { ifindex: 2, next_hop: ip(254), source: ip(1), mtu: 1500 }
}

/// Node `n` of a network whose range the `owners` share, with this MTU of the default route's device.
fn node(n: u8, owners: &[u8], installed: &Installed, conn_limit: u32) -> Node {
    let ring = Ring::from_origin(range(), &owners.iter().map(|n| id(*n)).collect::<Vec<_>>()).expect("a ring");
    let params = LaunchParams {
        range: range(),
        default_subnet: range(),
        seeds: Vec::new(),
        init: Init::Undeclared,
        peers: Vec::new(),
    };
    let launch = Launch {
        name: None,
        nickname: format!("host-{n}"),
        dns_domain: Domain::default(),
        range: None,
        default_subnet: None,
        seeds: Vec::new(),
        init: Init::Undeclared,
        targets: Vec::new(),
        discovery: false,
        conn_limit,
        port: 6783,
        secret: SecretKind::None,
        test_grace: None,
    };
    let identity =
        Identity { name: name(n), uid: uid(n), nickname: launch.nickname.clone(), incarnation: 1, key: key(n, 0) };
    let boot = Boot {
        identity,
        params,
        // A target, so that the node waits for others.
        stored: Stored {
            targets: vec![Target { host: "nowhere.example".to_owned(), port: None }],
            ring: (!owners.is_empty()).then_some(ring),
            ..Stored::default()
        },
        records: Vec::new(),
    };
    let mut node = Node::new(boot, &launch, installed, [n; 32], Arc::new(Verify), NOW);
    node.handle_input(Input::Underlay(Underlay { addrs: vec![ip(n)], default_mtu: 1500, ..Underlay::default() }), NOW);
    node
}

impl Net {
    fn new(count: u8, owners: &[u8]) -> Self {
        let nodes = (1..=count).map(|n| node(n, owners, &Installed::default(), 200)).collect();
        let (sessions, answers) = (Vec::new(), BTreeSet::new());
        Self {
            nodes,
            sessions,
            answers,
            replies: Vec::new(),
            log: Vec::new(),
            jobs: Vec::new(),
            shutdown: None,
            now: NOW,
        }
    }

    fn at(&mut self, n: u8) -> &mut Node {
        &mut self.nodes[usize::from(n) - 1]
    }

    /// Opens a session from node `a` to node `b`, which sees it come from `seen`.
    fn connect_as(&mut self, a: u8, b: u8, seen: Ipv4Addr) -> SessionId {
        let session = SessionId(self.sessions.len() as u64);
        self.sessions.push((session, usize::from(a) - 1, usize::from(b) - 1));
        let (binding, now) = ([session.0 as u8; 32], self.now);
        let ends: [(u8, SocketAddr, Direction); 2] = [
            (a, (ip(b), 6783).into(), Direction::Outbound(DialId(u64::MAX))),
            (b, (seen, 40000).into(), Direction::Inbound),
        ];
        for (n, remote, direction) in ends {
            self.at(n).handle_input(Input::SessionOpened { session, remote, direction, binding }, now);
        }
        session
    }

    fn connect(&mut self, a: u8, b: u8) -> SessionId {
        self.connect_as(a, b, ip(a))
    }

    /// Ends a session, noticed by both.
    fn cut(&mut self, session: SessionId) {
        let (_, a, b) = self.sessions[session.0 as usize];
        for at in [a, b] {
            let gone = Input::SessionClosed(session, "reset".to_owned());
            self.nodes[at].handle_input(gone, self.now);
        }
    }

    /// The kernels of these answer each other's probes.
    fn answer(&mut self, pairs: &[(u8, u8)]) {
        for (a, b) in pairs.iter().map(|(a, b)| (usize::from(*a) - 1, usize::from(*b) - 1)) {
            self.answers.extend([(a, b), (b, a)]);
        }
    }

    /// Carries everything that is sent now.
    fn deliver(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for at in 0..self.nodes.len() {
                while let Some(output) = self.nodes[at].poll_output() {
                    busy = true;
                    self.effect(at, output);
                }
            }
        }
    }

    fn effect(&mut self, at: usize, output: Output) {
        let now = self.now;
        match output {
            Output::Send(session, bytes) => {
                let (_, a, b) = self.sessions[session.0 as usize];
                let to = if at == a { b } else { a };
                self.nodes[to].handle_input(Input::Frame(session, bytes), now);
            }
            Output::Close(session, reason) => {
                let (_, a, b) = self.sessions[session.0 as usize];
                for to in [a, b] {
                    self.nodes[to].handle_input(Input::SessionClosed(session, reason.clone()), now);
                }
            }
            Output::Watch(addr) => self.nodes[at].handle_input(Input::Egress(addr, Some(egress())), now),
            Output::Probes(probes) => {
                for probe in probes {
                    let [.., n] = probe.receiver.bytes();
                    let direct = *probe.to.ip() == ip(n);
                    if direct && self.answers.contains(&(at, usize::from(n) - 1)) {
                        let reply = ProbeReply {
                            peer: probe.receiver,
                            path_id: probe.path_id,
                            sent_at: probe.sent_at,
                            received_at: now,
                            size: u16::try_from(probe.size).expect("a packet"),
                            hops: 0,
                        };
                        self.nodes[at].handle_input(Input::ProbeReply(reply), now);
                    }
                }
            }
            Output::Reply(id, answer) => self.replies.push((id, answer)),
            Output::Event(_, text) => self.log.push(text),
            Output::Link(op, job) => self.jobs.push((at, op, job)),
            Output::Shutdown(how) => self.shutdown = Some(how),
            _ => {}
        }
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.deliver();
            let due = self.nodes.iter().filter_map(Node::poll_timeout).map(|(at, _)| at).min();
            let Some(at) = due.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            for node in &mut self.nodes {
                node.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    /// The node ends; its sessions do, too.
    fn kill(&mut self, n: u8) {
        let at = usize::from(n) - 1;
        let of_it = |(_, a, b): &&(SessionId, usize, usize)| *a == at || *b == at;
        for session in self.sessions.iter().filter(of_it).map(|(session, ..)| *session).collect::<Vec<_>>() {
            self.cut(session);
        }
        self.deliver();
    }

    fn ask(&mut self, n: u8, request: u64, command: Command) {
        let now = self.now;
        self.at(n).handle_input(Input::Request(RequestId(request), command), now);
    }

    fn remove(&mut self, n: u8, request: u64, peer: u8, force: bool) {
        self.ask(n, request, Command::RemovePeer { peer: name(peer).to_string(), force });
    }

    /// The only answer so far, as text.
    fn answered(&mut self) -> Option<Result<u64, String>> {
        self.deliver();
        assert!(self.replies.len() <= 1, "{:?}", self.replies);
        self.replies.pop().map(|(_, answer)| match answer {
            Ok(Answer::Removed { addresses, .. }) => Ok(addresses),
            Ok(other) => Err(format!("{other:?}")),
            Err(Refusal(why)) => Err(why),
        })
    }
}
