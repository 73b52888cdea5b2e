//! The programs with tables of their own, unpinned and unattached.

use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions, TestRunResult,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::{ProgramError, SchedClassifier, Xdp},
};
use weave_common::{
    addr::{Ip4, PeerKey},
    bucket::Bucket,
    config::Config,
    counters::{Count, Counter},
    device::{Device, DeviceKey},
    dns::{NameAddrs, NameKey},
    drop::DropReason,
    endpoint::{Endpoint, EndpointKey},
    local::{Local, LocalKey},
    map,
    probe::{ContactEvent, ProbeKeys, ReplyEvent},
    route::Route,
    tunnel::{Sender, SenderKey, Tunnel},
};
use weave_ctl::shell::datapath::abi::Abi;

use super::frames;

/// Room for the packet that comes out.
const OUT_LEN: usize = 16384;
/// Size of the kernel's `struct __sk_buff`, and where it keeps the segment size.
const SKB_LEN: usize = 192;
const SKB_GSO_SIZE_AT: usize = 176;
const SKB_MARK_AT: usize = 8;

/// What a program answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `TC_ACT_REDIRECT`, `XDP_REDIRECT`.
    Redirect,
    /// `TC_ACT_SHOT`, `XDP_DROP`.
    Drop,
    /// `TC_ACT_UNSPEC`, `XDP_PASS`: on to whoever is next.
    Pass,
    /// `XDP_TX`.
    Transmit,
    /// Anything else, which no program may answer.
    Other(u32),
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The answer.
    pub verdict: Verdict,
    /// The packet afterwards.
    pub frame: Vec<u8>,
    /// The reasons counted.
    pub drops: Vec<DropReason>,
    /// The counters that moved, and by how many bytes.
    pub counted: Vec<(Counter, u64)>,
}

/// Loaded programs and typed maps.
pub struct Rig {
    ebpf: Ebpf,
    /// Containers.
    pub endpoints: HashMap<MapData, Abi<EndpointKey>, Abi<Endpoint>>,
    /// The ring.
    pub routes: LpmTrie<MapData, Abi<Ip4>, Abi<Route>>,
    /// Peers.
    pub tunnels: HashMap<MapData, Abi<PeerKey>, Abi<Tunnel>>,
    /// Who may send.
    pub senders: HashMap<MapData, Abi<SenderKey>, Abi<Sender>>,
    /// Devices with XDP.
    pub devices: HashMap<MapData, Abi<DeviceKey>, Abi<Device>>,
    /// This host's underlay addresses.
    pub locals: HashMap<MapData, Abi<LocalKey>, Abi<Local>>,
    /// Names.
    pub names: HashMap<MapData, Abi<NameKey>, Abi<NameAddrs>>,
    /// Settings.
    pub config: Array<MapData, Abi<Config>>,
    /// Keys of cookies.
    pub keys: Array<MapData, Abi<ProbeKeys>>,
    /// How many contacts may still go up.
    pub limits: Array<MapData, Abi<Bucket>>,
    replies: RingBuf<MapData>,
    contacts: RingBuf<MapData>,
    drops: PerCpuArray<MapData, u64>,
    counters: PerCpuArray<MapData, Abi<Count>>,
}

/// Every program of the object, also the one that is never attached.
const PROGRAMS: [&str; 6] =
    [map::PROG_CONTAINER, map::PROG_UNDERLAY, map::PROG_SOCKET, map::PROG_PROBER, map::PROG_XDP, map::PROG_PROBE];
/// Size of the kernel's `struct xdp_md`, and where it keeps the end of the data and the device.
const MD_LEN: usize = 24;
const MD_END_AT: usize = 4;
const MD_IFINDEX_AT: usize = 12;

fn text(error: impl std::fmt::Display + std::fmt::Debug) -> String {
    format!("{error} ({error:?})")
}

fn load(object: &[u8]) -> Result<Ebpf, String> {
    let mut ebpf = EbpfLoader::new().btf(None).load(object).map_err(text)?;
    for name in PROGRAMS {
        let program = ebpf.program_mut(name).ok_or(format!("no program {name}"))?;
        if name == map::PROG_XDP {
            <&mut Xdp>::try_from(program).map_err(text)?.load().map_err(text)?;
        } else {
            <&mut SchedClassifier>::try_from(program).map_err(text)?.load().map_err(text)?;
        }
    }
    Ok(ebpf)
}

/// Loads every program, and tells how many instructions the verifier walked in each; `None` before kernel 5.16.
///
/// # Errors
/// What the kernel said of the first program that it refused.
pub fn verify_all(object: &[u8]) -> Result<Vec<(String, Option<u32>)>, String> {
    let ebpf = load(object)?;
    let count = |name: &str| {
        let info = ebpf.program(name).ok_or("no such program")?.info().map_err(text)?;
        Ok((name.to_owned(), info.verified_instruction_count()))
    };
    PROGRAMS.into_iter().map(count).collect()
}

