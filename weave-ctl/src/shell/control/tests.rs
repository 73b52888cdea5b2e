//! The server and the client together over a socket in a directory of their own; a task stands for the driver.

mod answers;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::answers::{container_status, host_status, named, snapshot};
use super::{Call, Control, ControlError, WAITS, Waits, start, start_with};
use crate::{
    api::{
        SOCKET,
        client::{Client, ClientError},
        types::{
            Attach, Connect, ConnectionState, Detach, Forget, Lookup, NameChange, PathStatus, Reset, Stop, Targets,
        },
    },
    proto::{
        command::{Answer, Command, Holder, Refusal},
        wire::VERSIONS,
    },
};

/// An address for which the driver never answers.
const SILENT: &str = "10.32.0.66";

/// Answers as a core would; hands every command on, so that a test sees what arrived.
async fn drive(mut calls: mpsc::Receiver<Call>, seen: mpsc::UnboundedSender<Command>) {
    let mut unanswered = Vec::new();
    while let Some(call) = calls.recv().await {
        let (command, reply) = match call {
            Call::Host { reply } => {
                reply.send(host_status()).ok();
                continue;
            }
            Call::Command { command, reply } => (command, reply),
        };
        seen.send(command.clone()).ok();
        let answer = match command {
            Command::Status => Ok(Answer::Status(Box::new(snapshot()))),
            Command::Detach { addrs, .. } if addrs.iter().any(|a| a.to_string() == SILENT) => {
                unanswered.push(reply);
                continue;
            }
            Command::Detach { holder, .. } if holder.owner == "nobody" => Err(Refusal("no such container".into())),
            Command::Detach { .. } | Command::Release(..) => Ok(Answer::Released(container_status("c").addrs)),
            Command::ReleaseAbsent => Ok(Answer::ReleasedAbsent(vec![("c".into(), container_status("c").addrs)])),
            Command::Attach(container, _) => Ok(Answer::Container(container_status(&container.owner))),
            Command::Reserve(owner, _) => {
                Ok(Answer::Container(container_status(&owner.unwrap_or("reserved-1".into()))))
            }
            Command::Bind { owner, .. } => Ok(Answer::Container(container_status(&owner))),
            Command::Names(_) | Command::AddName { .. } => Ok(Answer::Names(Vec::new())),
            Command::Containers => Ok(Answer::Containers(vec![container_status("c1")])),
            Command::Forget(targets) if targets.iter().any(|t| t.host == "unknown") => {
                Err(Refusal("unknown is not a target".into()))
            }
            Command::Forget(_) | Command::Connect { .. } => {
                Ok(Answer::Targets(vec!["host2:6783".parse().expect("a target")]))
            }
            Command::Reset { force: false } => Err(Refusal("nobody takes over the addresses: use --force".into())),
            _ => Ok(Answer::Done),
        };
        reply.send(answer).ok();
    }
}

/// The next command that is no question.
async fn next_change(seen: &mut mpsc::UnboundedReceiver<Command>) -> Command {
    loop {
        let command = timeout(Duration::from_secs(20), seen.recv()).await.expect("in time").expect("a command");
        if !matches!(command, Command::Status) {
            return command;
        }
    }
}

struct Bench {
    dir: tempfile::TempDir,
    control: Control,
    client: Client,
    seen: mpsc::UnboundedReceiver<Command>,
}

/// Short, so that a test of a wait need not wait.
const SHORT: Waits = Waits {
    reply: Duration::from_millis(50),
    resolve: Duration::from_millis(50),
    request: Duration::from_millis(50),
    ..WAITS
};

async fn bench() -> Bench {
    bench_with(WAITS).await
}

async fn bench_with(waits: Waits) -> Bench {
    let dir = tempfile::tempdir().expect("a directory");
    let run_dir = dir.path().join("run");
    let (calls, receiver) = mpsc::channel(16);
    let (tell, seen) = mpsc::unbounded_channel();
    tokio::spawn(drive(receiver, tell));
    let control = start_with(&run_dir, calls, waits).await.expect("the server starts");
    let client = Client::new(&run_dir);
    Bench { dir, control, client, seen }
}

