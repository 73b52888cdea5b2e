//! Other servers: alive, dead, slow, wrong, and ourselves.

use std::{
    net::UdpSocket as StdSocket,
    sync::atomic::{AtomicUsize, Ordering},
};

use hickory_proto::{
    op::{Edns, Query},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, opt::EdnsOption},
    },
};

use super::{super::answer::UDP_MAX, *};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 32, 0, 1));

fn question(text: &str) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(text).unwrap(), RecordType::A));
    message
}

fn answer(question: &Message) -> Message {
    let mut message = question.clone();
    message.metadata.message_type = MessageType::Response;
    let name = question.queries[0].name().clone();
    message.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::LOCALHOST))));
    message
}

/// A server that sends what `how` makes of each question; how many it got.
fn server(how: impl Fn(&Message) -> Vec<Message> + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    let (addr, seen) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            counted.fetch_add(1, Ordering::SeqCst);
            for message in how(&Message::from_vec(&buffer[..length]).unwrap()) {
                socket.send_to(&message.to_vec().unwrap(), from).unwrap();
            }
        }
    });
    (addr, seen)
}

fn forwarder(servers: &[SocketAddr]) -> Arc<Forwarder> {
    let forwarder = Arc::new(Forwarder::default());
    forwarder.set_servers(servers.to_vec());
    forwarder
}

async fn ask(forwarder: &Arc<Forwarder>, name: &str) -> Result<Arc<Message>, Failed> {
    forwarder.ask(&question(name), Transport::Udp, SOURCE, false).await
}

#[tokio::test]
async fn the_second_server_answers_when_the_first_is_dead() {
    let (dead, asked) = server(|_| Vec::new());
    let (alive, _) = server(|question| vec![answer(question)]);
    let forwarder = forwarder(&[dead, alive]);
    assert_eq!(ask(&forwarder, "a.example.").await.unwrap().answers.len(), 1);
    assert_eq!(ask(&forwarder, "b.example.").await.unwrap().answers.len(), 1);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the dead one is tried last now");
    let at_once = ask(&forwarder, "a.example.").await.unwrap();
    assert_eq!(at_once.answers.len(), 1, "from the cache");
}

#[tokio::test]
async fn answers_that_are_none_are_not_taken() {
    let (liar, _) = server(|question| {
        let mut id = answer(question);
        id.metadata.id = id.metadata.id.wrapping_add(1);
        let mut other = answer(question);
        other.queries = super::tests::question("other.example.").queries;
        vec![id, other, question.clone(), answer(question)]
    });
    let got = ask(&forwarder(&[liar]), "a.example.").await.unwrap();
    assert_eq!(got.queries, question("a.example.").queries);
    assert_eq!(got.answers.len(), 1);
}

/// Field report F4: no storm, whatever the servers do.
#[tokio::test]
async fn trouble_of_servers_ends_in_few_packets() {
    let (dead, asked) = server(|_| Vec::new());
    assert_eq!(ask(&forwarder(&[dead]), "a.example.").await.unwrap_err(), Failed::Silent);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let (failing, asked) = server(|question| {
        let mut message = question.clone();
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = ResponseCode::ServFail;
        vec![message]
    });
    let got = ask(&forwarder(&[failing]), "a.example.").await.unwrap();
    assert_eq!((got.metadata.response_code, asked.load(Ordering::SeqCst)), (ResponseCode::ServFail, 2));
    assert_eq!(ask(&forwarder(&[]), "a.example.").await.unwrap_err(), Failed::NoServer);
}

#[tokio::test]
async fn equal_questions_are_asked_once_and_loops_end() {
    let (slow, asked) = server(|question| {
        std::thread::sleep(Duration::from_millis(300));
        vec![answer(question)]
    });
    let forwarder = forwarder(&[slow]);
    let all = tokio::join!(ask(&forwarder, "a.example."), ask(&forwarder, "A.example."), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        forwarder.ask(&question("a.example."), Transport::Udp, SOURCE, true).await
    });
    assert!(all.0.is_ok() && all.1.is_ok());
    assert_eq!(all.2.unwrap_err(), Failed::Loop, "this host asks itself");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let state = forwarder.state();
    assert!(state.waiting == 0 && state.under_way.is_empty() && state.of_source.is_empty());
}

