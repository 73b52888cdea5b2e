//! A member of the network that lies, repeats, floods, talks nonsense, or is of another version: nobody else's links,
//! records or traffic change.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use weave_ctl::proto::{
    cbor,
    election::{VOTERS_MAX, Vote},
    io::SessionId,
    name::{PeerId, PeerName},
    wire::{
        BUCKETS, Handshake, Message, PAGE_MAX, VERSIONS, Want,
        entry::{ADDRS_MAX, Channel, PeerRecord, Point, ReportedSession, identity_proof, sign_record},
    },
};
use weave_tests::lab::{
    Host, Lab, Plan, SETTLED, eventually,
    host::ping,
    load::Load,
    member::{Member, key, record},
    underlay,
    view::{Path, peer_name},
};

/// How long nonsense is given to do harm.
const HARMLESS: Duration = Duration::from_millis(500);
/// From a flood to answers that come in time.
const RECOVERED: Duration = Duration::from_secs(10);
/// Memory in KiB that a controller of a handful of peers stays under, whatever it is told.
const MEMORY_MAX: u64 = 256 * 1024;

fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

/// Hosts 1 and 2 with controllers and traffic between them; on host 3 a peer by hand, which is in the network.
struct Scene {
    lab: Lab,
    load: Load,
    member: Member,
}

impl Scene {
    fn new(prefix: &str) -> Self {
        let lab = Lab::new(Plan::of(prefix, 4).containers(1)).expect("a Lab");
        lab.launch(1, &[]).expect("launch");
        lab.launch(2, &[&underlay(1).to_string()]).expect("launch");
        let container = |n: usize| {
            let host = lab.host(n);
            assert!(eventually(SETTLED, || host.established() == 1), "{}", host.connections_text());
            (host.container(1), host.attach(&host.container(1)).expect("attach"))
        };
        let load = Load::start(&container(1), &container(2)).expect("traffic");
        let member = Member::on(lab.host(3), name(9)).expect("a peer");
        Self { lab, load, member }
    }

    /// Links, names and paths of hosts 1 and 2 are as they should be, and their controllers are those of the beginning.
    fn nobody_else_is_disturbed(&self) {
        for (here, there) in [(1, 2), (2, 1)] {
            let host = self.lab.host(here);
            assert!(host.neighbours().expect("status").contains(&peer_name(there)), "{}", host.connections_text());
            // Probes may wait behind a flood for a moment; what they tell must be right again after it.
            host.wait_path(there, RECOVERED, Path::is_direct).expect("a direct path");
            assert_eq!(peer(host, there)["nickname"], format!("host-{there}"));
        }
        self.load.goes_on().expect("traffic goes on");
    }

    /// Host `n` tells of this word when asked for peers.
    fn tells(&self, n: usize, word: &str) -> bool {
        self.lab.host(n).json(&["status", "peers"]).is_ok_and(|all| all.to_string().contains(word))
    }

    /// Host 1 has a link to the peer by hand, and answers on it.
    fn is_linked(&self, link: SessionId) {
        assert!(self.lab.host(1).neighbours().expect("status").contains(&peer_name(9)));
        self.member.say(link, &Message::Digest(1));
        self.member.hear(link, SETTLED, |m| matches!(m, Message::Buckets(_))).expect("it is still answered");
    }

    /// The end of a test: nothing was lost, and a newcomer is welcome.
    fn all_is_well(self) {
        self.nobody_else_is_disturbed();
        let (lab, newcomer) = (&self.lab, self.lab.host(4));
        lab.launch(4, &[&underlay(1).to_string()]).expect("launch");
        let linked = || lab.host(1).is_linked(4);
        assert!(eventually(SETTLED, linked), "{}", newcomer.connections_text());
        let container = newcomer.container(1);
        newcomer.attach(&container).expect("attach");
        let to = lab.host(2).address(&lab.host(2).container(1)).expect("an address");
        assert!(eventually(SETTLED, || ping(&container, to, 1)), "a newcomer reaches nobody");
        self.load.stop_whole().expect("traffic was never disturbed");
    }
}

/// What a host shows of another one.
fn peer(host: &Host, n: usize) -> Value {
    let peers = host.json(&["status", "peers"]).expect("status");
    let found = peers.as_array().and_then(|all| all.iter().find(|p| p["name"] == peer_name(n).as_str()).cloned());
    found.unwrap_or_else(|| panic!("host {n} is not in {peers}"))
}

