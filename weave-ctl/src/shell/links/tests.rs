//! Links over loopback, among themselves and against peers that misbehave.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::{
    HANDSHAKES_MAX, HANDSHAKES_PER_HOST, Links, LinksConfig, LinksError, QUEUE_BYTES,
    frames::{Assembler, FrameError, seal},
    handshake::{HandshakeError, Key, Role, shake},
};
use crate::{
    config::secret::Secret,
    proto::{
        boot::DEFAULT_RANGE,
        io::{ChannelBinding, DialId, Direction, FRAME_MAX, Input, SessionId, Target},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(10);

/// A controller's links, and what they tell.
struct Peer {
    links: Links,
    inputs: mpsc::Receiver<Input>,
}

impl Peer {
    async fn new(secret: Option<Secret>) -> Self {
        Self::with(secret, LONG, 1024).await
    }

    async fn with(secret: Option<Secret>, handshake_time: Duration, queue: usize) -> Self {
        let (sender, inputs) = mpsc::channel(queue);
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let config = LinksConfig { listen, secret, range: DEFAULT_RANGE, control_port: 1 };
        Self { links: Links::start_with(config, sender, handshake_time).await.unwrap(), inputs }
    }

    fn target(&self) -> Target {
        Target { host: "127.0.0.1".to_owned(), port: Some(self.links.local_port()) }
    }

    fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.links.local_port()))
    }

    async fn next(&mut self) -> Input {
        timeout(PATIENCE, self.inputs.recv()).await.unwrap().unwrap()
    }

    async fn opened(&mut self) -> (SessionId, Direction) {
        match self.next().await {
            Input::SessionOpened { session: link, direction, .. } => (link, direction),
            other => panic!("{other:?}"),
        }
    }

    async fn binding(&mut self) -> ChannelBinding {
        match self.next().await {
            Input::SessionOpened { binding, .. } => binding,
            other => panic!("{other:?}"),
        }
    }

    async fn frame(&mut self) -> Vec<u8> {
        match self.next().await {
            Input::Frame(_, bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    async fn closed(&mut self) -> String {
        match self.next().await {
            Input::SessionClosed(_, reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    async fn dial_failed(&mut self) -> String {
        match self.next().await {
            Input::DialFailed(_, reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is told for a while.
    async fn silent(&mut self) {
        let told = timeout(Duration::from_millis(100), self.inputs.recv()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

fn password(text: &str) -> Option<Secret> {
    Some(Secret::password(text).unwrap())
}

fn key(byte: u8) -> Option<Secret> {
    Some(Secret::Key([byte; 32].into()))
}

fn none() -> Key {
    Key::derive(None, DEFAULT_RANGE).unwrap()
}

/// Two peers with a link, dialled by the first.
async fn pair() -> (Peer, SessionId, Peer, SessionId) {
    let (mut a, mut b) = (Peer::new(key(7)).await, Peer::new(key(7)).await);
    a.links.dial(DialId(7), b.target());
    let (from_a, direction) = a.opened().await;
    assert_eq!(direction, Direction::Outbound(DialId(7)));
    let (from_b, direction) = b.opened().await;
    assert_eq!(direction, Direction::Inbound);
    (a, from_a, b, from_b)
}

/// A connection to `peer` from `source` that has said nothing yet.
async fn connect(peer: &Peer, source: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    socket.connect(peer.addr()).await.unwrap()
}

/// A peer made by hand: connected and past its handshake.
async fn by_hand(peer: &mut Peer) -> (TcpStream, snow::StatelessTransportState, SessionId) {
    let mut stream = connect(peer, Ipv4Addr::LOCALHOST).await;
    let session = shake(&mut stream, &none(), Role::Initiator).await.unwrap();
    let (link, _) = peer.opened().await;
    (stream, session.cipher, link)
}

/// Reads until the other side closes.
async fn read_to_end(stream: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    match timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap() {
        Ok(_) => bytes.len(),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            bytes.len()
        }
    }
}

#[tokio::test]
async fn frames_of_every_size_arrive_in_order_both_ways() {
    let (mut a, from_a, mut b, from_b) = pair().await;
    let sizes = [0, 1, 100, 65_514, 65_515, 65_516, 65_519, 65_520, 131_038, FRAME_MAX - 1, FRAME_MAX, 5];
    let frames: Vec<Vec<u8>> =
        sizes.iter().enumerate().map(|(i, size)| (0..*size).map(|k| (k * 7 + i) as u8).collect()).collect();
    for frame in &frames {
        a.links.send(from_a, frame.clone());
        b.links.send(from_b, frame.clone());
    }
    for frame in &frames {
        assert!(b.frame().await == *frame, "{}", frame.len());
        assert!(a.frame().await == *frame, "{}", frame.len());
    }
}

#[tokio::test]
async fn both_ends_of_a_connection_are_bound_to_it_alone() {
    let mut seen = BTreeSet::from([ChannelBinding::default()]);
    for secret in [None, password("s3cret"), key(7)] {
        let (mut a, mut b) = (Peer::new(secret.clone()).await, Peer::new(secret).await);
        for dial in 0..3 {
            // Either side may dial.
            let (from, to) = if dial == 2 { (&mut b, &mut a) } else { (&mut a, &mut b) };
            from.links.dial(DialId(dial), to.target());
            let binding = from.binding().await;
            assert_eq!(binding, to.binding().await);
            assert!(seen.insert(binding), "{binding:?} is zero, or of another connection too");
        }
    }
}

#[tokio::test]
async fn a_close_follows_what_was_sent_and_is_told_once_on_each_side() {
    let (mut a, from_a, mut b, from_b) = pair().await;
    // The other side's own words are still on their way, and unread.
    for _ in 0..4 {
        b.links.send(from_b, vec![9; 100_000]);
        a.links.send(from_a, vec![1; FRAME_MAX]);
    }
    a.links.close(from_a, "two links to one peer");
    a.links.close(from_a, "again");
    a.links.send(from_a, vec![2]);
    for _ in 0..4 {
        assert_eq!(b.frame().await.len(), FRAME_MAX);
    }
    assert_eq!(b.closed().await, "the peer closed the link");
    let told = loop {
        match a.next().await {
            Input::Frame(..) => {}
            Input::SessionClosed(link, reason) => break (link, reason),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told, (from_a, "two links to one peer".to_owned()));
    a.silent().await;
    b.silent().await;
    b.links.send(from_b, vec![3]);
    b.links.close(from_b, "late");
    b.silent().await;
}

#[tokio::test]
async fn stopping_ends_the_links_of_the_other_side() {
    let (a, _, mut b, _) = pair().await;
    let port = a.links.local_port();
    drop(a);
    assert_eq!(b.closed().await, "the peer closed the link");
    let gone = async { while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {} };
    timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn a_different_password_is_named_to_the_one_who_dials() {
    let (mut a, mut b) = (Peer::new(password("one")).await, Peer::new(password("two")).await);
    a.links.dial(DialId(1), b.target());
    let reason = a.dial_failed().await;
    assert_eq!(reason, format!("{}: {}", b.addr(), HandshakeError::Password(DEFAULT_RANGE)));
    b.silent().await;
    // The side that does not dial has nothing but this.
    let warning = format!("refused a connection from 127.0.0.1: {}", HandshakeError::Password(DEFAULT_RANGE));
    assert_eq!((a.links.warning(), b.links.warning()), (None, Some(warning)));

    let mut open = Peer::new(None).await;
    open.links.dial(DialId(2), b.target());
    assert!(open.dial_failed().await.contains("the peer has a password, this one has neither password nor key"));
    b.links.dial(DialId(3), open.target());
    assert!(b.dial_failed().await.contains("the peer has neither password nor key, this one has a password"));
    open.silent().await;
    assert!(open.links.warning().is_some_and(|warning| warning.contains("this one has neither password nor key")));
    // It is well again once a peer of that host is let in; a stranger shows nothing.
    let mut friend = Peer::new(None).await;
    friend.links.dial(DialId(4), open.target());
    open.opened().await;
    assert_eq!((open.links.warning(), friend.links.warning()), (None, None));
    friend.opened().await;
    connect(&open, Ipv4Addr::LOCALHOST).await.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    open.silent().await;
    assert_eq!(open.links.warning(), None);
}

#[tokio::test]
async fn garbage_is_refused_and_others_are_served() {
    let mut peer = Peer::new(None).await;
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    for bytes in [request, vec![0xff; 100_000], b"weave".to_vec()] {
        let mut stream = connect(&peer, Ipv4Addr::LOCALHOST).await;
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(read_to_end(&mut stream).await <= 11);
    }
    peer.silent().await;
    by_hand(&mut peer).await;
}

#[tokio::test]
async fn a_host_that_is_no_peer_is_named() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();
    let target = Target { host: "localhost".to_owned(), port: Some(addr.port()) };
    let mut peer = Peer::with(None, Duration::from_millis(200), 16).await;

    peer.links.dial(DialId(1), target.clone());
    let (mut stream, _) = server.accept().await.unwrap();
    stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    assert!(peer.dial_failed().await.starts_with(&format!("{addr}: it does not speak weave-ctl's protocol")));

    // Says nothing at all.
    peer.links.dial(DialId(2), target.clone());
    let silent = server.accept().await.unwrap();
    let reason = peer.dial_failed().await;
    assert!(reason.contains("did not finish the handshake within 200ms"), "{reason}");
    drop(silent);

    drop(server);
    peer.links.dial(DialId(3), target);
    assert_eq!(peer.dial_failed().await, format!("cannot connect to {addr}: connection refused"));
}

#[tokio::test]
async fn silent_connections_end_and_keep_nobody_out() {
    let mut peer = Peer::with(None, Duration::from_millis(1000), 16).await;
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_PER_HOST {
        let mut stream = connect(&peer, Ipv4Addr::new(127, 0, 0, 9)).await;
        stream.write_all(b"weave-").await.unwrap();
        silent.push(stream);
    }
    // One more of that host is cut off at once, while another host is served.
    let mut more = connect(&peer, Ipv4Addr::new(127, 0, 0, 9)).await;
    assert_eq!(read_to_end(&mut more).await, 0);
    let _link = by_hand(&mut peer).await;
    for mut stream in silent {
        read_to_end(&mut stream).await;
    }
    by_hand(&mut peer).await;
}

#[tokio::test]
async fn when_every_place_is_taken_a_peer_waits_and_is_served() {
    let mut peer = Peer::with(None, Duration::from_millis(500), 16).await;
    let mut silent = Vec::new();
    for i in 0..HANDSHAKES_MAX {
        let host = Ipv4Addr::new(127, 0, 1, (i / HANDSHAKES_PER_HOST) as u8);
        silent.push(connect(&peer, host).await);
    }
    by_hand(&mut peer).await;
}

#[tokio::test]
async fn an_oversized_frame_closes_the_link_before_it_arrives() {
    let mut peer = Peer::new(None).await;
    for length in [FRAME_MAX + 1, u32::MAX as usize] {
        let (mut stream, session, _) = by_hand(&mut peer).await;
        let header = (length as u32).to_be_bytes();
        stream.write_all(&seal(&session, 0, &header).unwrap()).await.unwrap();
        assert_eq!(peer.closed().await, FrameError::Oversized(length).to_string());
        read_to_end(&mut stream).await;
    }
}

#[tokio::test]
async fn what_does_not_decrypt_closes_the_link() {
    let mut peer = Peer::new(None).await;
    type Make = fn(&snow::StatelessTransportState) -> Vec<u8>;
    let messages: [Make; 4] = [
        |_| [[0, 40].as_slice(), &[7; 40]].concat(),
        |_| [[0, 3].as_slice(), &[7; 3]].concat(),
        |session| seal(session, 0, &[]).unwrap(),
        // The right message at the wrong place.
        |session| seal(session, 1, &[0, 0, 0, 0]).unwrap(),
    ];
    for message in messages {
        let (mut stream, session, _) = by_hand(&mut peer).await;
        stream.write_all(&message(&session)).await.unwrap();
        let reason = peer.closed().await;
        assert!(reason.contains("does not decrypt") || reason.contains("empty message"), "{reason}");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off() {
    let mut peer = Peer::new(None).await;
    let (stream, _, link) = by_hand(&mut peer).await;
    let mut sent = 0;
    let reason = loop {
        peer.links.send(link, vec![0; FRAME_MAX]);
        sent += FRAME_MAX;
        match timeout(Duration::from_millis(5), peer.inputs.recv()).await {
            Ok(Some(Input::SessionClosed(_, reason))) => break reason,
            Ok(other) => panic!("{other:?}"),
            Err(_) => assert!(sent < QUEUE_BYTES + (64 << 20), "never full"),
        }
    };
    assert!(reason.contains("too much waits"), "{reason}");
    peer.silent().await;
    drop(stream);

    // Closing such a link takes no longer than it may.
    let (_stream, _, link) = by_hand(&mut peer).await;
    for _ in 0..QUEUE_BYTES / FRAME_MAX {
        peer.links.send(link, vec![0; FRAME_MAX]);
    }
    peer.links.close(link, "enough");
    assert_eq!(peer.closed().await, "enough");

    let (_stream, _, link) = by_hand(&mut peer).await;
    peer.links.send(link, vec![0; FRAME_MAX + 1]);
    assert!(peer.closed().await.contains("more than the 1048576 allowed"));
}

#[tokio::test]
async fn large_frames_wait_while_the_driver_is_behind() {
    let mut peer = Peer::with(None, LONG, 16).await;
    let (mut stream, session, _) = by_hand(&mut peer).await;
    let body = vec![0; 60_000];
    let frame = [(body.len() as u32).to_be_bytes().as_slice(), &body].concat();
    for nonce in 0..20 {
        stream.write_all(&seal(&session, nonce, &frame).unwrap()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(peer.inputs.len(), 2);
    for _ in 0..20 {
        assert_eq!(peer.frame().await.len(), body.len());
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = Peer::new(None).await;
    let (sender, _inputs) = mpsc::channel(1);
    let port = first.links.local_port();
    let config = LinksConfig {
        listen: SocketAddr::from(([0; 4], port)),
        secret: None,
        range: DEFAULT_RANGE,
        control_port: port,
    };
    let error = Links::start(config, sender).await.err().unwrap();
    assert!(matches!(error, LinksError::PortInUse { port: p } if p == port), "{error}");
    assert!(error.to_string().contains(&port.to_string()) && error.to_string().contains("--port"), "{error}");
}

#[tokio::test]
async fn a_target_without_a_port_has_this_controllers_own() {
    let (sender, mut inputs) = mpsc::channel(4);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control_port = server.local_addr().unwrap().port();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let links =
        Links::start(LinksConfig { listen, secret: None, range: DEFAULT_RANGE, control_port }, sender).await.unwrap();
    links.dial(DialId(1), Target { host: "127.0.0.1".to_owned(), port: None });
    drop(timeout(PATIENCE, server.accept()).await.unwrap().unwrap());
    let told = timeout(PATIENCE, inputs.recv()).await.unwrap();
    assert!(matches!(told, Some(Input::DialFailed(DialId(1), _))), "{told:?}");
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let mut bytes = Vec::new();
        for frame in &frames {
            bytes.extend((frame.len() as u32).to_be_bytes());
            bytes.extend(frame);
        }
        let (mut assembler, mut out, mut cuts) = (Assembler::default(), Vec::new(), cuts.iter().cycle());
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (mut now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            while !now.is_empty() {
                out.extend(assembler.take(&mut now).unwrap());
            }
            rest = later;
        }
        prop_assert_eq!(out, frames);
    }

    #[test]
    fn no_bytes_make_the_assembler_fail_otherwise(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut assembler = Assembler::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let before = rest.len();
            match assembler.take(&mut rest) {
                Ok(_) => prop_assert!(rest.len() < before),
                Err(error) => {
                    let is_oversized = matches!(error, FrameError::Oversized(length) if length > FRAME_MAX);
                    prop_assert!(is_oversized);
                    break;
                }
            }
        }
    }
}