impl Bench {
    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Sends bytes as they are and returns all that comes back.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.run_dir().join(SOCKET)).await.expect("the socket accepts");
        // The server may have said no and closed before all was written.
        stream.write_all(bytes).await.ok();
        let mut answer = Vec::new();
        timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("the server closes").ok();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the file").permissions().mode() & 0o777
}

#[tokio::test]
async fn requests_arrive_as_the_commands_they_mean() {
    let mut bench = bench().await;
    let targets = vec!["host2:7000".to_owned()];
    bench.client.connect(&Connect { targets: targets.clone(), replace: true }).await.expect("done");
    bench.client.forget(&Forget { targets }).await.expect("done");
    let target = vec!["host2:7000".parse().expect("a target")];
    assert_eq!(next_change(&mut bench.seen).await, Command::Connect { targets: target.clone(), replace: true });
    assert_eq!(next_change(&mut bench.seen).await, Command::Forget(target));

    let printer = NameChange { container: None, name: Some("printer".into()), addrs: vec!["192.0.2.9".into()] };
    bench.client.add_name(&printer).await.expect("done");
    bench
        .client
        .remove_name(&NameChange { container: Some("web".into()), ..NameChange::default() })
        .await
        .expect("done");
    bench.client.lookup(&Lookup { name: "web".into() }).await.expect("done");
    bench.client.names().await.expect("done");
    let (name, addrs) = (Some("printer".to_owned()), vec!["192.0.2.9".parse().expect("an address")]);
    assert_eq!(next_change(&mut bench.seen).await, Command::AddName { holder: None, name, addrs });
    let holder = Some(Holder { owner: "web".into(), netns: None });
    assert_eq!(next_change(&mut bench.seen).await, Command::RemoveName { holder, name: None, addrs: vec![] });
    assert_eq!(next_change(&mut bench.seen).await, Command::Names(Some("web".into())));
    assert_eq!(next_change(&mut bench.seen).await, Command::Names(None));

    let detach =
        Detach { container: "/run/netns/gone-container".into(), addrs: vec!["10.32.0.1/12".into()], keep: false };
    let detached = bench.client.detach(&detach);
    assert_eq!(detached.await.expect("done").addrs, container_status("c").addrs);
    let addrs = vec!["10.32.0.1".parse().expect("an address")];
    let holder = Holder { owner: "gone-container".into(), netns: None };
    assert_eq!(bench.seen.recv().await, Some(Command::Detach { holder, addrs, keep: false }));

    bench.client.reset(&Reset { force: false }).await.expect_err("a refusal");
    assert_eq!(bench.seen.recv().await, Some(Command::Reset { force: false }));
}

/// The driver's only target is host2:6783, whatever it is told.
#[tokio::test]
async fn a_change_of_targets_tells_what_it_did() {
    let bench = bench().await;
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let told = |added: &[&str], kept: &[&str], removed: &[&str]| Targets {
        done: true,
        added: list(added),
        kept: list(kept),
        removed: list(removed),
    };
    for (targets, replace, expected) in [
        (list(&["host2:6783", "b", "a", "b"]), false, told(&["b", "a"], &["host2:6783"], &[])),
        (list(&["b"]), true, told(&["b"], &[], &["host2:6783"])),
        (list(&["host2:6783"]), true, told(&[], &["host2:6783"], &[])),
        (list(&["host2:6783"]), false, told(&[], &["host2:6783"], &[])),
        // Another port is another target.
        (list(&["host2"]), false, told(&["host2"], &[], &[])),
        (Vec::new(), true, told(&[], &[], &["host2:6783"])),
    ] {
        let answer = bench.client.connect(&Connect { targets: targets.clone(), replace }).await.expect("done");
        assert_eq!(answer, expected, "{targets:?}, {replace}");
    }
    let forgotten = bench.client.forget(&Forget { targets: list(&["host2:6783", "host2:6783"]) }).await;
    assert_eq!(forgotten.expect("done"), told(&[], &[], &["host2:6783"]));
    let refused = bench.client.forget(&Forget { targets: list(&["unknown"]) }).await.expect_err("a refusal");
    assert!(matches!(&refused, ClientError::Refused(s) if s == "unknown is not a target"), "{refused:?}");
}