/// What a host shows of a channel.
fn channel(host: &Host, name: &str) -> Option<Value> {
    let report = host.json(&["report"]).expect("report");
    report["status"]["channels"].as_array().and_then(|all| all.iter().find(|c| c["name"] == name).cloned())
}

/// A frame of some kind, its body in CBOR.
fn frame(kind: &str, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(kind.len()).expect("a short kind");
    assert!(length < 24, "a short kind");
    [b"\xa2\x64kind", &[0x60 + length][..], kind.as_bytes(), b"\x64body", body].concat()
}

#[test]
#[ignore = "needs root"]
fn nobody_speaks_for_another() {
    let mut scene = Scene::new("lmbforge");
    let (lab, two) = (&scene.lab, underlay(2));
    let link = scene.member.join(underlay(1)).expect("a link");
    let honest = peer(lab.host(1), 2);
    let genuine = scene.member.ask(link, name(2)).expect("the record of host 2");

    // Of host 2, but signed by another; of host 2, but changed on the way; of host 1 itself.
    let mut forged = record(&scene.member.key, name(2), Ipv4Addr::new(192, 168, 77, 3));
    (forged.point, forged.nickname) = (Point(1000, 1000), "forged".to_owned());
    let mut changed = genuine.clone();
    *changed.last_mut().expect("bytes") ^= 1;
    let mut of_one = forged.clone();
    of_one.name = name(1);
    for entry in [sign_record(&scene.member.key, &forged), changed, sign_record(&scene.member.key, &of_one)] {
        scene.member.tell(link, vec![entry]);
    }
    // An own record that claims sessions to others' names under other stores.
    scene.member.record.sessions =
        vec![ReportedSession { peer: name(2), uid: forged.uid, address: format!("{two}:6783"), outbound: true }];
    let own = scene.member.next_record();
    scene.member.tell(link, vec![own]);
    assert!(!eventually(HARMLESS, || peer(lab.host(1), 2)["uid"] != honest["uid"]), "{}", peer(lab.host(1), 2));
    assert!(eventually(SETTLED, || scene.tells(2, "by-hand")), "host 2 does not hear of the peer by hand");
    for n in [1, 2] {
        let shown = lab.host(n).json(&["status", "peers"]).expect("status").to_string();
        assert!(!shown.contains("forged"), "{shown}");
    }
    // One that would be news, but is not what was signed, is counted.
    let mut unsigned = scene.member.next_record();
    *unsigned.last_mut().expect("bytes") ^= 1;
    scene.member.tell(link, vec![unsigned]);
    let counted = || channel(lab.host(1), "peers").is_some_and(|c| c["errors"].as_u64() > Some(0));
    assert!(eventually(SETTLED, counted), "{:?}", channel(lab.host(1), "peers"));
    scene.all_is_well();
}

#[test]
#[ignore = "needs root"]
fn a_hello_in_anothers_name_is_refused() {
    let mut scene = Scene::new("lmbhello");
    let link = scene.member.join(underlay(1)).expect("a link");
    let genuine = scene.member.ask(link, name(2)).expect("the record of host 2");
    let two_of_name = sign_record(&scene.member.key, &record(&scene.member.key, name(2), underlay(3)));
    let of_myself = sign_record(&scene.member.key, &record(&scene.member.key, name(1), underlay(3)));
    let own = scene.member.next_record();
    type Change = Box<dyn Fn(&Member, Handshake) -> Handshake>;
    let with = |entry: Vec<u8>| -> Change { Box::new(move |_, hello| Handshake { entry: entry.clone(), ..hello }) };
    let lies: [(&str, Change); 6] = [
        ("another's record", with(genuine)),
        ("another's name with an own key", with(two_of_name)),
        ("the receiver's name", with(of_myself)),
        // Replayed from another connection, and turned round.
        (
            "a proof of another connection",
            Box::new(|m, hello| Handshake { proof: identity_proof(&m.key, &[7; 32], true), ..hello }),
        ),
        ("no proof", Box::new(|_, hello| Handshake { proof: Vec::new(), ..hello })),
        ("a protocol of the future", with(own)),
    ];
    for (what, lie) in lies {
        let opened = scene.member.peer.dial(underlay(1), SETTLED).expect("a link");
        let mut hello = lie(&scene.member, scene.member.hello(&opened));
        if what.contains("future") {
            (hello.min_version, hello.max_version) = (900, 999);
        }
        scene.member.say(opened.link, &Message::Handshake(Box::new(hello)));
        let refusal = scene.member.refusal(opened.link).unwrap_or_else(|e| panic!("{what} is not refused: {e:#}"));
        assert!(!refusal.is_empty());
        assert!(scene.member.is_closed(opened.link, SETTLED), "after {what} the link stays open");
        scene.nobody_else_is_disturbed();
    }
    scene.all_is_well();
}