#[tokio::test]
async fn one_source_cannot_have_all_places() {
    let (dead, _) = server(|_| Vec::new());
    let forwarder = forwarder(&[dead]);
    let mut waiting = Vec::new();
    for n in 0..OF_SOURCE_MAX {
        let forwarder = Arc::clone(&forwarder);
        waiting.push(tokio::spawn(async move { ask(&forwarder, &format!("n{n}.example.")).await }));
    }
    while forwarder.state().waiting < OF_SOURCE_MAX {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&forwarder, "more.example.").await.unwrap_err(), Failed::Full);
    let other = IpAddr::V4(Ipv4Addr::new(10, 32, 0, 2));
    let asked = question("other.example.");
    let others = forwarder.ask(&asked, Transport::Udp, other, false);
    assert!(timeout(Duration::from_millis(100), others).await.is_err(), "it waits for an answer");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// OPT is of one hop alone (RFC 6891, section 6.2.1): a cookie of one client is none of another.
#[tokio::test]
async fn options_of_a_client_are_not_passed_on() {
    let (told, got) = std::sync::mpsc::channel();
    let (alive, _) = server(move |question| {
        told.send(question.clone()).unwrap();
        vec![answer(question)]
    });
    let mut asked = question("a.example.");
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(10, b"8 bytes.".to_vec()));
    asked.set_edns(edns);
    asked.metadata.checking_disabled = true;
    forwarder(&[alive]).ask(&asked, Transport::Udp, SOURCE, false).await.unwrap();
    let passed = got.recv().unwrap();
    let edns = passed.edns.unwrap();
    assert!(edns.options().as_ref().is_empty(), "{edns:?}");
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (UDP_MAX, true));
    assert!(passed.metadata.checking_disabled && passed.metadata.recursion_desired);
}

/// Field report F4: a server on this host that asks this resolver; and another client, which asks the same at that moment.
#[tokio::test]
async fn a_loop_ends_soon_and_an_equal_question_does_not() {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (alive, _) = server(|question| vec![answer(question)]);
    let other = forwarder(&[alive]);
    let asked = question("a.example.");
    let both = tokio::join!(ask(&other, "a.example."), other.ask(&asked, Transport::Udp, here, true));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");

    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let forwarder = forwarder(&[back.local_addr().unwrap()]);
    let looping = Arc::clone(&forwarder);
    let server = tokio::spawn(async move {
        let mut buffer = [0; 2048];
        let mut count = 0;
        while let Ok(got) = timeout(Duration::from_secs(3), back.recv_from(&mut buffer)).await {
            let (length, from) = got.unwrap();
            count += 1;
            let mut question = Message::from_vec(&buffer[..length]).unwrap();
            // It is no question of this host, as containers' servers are not: its address says what it is.
            assert_eq!(looping.ask(&question, Transport::Udp, here, false).await.unwrap_err(), Failed::Loop);
            question.metadata.message_type = MessageType::Response;
            question.metadata.response_code = ResponseCode::ServFail;
            back.send_to(&question.to_vec().unwrap(), from).await.unwrap();
        }
        count
    });
    let got = ask(&forwarder, "a.example.").await.unwrap();
    assert_eq!(got.metadata.response_code, ResponseCode::ServFail);
    assert!(forwarder.state().looped.is_empty());
    assert_eq!(server.await.unwrap(), 1, "no storm");
}

#[test]
fn shortage_here_is_no_fault_of_a_server() {
    for (errno, own) in [(Errno::MFILE, true), (Errno::NOBUFS, true), (Errno::CONNREFUSED, false)] {
        assert_eq!(is_own(&errno.into()), own, "{errno}");
    }
    assert!(!is_own(&io::ErrorKind::InvalidData.into()));
}