#[tokio::test]
async fn a_status_tells_how_packets_travel() {
    let bench = bench().await;
    let status = bench.client.status().await.expect("a status");
    let paths: Vec<PathStatus> = status.peers.iter().map(|p| p.path.clone()).collect();
    let remote = "192.0.2.2:6784".parse().expect("an address");
    assert_eq!(
        paths,
        [
            PathStatus::Here,
            PathStatus::Direct { remote, fixed: true, rtt_us: Some(250), mtu: Some(1450) },
            PathStatus::Relayed { via: named(2), why: "filtered".into(), mtu: None },
            PathStatus::Unconfirmed { remote: Some(remote), why: "no answer".into() },
            PathStatus::Unconfirmed { remote: None, why: String::new() },
        ]
    );
    let unicast: Vec<_> = status.unicast_routes.iter().map(|r| (r.dest.clone(), r.via.clone())).collect();
    assert_eq!(unicast, [(named(2), named(2)), (named(3), named(2))]);
    let broadcast: Vec<_> = status.broadcast_routes.iter().map(|r| (r.source.clone(), r.via.clone())).collect();
    assert_eq!(broadcast, [(named(1), vec![named(2)])]);
    let links: Vec<_> = status.peers[1].links.iter().map(|l| (l.id.clone(), l.established)).collect();
    assert_eq!(links, [1, 3, 9].map(|n| (named(n), true)));
    let channel = &status.channels[0];
    assert_eq!((channel.name.as_str(), channel.known, channel.entries, channel.errors), ("peers", true, 5, 2));
    assert_eq!(channel.last_error, "not signed");
    assert_eq!((status.conn_limit, status.protocol.min, status.protocol.max), (200, VERSIONS.0, VERSIONS.1));
}

#[tokio::test]
async fn a_status_holds_what_core_and_kernel_say() {
    let bench = bench().await;
    let status = bench.client.status().await.expect("a status");
    assert_eq!(
        (status.name, status.version.as_str(), status.targets[0].as_str()),
        (named(1).name, "1.2.3", "host2:6783")
    );
    let connection = &status.connections[0];
    assert_eq!(
        (connection.state, connection.rtt_us, connection.retry_in_ms),
        (ConnectionState::Established, Some(250), Some(1500))
    );
    assert_eq!((status.ipam.size, status.ipam.range.to_string().as_str()), (1_048_576, "10.32.0.0/12"));
    assert_eq!(status.dataplane.programs[0].attached_to, ["eth0"]);
    assert_eq!(status.dataplane.maps[0].capacity, 65536);
    assert_eq!(status.warnings, ["from the core", "from the host"]);

    let report = bench.client.report().await.expect("a report");
    assert_eq!((report.api, report.pid, report.status), (1, std::process::id(), status));
    let ps = bench.client.ps().await.expect("the containers");
    assert_eq!((ps[0].owner.as_str(), ps[0].mac.as_str()), ("c1", "0a:77:0a:20:00:01"));
}

#[tokio::test]
async fn refusals_and_malformed_requests_are_told_apart() {
    let mut bench = bench().await;
    let nobody = Detach { container: "nobody".into(), addrs: Vec::new(), keep: false };
    let refused = bench.client.detach(&nobody).await.expect_err("a refusal");
    assert!(matches!(&refused, ClientError::Refused(s) if s == "no such container"), "{refused:?}");
    bench.seen.recv().await.expect("the command");

    let absent = Attach { container: "/nonexistent/netns".into(), ..Attach::default() };
    let refused = bench.client.attach(&absent).await.expect_err("a refusal");
    assert!(matches!(refused, ClientError::Refused(_)), "{refused:?}");
    for addr in ["10.0.0", "net:10.0.0.1/8"] {
        let attach = Attach { container: "/nonexistent/netns".into(), addrs: vec![addr.into()], ..Attach::default() };
        let bad = bench.client.attach(&attach).await.expect_err("not an address");
        assert!(matches!(&bad, ClientError::BadRequest(s) if s.contains(addr)), "{bad:?}");
    }
    let bad = Connect { targets: vec!["a b".into()], replace: false };
    let bad = bench.client.connect(&bad).await.expect_err("not a target");
    assert!(matches!(bad, ClientError::BadRequest(_)), "{bad:?}");
    assert!(bench.seen.try_recv().is_err(), "something reached the core");
}