#[test]
#[ignore = "needs root"]
fn old_records_do_not_come_back() {
    let mut scene = Scene::new("lmbold");
    let link = scene.member.join(underlay(1)).expect("a link");
    let genuine = scene.member.ask(link, name(2)).expect("the record of host 2");
    let (lab, host) = (&scene.lab, scene.lab.host(2));
    host.kill().expect("kill");
    host.weave(&["launch", "--nickname", "renamed"]).expect("launch again");
    let renamed = || peer(lab.host(1), 2)["nickname"] == "renamed";
    assert!(eventually(SETTLED, renamed), "{}", peer(lab.host(1), 2));
    for _ in 0..20 {
        scene.member.tell(link, vec![genuine.clone()]);
    }
    assert!(!eventually(HARMLESS, || !renamed()), "an old record came back");
    host.kill().expect("kill");
    host.weave(&["launch", "--nickname", "host-2"]).expect("launch again");
    assert!(eventually(SETTLED, || peer(lab.host(1), 2)["nickname"] == "host-2"), "the newest record is not taken");
    let linked = || lab.host(1).is_linked(2);
    assert!(eventually(SETTLED, linked), "{}", lab.host(1).connections_text());
    scene.all_is_well();
}

#[test]
#[ignore = "needs root"]
fn nonsense_in_messages_and_channels_is_kept_apart() {
    let mut scene = Scene::new("lmbsense");
    let link = scene.member.join(underlay(1)).expect("a link");
    let (member, lab) = (&mut scene.member, &scene.lab);
    let words: Vec<u8> = (0..200_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mut frames = vec![Vec::new(), words.clone(), vec![0x9f; 40_000], b"\xa2\x64kind".to_vec()];
    // Kinds that nobody knows, and each known one with a body of another shape.
    for kind in
        ["future", "", "delta", "digest", "buckets", "page", "request", "advertise", "ring", "ping", "handshake"]
    {
        for body in [&b"\xf6"[..], b"\x05", b"\x65words", b"\x80", b"\x81\x81\x81\x80", b"\xa1\x61a\x05", b"\x5b\xff"] {
            frames.push(frame(kind, body));
        }
    }
    let long = Message::Request(vec![want(member); PAGE_MAX + 1]);
    frames.extend([long.encode(), Message::Buckets(vec![0; BUCKETS + 1]).encode()]);
    for frame in frames.into_iter().filter(|f| !f.is_empty()) {
        member.peer.send(link, frame);
    }
    // Entries: not even an entry; a record of another shape; a channel that nobody knows.
    member.tell(link, vec![words.clone()]);
    let version = member.record.point.1 + 1;
    let broken = member.own_entry(Channel::Peers, version, &words);
    member.tell(link, vec![broken]);
    let counted = || channel(lab.host(1), "peers").is_some_and(|c| c["errors"].as_u64() > Some(0));
    assert!(eventually(SETTLED, counted), "{:?}", channel(lab.host(1), "peers"));
    let said = channel(lab.host(1), "peers").expect("the channel")["last_error"].clone();
    assert!(said.as_str().is_some_and(|said| !said.is_empty()), "{said}");
    member.record.point.1 = version;
    let own = member.next_record();
    let future = member.own_entry(Channel::Unknown(Box::new("future".into())), member.record.point.1 + 1, &words);
    member.tell(link, vec![own, future]);
    for n in [1, 2] {
        let carried = || channel(lab.host(n), "future").is_some_and(|c| c["known"] == false && c["entries"] == 1);
        assert!(eventually(SETTLED, carried), "host {n} does not carry it along: {:?}", channel(lab.host(n), "future"));
    }
    // After all of that its own link is still there, too.
    scene.is_linked(link);
    scene.all_is_well();
}

/// All that a peer has said of itself.
fn want(member: &Member) -> Want {
    Want { owner: member.record.name, uid: member.record.uid, since: Some(Point::ZERO) }
}

/// Of a channel that every controller reads: what cannot be used of it, and how each is called.
fn unusable(member: &Member, channel: &Channel) -> Vec<(Vec<u8>, &'static str)> {
    let (shape, (long, bound)) = match channel {
        Channel::Space => {
            let shape = "not a hint of free space: ";
            (shape, (b"\x65words".to_vec(), shape))
        }
        Channel::Election => {
            let known = vec![PeerId::of_any_store(name(9)); VOTERS_MAX + 1];
            let vote = Vote { known, ..Vote::new("10.32.0.0/12".parse().expect("a range"), Some(3)) };
            ("not a vote: ", (vote.encode(), "a vote beyond its bounds"))
        }
        _ => {
            let addrs = vec![Ipv4Addr::LOCALHOST; ADDRS_MAX + 1];
            let record = PeerRecord { addrs, ..member.record.clone() };
            ("a message that cannot be read (", (cbor::write(&record), "a message beyond the bound on addresses"))
        }
    };
    // A number, the end of a list that never began, nothing.
    let shapes = [&b"\x00"[..], b"\xff\xff", b""].map(|data| (data.to_vec(), shape));
    shapes.into_iter().chain([(long, bound)]).collect()
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_used_of_a_channel_is_counted_there_on_every_host_and_nowhere_else() {
    let mut scene = Scene::new("lmbchan");
    let link = scene.member.join(underlay(1)).expect("a link");
    // What is said by somebody of whom nothing is known is held by nobody.
    assert!(eventually(SETTLED, || scene.tells(2, "by-hand")), "host 2 does not hear of the peer by hand");
    let channels = [Channel::Space, Channel::Election, Channel::Peers];
    let mut version = scene.member.record.point.1;
    for channel in &channels {
        for (count, (data, words)) in (1_u64..).zip(unusable(&scene.member, channel)) {
            version += 1;
            scene.member.tell(link, vec![scene.member.own_entry(channel.clone(), version, &data)]);
            let said = format!("of {}: {words}", peer_name(9));
            // Each has come everywhere before the next takes its place.
            for host in [1, 2].map(|n| scene.lab.host(n)) {
                let shown = || self::channel(host, channel.name()).unwrap_or_default();
                let counted = |c: &Value| {
                    c["errors"] == count && c["last_error"].as_str().is_some_and(|last| last.starts_with(&said))
                };
                assert!(eventually(SETTLED, || counted(&shown())), "{}: {said}: {}", host.netns(), shown());
            }
        }
    }
    for host in [1, 2].map(|n| scene.lab.host(n)) {
        let summary = host.weave(&["status"]).expect("status");
        for channel in &channels {
            let (all, name) = (unusable(&scene.member, channel), channel.name());
            let (_, last) = all.last().expect("some");
            let row = format!("Channel: {name}: {} entries could not be used, the last: of ", all.len());
            assert!(summary.contains(&format!("{row}{}: {last}", peer_name(9))), "{summary}");
            let shown = self::channel(host, name).expect("the channel");
            assert_eq!([&shown["known"], &shown["errors"]], [&json!(true), &json!(all.len())], "{shown}");
        }
        assert_eq!(summary.matches("entries could not be used").count(), channels.len(), "{summary}");
    }
    // Nothing is closed or held against the peer: what it says next that can be read is taken.
    scene.is_linked(link);
    scene.member.record.point.1 += 100;
    "mended".clone_into(&mut scene.member.record.nickname);
    let record = scene.member.next_record();
    scene.member.tell(link, vec![record]);
    for n in [1, 2] {
        assert!(eventually(SETTLED, || scene.tells(n, "mended")), "host {n} does not take what can be read again");
    }
    scene.all_is_well();
}

#[test]
#[ignore = "needs root"]
fn a_field_that_no_version_knows_is_carried_along_and_the_others_are_used() {
    let mut scene = Scene::new("lmbfield");
    let near = scene.member.join(underlay(1)).expect("a link");
    let far = scene.member.join(underlay(2)).expect("a link");
    "later".clone_into(&mut scene.member.record.nickname);
    let record = scene.member.next_record_with("colour", &json!({ "deep": [1, "two", null, { "three": -3.5 }] }));
    // Told to host 1 alone: what host 2 has of this version came by way of it.
    scene.member.tell(near, vec![record.clone()]);
    for n in [1, 2] {
        assert!(eventually(SETTLED, || scene.tells(n, "later")), "host {n} does not take the record");
    }
    for (n, link) in [(1, near), (2, far)] {
        // The version before may be on its way still.
        let same = || scene.member.ask(link, name(9)).is_ok_and(|held| held == record);
        assert!(eventually(SETTLED, same), "host {n} holds something else than what was signed");
    }
    assert_eq!(channel(scene.lab.host(1), "peers").expect("the channel")["errors"], 0);
    scene.all_is_well();
}

#[test]
#[ignore = "needs root"]
fn ranges_of_versions_that_overlap_are_welcome_and_others_are_named_in_the_refusal() {
    let mut scene = Scene::new("lmbvers");
    let (min, max) = VERSIONS;
    for (oldest, newest) in [(0, min - 1), (max + 1, 9)] {
        let link = scene.member.offer(underlay(1), (oldest, newest)).expect("a link");
        let refusal = scene.member.refusal(link).expect("a refusal");
        let both = format!("remote version range [{oldest},{newest}] is incompatible with ours [{min},{max}]");
        assert_eq!(refusal, format!("{both}: upgrade the older one"));
        assert!(scene.member.is_closed(link, SETTLED), "[{oldest},{newest}] is refused, and the link stays open");
        assert!(!scene.tells(1, "by-hand"), "who is refused is held for a peer");
        scene.nobody_else_is_disturbed();
    }
    for (oldest, newest) in [(0, max), (min, 7)] {
        let nickname = format!("speaks-{oldest}-{newest}");
        scene.member.record.point.1 += 1;
        scene.member.record.nickname.clone_from(&nickname);
        let link = scene.member.offer(underlay(1), (oldest, newest)).expect("a link");
        scene.member.hear(link, SETTLED, |m| matches!(m, Message::Handshake(_))).expect("a hello");
        for n in [1, 2] {
            assert!(eventually(SETTLED, || scene.tells(n, &nickname)), "host {n} does not hear of {nickname}");
        }
        let linked = || scene.lab.host(1).is_linked(9);
        assert!(!eventually(HARMLESS, || !linked()), "{}", scene.lab.host(1).connections_text());
        scene.is_linked(link);
        scene.nobody_else_is_disturbed();
        scene.member.peer.close(link);
        assert!(eventually(SETTLED, || !linked()), "{}", scene.lab.host(1).connections_text());
    }
    scene.all_is_well();
}

#[test]
#[ignore = "needs root"]
fn a_flood_is_endured() {
    let mut scene = Scene::new("lmbflood");
    let link = scene.member.join(underlay(1)).expect("a link");
    let (member, lab) = (&mut scene.member, &scene.lab);
    let pids = [1, 2].map(|n| lab.host(n).pid().expect("a controller"));
    // An own record that changes all the time; strangers that nobody is linked to, in thousands; questions without end.
    let end = Instant::now() + Duration::from_secs(5);
    let mut round = 0;
    while Instant::now() < end {
        let versions = (0..100).map(|_| member.next_record()).collect();
        member.tell(link, versions);
        let strangers = (0..100_u64).map(|n| {
            let number = 1 + round * 100 + n;
            let [.., a, b, c, d] = number.to_be_bytes();
            let key = key(number);
            sign_record(&key, &record(&key, PeerName::from_bytes([2, 2, a, b, c, d]), Ipv4Addr::new(10, b, c, d)))
        });
        member.tell(link, strangers.collect());
        for _ in 0..50 {
            member.say(link, &Message::Digest(round));
            member.say(link, &Message::Buckets(vec![round; BUCKETS]));
        }
        member.say(link, &Message::Request(vec![want(member); PAGE_MAX]));
        // What comes back is read, or the link would end for that.
        while member.peer.next(Duration::ZERO).is_some() {}
        round += 1;
        for n in [1, 2] {
            lab.host(n).weave(&["status"]).expect("it answers meanwhile");
        }
    }
    let known = lab.host(1).known().expect("status");
    assert!(round > 1 && known > 100, "the flood was a trickle: {round} rounds, {known} peers");
    for (n, pid) in [(1, pids[0]), (2, pids[1])] {
        assert_eq!(lab.host(n).pid().expect("a controller"), pid, "the controller of host {n} is another");
        let memory = lab.host(n).memory().expect("its memory");
        assert!(memory < MEMORY_MAX, "the controller of host {n} has {memory} KiB");
    }
    scene.all_is_well();
}