macro_rules! take {
    ($ebpf:ident, $name:expr) => {
        $ebpf.take_map($name).ok_or(concat!("no map ", stringify!($name)))?.try_into().map_err(text)?
    };
}

impl Rig {
    /// Loads the programs.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn load(object: &[u8]) -> Result<Self, String> {
        let mut ebpf = load(object)?;
        Ok(Self {
            endpoints: take!(ebpf, map::ENDPOINTS),
            routes: take!(ebpf, map::ROUTES),
            tunnels: take!(ebpf, map::TUNNELS),
            senders: take!(ebpf, map::SENDERS),
            devices: take!(ebpf, map::DEVICES),
            locals: take!(ebpf, map::LOCALS),
            names: take!(ebpf, map::NAMES),
            config: take!(ebpf, map::CONFIG),
            keys: take!(ebpf, map::KEYS),
            limits: take!(ebpf, map::LIMITS),
            replies: take!(ebpf, map::REPLIES),
            contacts: take!(ebpf, map::CONTACTS),
            drops: take!(ebpf, map::DROPS),
            counters: take!(ebpf, map::COUNTERS),
            ebpf,
        })
    }

    /// Fills the tables with the network of `frames`, and nothing else.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn reset(&mut self) -> Result<(), String> {
        for key in self.endpoints.keys().collect::<Result<Vec<_>, _>>().map_err(text)? {
            self.endpoints.remove(&key).map_err(text)?;
        }
        for key in self.routes.keys().collect::<Result<Vec<_>, _>>().map_err(text)? {
            self.routes.remove(&key).map_err(text)?;
        }
        for key in self.tunnels.keys().collect::<Result<Vec<_>, _>>().map_err(text)? {
            self.tunnels.remove(&key).map_err(text)?;
        }
        for key in self.senders.keys().collect::<Result<Vec<_>, _>>().map_err(text)? {
            self.senders.remove(&key).map_err(text)?;
        }
        for key in self.devices.keys().collect::<Result<Vec<_>, _>>().map_err(text)? {
            self.devices.remove(&key).map_err(text)?;
        }
        for key in self.names.keys().collect::<Result<Vec<_>, _>>().map_err(text)? {
            self.names.remove(&key).map_err(text)?;
        }
        for key in self.locals.keys().collect::<Result<Vec<_>, _>>().map_err(text)? {
            self.locals.remove(&key).map_err(text)?;
        }
        self.local(frames::HERE_UNDERLAY)?;
        self.config.set(0, Abi(frames::CONFIG), 0).map_err(text)?;
        self.keys.set(0, Abi(frames::KEYS), 0).map_err(text)?;
        self.limits.set(0, Abi(Bucket::default()), 0).map_err(text)?;
        self.replies()?;
        self.contacts()?;
        for (addr, endpoint) in frames::endpoints() {
            self.endpoint(addr, endpoint)?;
        }
        self.route(frames::LOCAL_NET, Route::LOCAL)?;
        self.route(frames::PEER_NET, Route::to_peer(frames::PEER))?;
        self.route(frames::LOST_NET, Route::to_peer(frames::LOST_PEER))?;
        self.route(frames::FAR_NET, Route::to_peer(frames::FAR_PEER))?;
        self.tunnels.insert(Abi(frames::PEER), Abi(frames::tunnel()), 0).map_err(text)?;
        self.tunnels.insert(Abi(frames::FAR_PEER), Abi(frames::far_tunnel()), 0).map_err(text)?;
        self.sender(Sender::new(frames::PEER))
    }

    /// Adds or replaces the peer's underlay address.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn sender(&mut self, sender: Sender) -> Result<(), String> {
        self.senders.insert(Abi(SenderKey::new(frames::PEER_UNDERLAY)), Abi(sender), 0).map_err(text)
    }

    /// Adds or replaces a tunnel.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn tunnel(&mut self, peer: PeerKey, tunnel: Tunnel) -> Result<(), String> {
        self.tunnels.insert(Abi(peer), Abi(tunnel), 0).map_err(text)
    }

    /// A tunnel as it is now.
    ///
    /// # Errors
    /// When there is none.
    pub fn tunnel_now(&self, peer: PeerKey) -> Result<Tunnel, String> {
        self.tunnels.get(&Abi(peer), 0).map(|Abi(tunnel)| tunnel).map_err(text)
    }

    /// The answers that were given to the controller since this was last asked.
    ///
    /// # Errors
    /// When one has another length.
    pub fn replies(&mut self) -> Result<Vec<ReplyEvent>, String> {
        taken(&mut self.replies)
    }

    /// The contacts, likewise.
    ///
    /// # Errors
    /// When one has another length.
    pub fn contacts(&mut self) -> Result<Vec<ContactEvent>, String> {
        taken(&mut self.contacts)
    }

    /// Adds or replaces a container.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn endpoint(&mut self, addr: Ip4, endpoint: Endpoint) -> Result<(), String> {
        self.endpoints.insert(Abi(EndpointKey::new(addr)), Abi(endpoint), 0).map_err(text)
    }

    /// Makes `addr` an underlay address of this host.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn local(&mut self, addr: Ip4) -> Result<(), String> {
        self.locals.insert(Abi(LocalKey::new(addr)), Abi(Local { ifindex: frames::OWN_IF }), 0).map_err(text)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn route(&mut self, (addr, len): (Ip4, u32), route: Route) -> Result<(), String> {
        self.routes.insert(&Key::new(len, Abi(addr)), Abi(route), 0).map_err(text)
    }

    /// Runs a program on an ordinary packet.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn run(&self, program: &str, frame: &[u8]) -> Result<Ran, String> {
        self.run_gso(program, frame, 0)
    }

    /// Runs a program on a packet that claims to be a super-packet with segments of `gso_size`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn run_gso(&self, program: &str, frame: &[u8], gso_size: u32) -> Result<Ran, String> {
        self.run_with(program, frame, SKB_GSO_SIZE_AT, gso_size)
    }

    /// Runs a program on a packet with this mark.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn run_marked(&self, program: &str, frame: &[u8], mark: u32) -> Result<Ran, String> {
        self.run_with(program, frame, SKB_MARK_AT, mark)
    }

    /// The same, and the packet's mark afterwards.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn mark_after(&self, program: &str, frame: &[u8], mark: u32) -> Result<(Ran, u32), String> {
        let loaded = self.ebpf.program(program).ok_or("no such program")?;
        let loaded = <&SchedClassifier>::try_from(loaded).map_err(text)?;
        let (mut context, mut after) = ([0_u8; SKB_LEN], [0_u8; SKB_LEN]);
        context[SKB_MARK_AT..SKB_MARK_AT + 4].copy_from_slice(&mark.to_ne_bytes());
        let run = |options: TestRunOptions<'_>| {
            let mut options: TestRunOptions<'_> = options;
            options.ctx_out = Some(&mut after);
            loaded.test_run(options)
        };
        let ran = self.ran(frame, Some(&context), run, tc_verdict)?;
        let mark = after[SKB_MARK_AT..].first_chunk().ok_or("no mark")?;
        Ok((ran, u32::from_ne_bytes(*mark)))
    }

    fn run_with(&self, program: &str, frame: &[u8], at: usize, value: u32) -> Result<Ran, String> {
        let loaded = self.ebpf.program(program).ok_or("no such program")?;
        let loaded = <&SchedClassifier>::try_from(loaded).map_err(text)?;
        let mut context = [0_u8; SKB_LEN];
        context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        let context = (value != 0).then_some(&context[..]);
        self.ran(frame, context, |options| loaded.test_run(options), tc_verdict)
    }

    /// Runs a program that leaves packets as they are `times` times on one.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn repeat(&self, program: &str, frame: &[u8], times: u32) -> Result<Ran, String> {
        let loaded = self.ebpf.program(program).ok_or("no such program")?;
        let loaded = <&SchedClassifier>::try_from(loaded).map_err(text)?;
        let run = |mut options: TestRunOptions<'_>| {
            options.repeat = times;
            loaded.test_run(options)
        };
        self.ran(frame, None, run, tc_verdict)
    }

    /// Nanoseconds that a program of traffic control needs for an ordinary packet.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn time(&self, program: &str, frame: &[u8]) -> Result<f64, String> {
        let loaded = self.ebpf.program(program).ok_or("no such program")?;
        let loaded = <&SchedClassifier>::try_from(loaded).map_err(text)?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        Ok(loaded.test_run(options).map_err(text)?.duration.as_secs_f64() * 1e9)
    }

    /// Runs the XDP program on a frame that came by device `ifindex` of the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn run_xdp(&self, ifindex: u32, frame: &[u8]) -> Result<Ran, String> {
        let loaded = self.ebpf.program(map::PROG_XDP).ok_or("no such program")?;
        let loaded = <&Xdp>::try_from(loaded).map_err(text)?;
        let mut context = [0_u8; MD_LEN];
        let end = u32::try_from(frame.len()).map_err(text)?;
        context[MD_END_AT..MD_END_AT + 4].copy_from_slice(&end.to_ne_bytes());
        context[MD_IFINDEX_AT..MD_IFINDEX_AT + 4].copy_from_slice(&ifindex.to_ne_bytes());
        self.ran(frame, Some(&context), |options| loaded.test_run(options), xdp_verdict)
    }

    fn ran(
        &self,
        frame: &[u8],
        context: Option<&[u8]>,
        run: impl FnOnce(TestRunOptions<'_>) -> Result<TestRunResult, ProgramError>,
        verdict: fn(u32) -> Verdict,
    ) -> Result<Ran, String> {
        let mut out = vec![0; OUT_LEN];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        options.ctx_in = context;
        let (drops, counters) = (self.dropped()?, self.passed()?);
        let result = run(options).map_err(text)?;
        out.truncate(result.data_size_out as usize);
        let drops = moved(&drops, &self.dropped()?, DropReason::ALL);
        let counted = moved(&counters, &self.passed()?, Counter::ALL);
        let drops = drops.into_iter().flat_map(|(reason, n)| vec![reason; n as usize]).collect();
        Ok(Ran { verdict: verdict(result.return_value), frame: out, drops, counted })
    }

    fn dropped(&self) -> Result<Vec<u64>, String> {
        let sum = |reason: &DropReason| Ok(self.drops.get(&(*reason as u32), 0).map_err(text)?.iter().sum());
        DropReason::ALL.iter().map(sum).collect()
    }

    fn passed(&self) -> Result<Vec<u64>, String> {
        let sum = |counter: &Counter| {
            let values = self.counters.get(&(*counter as u32), 0).map_err(text)?;
            Ok(values.iter().map(|Abi(count)| count.bytes).sum())
        };
        Counter::ALL.iter().map(sum).collect()
    }
}