#[tokio::test]
async fn garbage_disturbs_nothing() {
    let bench = bench().await;
    let post = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: w\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let big = "x".repeat(70_000);
    for (bytes, status) in [
        ("\0\u{1}\u{2} not http at all\r\n\r\n".to_owned(), "400"),
        (format!("GET /v1/status HTTP/1.1\r\nlong: {big}\r\n\r\n"), "431"),
        (post("/v1/connect", "{\"targets\": 5}"), "400"),
        (post("/v1/connect", "}{"), "400"),
        (post("/v1/connect", ""), "400"),
        (post("/v1/connect", &big), "413"),
        (post("/v1/nothing", "{}"), "404"),
        (post("/v2/connect", "{}"), "404"),
        (post("/v1/status", "{}"), "404"),
        ("GET /v1/stop HTTP/1.1\r\nhost: w\r\n\r\n".to_owned(), "404"),
    ] {
        let answer = bench.raw(bytes.as_bytes()).await;
        let start: String = bytes.chars().take(40).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{start:?} was answered with {answer:?}");
        if bytes.starts_with("POST") {
            assert!(answer.contains("{\"error\":\""), "{start:?} was answered with {answer:?}");
        }
        bench.client.status().await.expect("the server still answers");
    }
}

#[tokio::test]
async fn a_caller_that_says_nothing_is_cut_off() {
    let bench = bench_with(SHORT).await;
    for start in ["", "GET /v1/st", "POST /v1/connect HTTP/1.1\r\nhost: w\r\ncontent-length: 10\r\n\r\n{"] {
        // Returns only when the server closes.
        bench.raw(start.as_bytes()).await;
    }
}

#[tokio::test]
async fn an_oversized_request_does_not_leave_the_client() {
    let bench = bench().await;
    let huge = Attach { container: "x".repeat(70_000), ..Attach::default() };
    let error = bench.client.attach(&huge).await.expect_err("too big");
    assert!(matches!(error, ClientError::TooBig(n) if n > 70_000), "{error:?}");
}

#[tokio::test]
async fn many_callers_at_once_are_all_answered() {
    let mut bench = bench().await;
    let mut asked = JoinSet::new();
    for n in 0..200_u32 {
        let client = bench.client.clone();
        asked.spawn(async move {
            if n % 2 == 0 {
                client.status().await.map(drop)
            } else {
                client.connect(&Connect { targets: vec![format!("host{n}")], replace: false }).await.map(drop)
            }
        });
    }
    while let Some(answer) = asked.join_next().await {
        answer.expect("the task ran").expect("an answer");
    }
    let (mut questions, mut changes) = (0, 0);
    while let Ok(command) = bench.seen.try_recv() {
        *if matches!(command, Command::Status) { &mut questions } else { &mut changes } += 1;
    }
    assert_eq!((questions, changes), (100, 100));
}

