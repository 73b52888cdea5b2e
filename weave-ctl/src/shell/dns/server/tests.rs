//! Sockets, and who may ask on them.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::Query,
    rr::{Name, RecordType},
};

use tokio::net::UdpSocket;

use super::*;

fn question(text: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(text).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn shared() -> Arc<Shared> {
    let table = Arc::new(NameTable::default());
    let many: Vec<Ipv4Addr> = (1..=50).map(|n| Ipv4Addr::from(0x0a20_0000 + n)).collect();
    table.put("web.weave.local", &many);
    let zone = Zone { domain: "weave.local".to_owned(), ttl: 1, range: "10.32.0.0/12".parse().unwrap() };
    Arc::new(Shared::new(table, zone, Arc::new(Forwarder::default())))
}

async fn over_tcp(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Message> {
    stream.write_all(&[&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Message::from_vec(&answer).map_err(io::Error::other)
}

#[tokio::test]
async fn both_transports_answer() {
    let shared = shared();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let server = Datagrams::start(Arc::clone(&shared), socket, Scope::Containers).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp_at = listener.local_addr().unwrap();
    tokio::spawn(tcp(Arc::clone(&shared), listener, Scope::Containers));

    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 2048];
    for garbage in [&b""[..], b"x", &[0xff; 700]] {
        client.send_to(garbage, at).await.unwrap();
    }
    client.send_to(&question("web.weave.local."), at).await.unwrap();
    let answer = loop {
        let (length, _) = timeout(IDLE, client.recv_from(&mut buffer)).await.unwrap().unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        if !answer.queries.is_empty() {
            break answer;
        }
    };
    assert!(answer.metadata.truncation && !answer.answers.is_empty());

    let mut stream = TcpStream::connect(tcp_at).await.unwrap();
    for _ in 0..3 {
        assert_eq!(over_tcp(&mut stream, &question("web.weave.local.")).await.unwrap().answers.len(), 50);
    }
    let outside = over_tcp(&mut stream, &question("example.com.")).await.unwrap();
    assert_eq!(outside.metadata.response_code, ResponseCode::Refused, "there is no other server");
    let counted = shared.stats.all();
    for expected in [("answered", 4), ("failed", 1), ("dropped", 3)] {
        assert!(counted.contains(&expected), "{counted:?}");
    }
    drop(server);
    assert!(std::net::UdpSocket::bind(at).is_ok(), "the address is free at once");
}

#[tokio::test]
async fn connections_of_one_source_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(tcp(shared(), listener, Scope::Containers));
    let mut all = Vec::new();
    for _ in 0..OF_SOURCE_MAX {
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert!(over_tcp(&mut stream, &question("web.weave.local.")).await.is_ok());
        all.push(stream);
    }
    let mut more = TcpStream::connect(at).await.unwrap();
    assert!(over_tcp(&mut more, &question("web.weave.local.")).await.is_err(), "one too many");
    all.pop();
    let again = timeout(IDLE, async {
        loop {
            let mut stream = TcpStream::connect(at).await.unwrap();
            if over_tcp(&mut stream, &question("web.weave.local.")).await.is_ok() {
                return stream;
            }
        }
    });
    assert!(again.await.is_ok());
}

#[test]
fn strangers_are_refused_on_the_hosts_addresses() {
    let neighbourhood = Neighbourhood::new("10.32.0.0/12".parse().unwrap());
    neighbourhood.set(&[Ipv4Addr::new(192, 0, 2, 1)], &["192.0.2.0/24".parse().unwrap()]);
    let who = |text: &str| neighbourhood.source(text.parse().unwrap());
    assert_eq!(["192.0.2.1", "127.0.0.1", "::1"].map(who), [Source::Here; 3]);
    assert_eq!(["192.0.2.9", "10.32.7.7", "::ffff:192.0.2.9"].map(who), [Source::Neighbour; 3]);
    assert_eq!(["198.51.100.1", "2001:db8::1"].map(who), [Source::Stranger; 2]);
    let shared = shared();
    for name in ["web.weave.local.", "example.com."] {
        let Verdict::Answer(answer) = shared.decide(&question(name), Transport::Udp, Source::Stranger) else {
            panic!("{name}")
        };
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::Refused, 0));
    }
    assert!(matches!(shared.decide(b"x", Transport::Udp, Source::Stranger), Verdict::Drop));
}