/// All that is in a ring.
fn taken<T: bytemuck::Pod>(ring: &mut RingBuf<MapData>) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    while let Some(entry) = ring.next() {
        all.push(bytemuck::try_pod_read_unaligned(&entry).map_err(text)?);
    }
    Ok(all)
}

fn tc_verdict(answer: u32) -> Verdict {
    match answer {
        7 => Verdict::Redirect,
        2 => Verdict::Drop,
        u32::MAX => Verdict::Pass,
        other => Verdict::Other(other),
    }
}

fn xdp_verdict(answer: u32) -> Verdict {
    match answer {
        4 => Verdict::Redirect,
        3 => Verdict::Transmit,
        2 => Verdict::Pass,
        1 => Verdict::Drop,
        other => Verdict::Other(other),
    }
}

/// Which figures grew, and by how much.
fn moved<T: Copy>(before: &[u64], after: &[u64], names: &[T]) -> Vec<(T, u64)> {
    let grown = names.iter().zip(before.iter().zip(after)).filter(|(_, (before, after))| after > before);
    grown.map(|(name, (before, after))| (*name, after - before)).collect()
}

impl Ran {
    /// Fails unless the packet was dropped for `reason`, and only that was counted.
    ///
    /// # Errors
    /// What happened instead.
    pub fn dropped_for(&self, reason: DropReason) -> Result<(), String> {
        if self.verdict == Verdict::Drop && self.drops == [reason] && self.counted.is_empty() {
            return Ok(());
        }
        Err(format!("expected a drop for {}, got {self:02x?}", reason.as_str()))
    }