#[tokio::test]
async fn a_wait_without_end_is_answered_with_its_likely_cause() {
    let bench = bench_with(SHORT).await;
    let body = format!("{{\"container\":\"gone\",\"addrs\":[\"{SILENT}\"]}}");
    let request = format!("POST /v1/detach HTTP/1.1\r\nhost: w\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut stream = UnixStream::connect(bench.run_dir().join(SOCKET)).await.expect("the socket accepts");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(answer.contains("no answer after 0 seconds (address management: awaiting consensus)"), "{answer}");
}

#[tokio::test]
async fn a_caller_that_goes_away_closes_its_call() {
    let dir = tempfile::tempdir().expect("a directory");
    let (calls, mut receiver) = mpsc::channel(16);
    let _control = start(dir.path(), calls).await.expect("the server starts");
    let client = Client::new(dir.path());
    let asking = tokio::spawn(async move { client.status().await.map(drop) });
    let Some(Call::Command { mut reply, .. }) = receiver.recv().await else { panic!("no command came") };
    assert!(!reply.is_closed());
    asking.abort();
    timeout(Duration::from_secs(5), reply.closed()).await.expect("the call is closed");
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_server() {
    let bench = bench().await;
    let socket = bench.run_dir().join(SOCKET);
    assert_eq!((mode(&bench.run_dir()), mode(&socket)), (0o700, 0o600));
    bench.control.close().await;
    assert!(!socket.exists());
    let error = bench.client.status().await.expect_err("nobody answers");
    assert!(matches!(error, ClientError::NoController(_)), "{error:?}");

    let (calls, _receiver) = mpsc::channel(1);
    drop(start(&bench.dir.path().join("run"), calls).await.expect("the server starts"));
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_answer_to_stop_is_written_before_the_server_ends() {
    let bench = bench().await;
    let asked = tokio::spawn({
        let client = bench.client.clone();
        async move { client.stop(&Stop { teardown: false }).await }
    });
    let mut seen = bench.seen;
    assert_eq!(seen.recv().await, Some(Command::Stop { teardown: false }));
    bench.control.close().await;
    asked.await.expect("the task ran").expect("done");
}

#[tokio::test]
async fn socket_that_others_remove_is_made_again() {
    let bench = bench_with(Waits { look: Duration::from_millis(20), ..WAITS }).await;
    let socket = bench.run_dir().join(SOCKET);
    let answers = async || {
        while bench.client.ps().await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    for _ in 0..2 {
        std::fs::remove_dir_all(bench.run_dir()).expect("removed");
        assert!(bench.client.ps().await.is_err());
        timeout(Duration::from_secs(20), answers()).await.expect("in time");
        assert_eq!((mode(&bench.run_dir()), mode(&socket)), (0o700, 0o600));
    }
    // What is in the way stays; when it is gone the socket is back.
    std::fs::remove_file(&socket).expect("removed");
    std::fs::write(&socket, "mine").expect("a file");
    sleep(Duration::from_millis(100)).await;
    assert_eq!(std::fs::read(&socket).expect("a file"), b"mine");
    std::fs::remove_file(&socket).expect("removed");
    timeout(Duration::from_secs(20), answers()).await.expect("in time");
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join(SOCKET);
    // Closing does not remove the file, as a kill does not.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    assert!(socket.exists());
    let (calls, receiver) = mpsc::channel(16);
    let (tell, _seen) = mpsc::unbounded_channel();
    tokio::spawn(drive(receiver, tell));
    let _control = start(dir.path(), calls.clone()).await.expect("the server starts");
    Client::new(dir.path()).status().await.expect("a status");

    let second = start(dir.path(), calls).await.expect_err("one runs already");
    assert!(matches!(second, ControlError::Running(_)), "{second:?}");
    Client::new(dir.path()).status().await.expect("the first still answers");
}

#[tokio::test]
async fn what_cannot_be_a_socket_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (calls, _receiver) = mpsc::channel(1);
    std::fs::write(dir.path().join(SOCKET), "precious").expect("a file");
    let error = start(dir.path(), calls.clone()).await.expect_err("a file is in the way");
    assert!(matches!(error, ControlError::InTheWay(_)), "{error:?}");
    assert_eq!(std::fs::read_to_string(dir.path().join(SOCKET)).expect("the file"), "precious");

    let long = dir.path().join("x".repeat(120));
    let error = start(&long, calls.clone()).await.expect_err("a long path");
    assert!(matches!(error, ControlError::TooLong(_)), "{error:?}");
    let error = start(&dir.path().join(SOCKET).join("below"), calls).await.expect_err("below a file");
    assert!(matches!(error, ControlError::Directory { .. }), "{error:?}");
}

#[tokio::test]
async fn another_version_is_told_as_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = tokio::net::UnixListener::bind(dir.path().join(SOCKET)).expect("a socket");
    tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 404 Not Found\r\nweave-version: 9.9.9\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nweave-version: 9.9.9\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.expect("a request");
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    });
    for _ in 0..2 {
        let error = Client::new(dir.path()).status().await.expect_err("another version");
        assert!(matches!(&error, ClientError::Version { theirs } if theirs == "9.9.9"), "{error:?}");
    }
}