    /// Fails unless the packet was redirected and counted under `counter` with `bytes`; gives the packet.
    ///
    /// # Errors
    /// What happened instead.
    pub fn redirected_as(self, counter: Counter, bytes: usize) -> Result<Vec<u8>, String> {
        self.sent_as(Verdict::Redirect, counter, bytes)
    }

    /// Fails unless the verdict was this, and the packet counted under `counter` with `bytes`; gives the packet.
    ///
    /// # Errors
    /// What happened instead.
    pub fn sent_as(self, verdict: Verdict, counter: Counter, bytes: usize) -> Result<Vec<u8>, String> {
        if self.verdict == verdict && self.drops.is_empty() && self.counted == [(counter, bytes as u64)] {
            return Ok(self.frame);
        }
        Err(format!("expected {verdict:?} as {} of {bytes} bytes, got {self:02x?}", counter.as_str()))
    }

    /// Fails unless the packet passed as it came, and nothing was counted.
    ///
    /// # Errors
    /// What happened instead.
    pub fn passed_untouched(&self, frame: &[u8]) -> Result<(), String> {
        if self.verdict == Verdict::Pass && self.drops.is_empty() && self.counted.is_empty() && self.frame == frame {
            return Ok(());
        }
        Err(format!("expected it to pass untouched, got {self:02x?}"))
    }
}
