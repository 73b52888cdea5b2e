//! From a validated configuration to a running driver: everything that can refuse is asked before anything is changed.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::Ipv4Net;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant as Clock, sleep},
};
use tracing::warn;
use weave_common::{
    config::{Config, DNS_ANSWERED, SCHEMA},
    vxlan,
};

use super::{Driver, JOBS_MAX, RunError, attach::Attaching, reconcile::Reconcile};
use crate::{
    config::{
        LaunchConfig,
        dns::{DnsConfig, DnsKernel},
        secret::Secret,
    },
    proto::{
        boot::{self, Boot, Installed, LaunchParams},
        domain::Domain,
        io::{Input, MapOp, TunnelTo},
        ipam::service_address,
        key::SecretKey,
        name::PeerName,
        node::Node,
        reservation::Netns,
        rng::Rng,
        time::Instant,
        wire::entry::Verify,
    },
    shell::{
        QUEUE,
        control::{self, Call, Control},
        datapath::{Datapath, DatapathError, Existing},
        dns::{NameTable, Resolver, ResolverConfig},
        endpoints,
        host::{Host, Scan, TableWatch},
        identity,
        links::{Links, LinksConfig},
        lock::{self, Lock, LockError},
        neighbours::Neighbours,
        netns::{self, OpenNetns},
        overlap,
        prober::{Prober, ProberConfig},
        slow_path::{SlowPath, Table},
        socket_device,
        store::Store,
    },
};

/// Time that a holder of a directory is given to let go of it.
const HOLDER_ENDS: Duration = Duration::from_secs(1);
/// Pause between two looks whether it has.
const HOLDER_POLL: Duration = Duration::from_millis(10);

impl Driver {
    pub(super) async fn start(config: LaunchConfig) -> Result<Self, RunError> {
        Datapath::check_dir(&config.dirs.bpf)?;
        let locks = [hold(&config.dirs.state).await?, hold(&config.dirs.bpf).await?];
        let bpf_dir = config.dirs.bpf.clone();
        let socket_device = socket_device::name(config.launch.port.saturating_add(1));
        let before = (Datapath::is_pinned(&bpf_dir), socket_device::index(&socket_device).await?.is_some());
        let started = Self::build(config, locks).await;
        if started.is_err() {
            take_back(&bpf_dir, &socket_device, before).await;
        }
        started
    }

    async fn build(config: LaunchConfig, locks: [Lock; 2]) -> Result<Self, RunError> {
        let LaunchConfig { launch, listen, secret, xdp, dns, dirs, warnings: _ } = config;
        let (store, stored) = Store::open(&dirs.state)?;
        // A network that exists is not kept from starting again by a route that came since.
        let chosen = launch.range.is_some() || stored.params.is_some();
        let new_key = SecretKey::from_bytes(entropy().map_err(RunError::Runtime)?);
        let boot = boot::resume(stored, &launch, identity::derive(), new_key)?;
        let overlap = look_for_overlap(boot.params.range, chosen).await?;
        let (port, data_port) = (launch.port, launch.port.saturating_add(1));
        let (links, inputs) = links((listen, port).into(), secret, boot.params.range).await?;
        let (mut datapath, existing, socket_device) = dataplane(&dirs.bpf, port, &boot, dns.as_ref()).await?;
        let (names, resolver) = resolver(dns, &launch.dns_domain, &boot.params)?;
        let mut installed = installed(existing, resolver.as_ref().and_then(|(_, netns)| netns.place())).await?;
        adopt_names(&mut datapath, &names, &launch.dns_domain, &mut installed)?;

        let (host_sender, host_events) = mpsc::channel(QUEUE);
        let tables = TableWatch { table: Table::of(data_port).id(), changed: Arc::default() };
        let (host, scan) = Host::start(data_port, host_sender, tables.clone()).await?;
        let slow_path = SlowPath::start(data_port, tunnels(&installed), tables.changed);
        let (me, seed, clock) = (boot.identity.name, entropy().map_err(RunError::Runtime)?, Clock::now());
        let node = Node::new(boot, &launch, &installed, seed, Arc::new(Verify), Instant::default());
        let prober = prober(&mut datapath, me, data_port, clock)?;
        let (control, calls) = control(&dirs.run).await?;
        let mut driver = Self {
            node,
            store: Arc::new(store),
            links,
            programs: datapath.worker(),
            attaching: Attaching::of(&datapath),
            lost_events: datapath.lost_events()?,
            datapath,
            control: Some(control),
            dirs,
            socket_device,
            data_port,
            socket_steps: mpsc::channel(1),
            socket_busy: false,
            overlap,
            xdp,
            clock,
            inputs,
            calls,
            host,
            slow_path,
            host_events,
            finished: mpsc::channel(QUEUE),
            jobs: Arc::new(Semaphore::new(JOBS_MAX)),
            replies: BTreeMap::new(),
            next_request: 0,
            pending: VecDeque::new(),
            devices: BTreeMap::new(),
            unattached: BTreeMap::new(),
            egress_blocked: Vec::new(),
            egresses: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            scan: Scan::default(),
            reconcile: Reconcile::new(clock),
            neighbours: Neighbours::watch(),
            resolver,
            names: (names, launch.dns_domain),
            prober,
            former_key: true,
            disk_low: false,
            looks: 0,
            _locks: locks,
        };
        driver.resume(&installed, scan).await?;
        give_memory_back();
        Ok(driver)
    }

    /// The first turn: makes the launch durable, puts programs where containers and underlay devices already are.
    async fn resume(&mut self, installed: &Installed, scan: Scan) -> Result<(), RunError> {
        self.host.keep_watch_of(self.datapath.socket_device());
        for host_if in self.node.interfaces() {
            // The node told of none that is not among these.
            let ifindex = installed.endpoints.get(&host_if).copied().unwrap_or_default();
            self.programs.ask(move |programs| programs.attach_container(ifindex)).await??;
            self.has_endpoint(&host_if, ifindex);
        }
        // A new node only makes its launch durable and writes maps; nobody can have asked it to end yet.
        self.drain().await?;
        let underlay = scan.underlay.clone();
        self.scan = scan;
        if let Err(error) = self.datapath.set_locals(&self.scan.locals) {
            warn!("{error}; packets to addresses of this host that are not in it are delivered more slowly");
        }
        let attached = self.ask_for_programs().await?;
        self.underlay_attached(attached).map_err(RunError::Xdp)?;
        self.tell_neighbourhood();
        self.input(Input::Underlay(underlay)).await?;
        Ok(())
    }
}

/// The API, and what callers want.
async fn control(run_dir: &Path) -> Result<(Control, mpsc::Receiver<Call>), RunError> {
    let (calls, wanted) = mpsc::channel(QUEUE);
    Ok((control::start(run_dir, calls).await?, wanted))
}

/// Sessions, and what they tell.
async fn links(
    listen: SocketAddr,
    secret: Option<Secret>,
    range: Ipv4Net,
) -> Result<(Links, mpsc::Receiver<Input>), RunError> {
    let (to_driver, inputs) = mpsc::channel(QUEUE);
    let links = Links::start(LinksConfig { listen, secret, range, control_port: listen.port() }, to_driver).await?;
    Ok((links, inputs))
}

/// A sentence about a route of this host that leads into the range.
async fn look_for_overlap(range: Ipv4Net, chosen: bool) -> Result<Option<String>, RunError> {
    match overlap::find(range).await {
        Ok(Some(route)) if !chosen => Err(RunError::Overlap { range, route }),
        Ok(route) => Ok(route.map(|route| {
            let text = format!(
                "the range {range} overlaps this host's route {route}: by addresses in both, containers mean containers, \
                 and this host means other hosts"
            );
            warn!("{text}");
            text
        })),
        Err(error) => {
            warn!("cannot tell whether this host has routes into the range {range}: {error}");
            Ok(None)
        }
    }
}

/// The VXLAN socket device and the programs: the device's own is in place before the data port is open. A device of an
/// earlier run keeps the port until the programs are loaded.
async fn dataplane(
    bpf_dir: &Path,
    port: u16,
    boot: &Boot,
    dns: Option<&DnsConfig>,
) -> Result<(Datapath, Existing, String), RunError> {
    let data_port = port.saturating_add(1);
    let socket_device = socket_device::name(data_port);
    let socket_ifindex = socket_device::prepare(&socket_device, data_port).await?;
    let answered = dns.is_some_and(|dns| dns.kernel == DnsKernel::Auto);
    let config = Config {
        schema: SCHEMA,
        vni: vxlan::VNI,
        data_port,
        pad: 0,
        socket_ifindex,
        me: boot.identity.name.bytes(),
        pad2: [0; 2],
        service: service_address(boot.params.default_subnet).octets(),
        dns_ttl: dns.map_or(0, |dns| dns.ttl),
        dns: if answered { DNS_ANSWERED } else { 0 },
    };
    let (mut datapath, existing) = Datapath::open(bpf_dir, config)?;
    socket_device::make(&socket_device, data_port).await?;
    let ifindex = socket_device::index(&socket_device).await?.unwrap_or(0);
    datapath.programs().attach_socket_device(ifindex)?;
    socket_device::raise(&socket_device, data_port).await?;
    datapath.set_socket_device(ifindex)?;
    Ok((datapath, existing, socket_device))
}

/// Names that an earlier run left in the kernel are served until peers say theirs; one of another domain is none.
fn adopt_names(
    datapath: &mut Datapath,
    table: &NameTable,
    domain: &Domain,
    installed: &mut Installed,
) -> Result<(), DatapathError> {
    for (text, addrs) in datapath.names()? {
        match domain.name(&format!("{text}.")) {
            Ok(name) if installed.adopted => {
                table.put(&text, &addrs);
                installed.maps.push(MapOp::PutName(name, addrs));
            }
            _ => datapath.put_name(&text, &[])?,
        }
    }
    Ok(())
}

/// The names that are served, and the resolver, where there shall be one, in a namespace of its own.
#[expect(clippy::type_complexity, reason = "made and taken apart once")]
fn resolver(
    dns: Option<DnsConfig>,
    domain: &Domain,
    params: &LaunchParams,
) -> Result<(Arc<NameTable>, Option<(Resolver, OpenNetns)>), RunError> {
    let names = Arc::new(NameTable::default());
    let Some(dns) = dns else { return Ok((names, None)) };
    let netns = OpenNetns::fresh().map_err(RunError::Runtime)?;
    let service = service_address(params.default_subnet);
    let config = ResolverConfig { dns, domain: domain.to_string(), range: params.range, service };
    let resolver = Resolver::start(&config, Arc::clone(&names), &netns)?;
    Ok((names, Some((resolver, netns))))
}

/// What an earlier run left in the kernel.
async fn installed(existing: Existing, service: Option<Netns>) -> Result<Installed, RunError> {
    // Before 1970 or not to be had, times of reservations begin at zero: they are for people, and order those absent.
    let unix_start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (adopted, maps) = (existing.adopted, existing.maps);
    Ok(Installed { adopted, maps, endpoints: endpoints::list().await?, boot: netns::boot(), unix_start, service })
}

/// Holds `dir`. One that was just killed lets go of it only when the kernel has closed its maps, so a holder is given
/// [`HOLDER_ENDS`].
async fn hold(dir: &Path) -> Result<Lock, LockError> {
    let deadline = Clock::now() + HOLDER_ENDS;
    loop {
        match lock::take(dir) {
            Err(LockError::Held { .. }) if Clock::now() < deadline => sleep(HOLDER_POLL).await,
            taken => return taken,
        }
    }
}

/// Takes back what a launch that failed made in the kernel; what was there `before` (pins, socket_device) stays.
async fn take_back(bpf_dir: &Path, socket_device: &str, (pinned, had_device): (bool, bool)) {
    // Whoever holds the directory by now needs what is there.
    let Ok(_lock) = lock::take(bpf_dir) else { return };
    if !pinned && let Err(left) = Datapath::teardown(bpf_dir) {
        warn!("{left}");
    }
    if !had_device && let Err(left) = socket_device::remove(socket_device).await {
        warn!("{left}");
    }
}

/// Gives the memory back that only starting needs: to derive a key from a password and to read the kernel's types takes
/// several times what a running controller does. glibc keeps it, as it takes what was freed once to be asked for again.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches no memory in use. Whether there was any to give is no matter.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The prober, with a key of its own run.
fn prober(datapath: &mut Datapath, me: PeerName, data_port: u16, clock: Clock) -> Result<Prober, RunError> {
    let mut rng = Rng::new(entropy().map_err(RunError::Runtime)?);
    let key = key(&mut rng);
    datapath.set_probe_key(key)?;
    let config = ProberConfig { me, data_port, key, started: clock.into_std() };
    Ok(Prober::start(config, datapath.take_rings()?, datapath.socket_device(), rng)?)
}

/// A key of cookies; zero stands for none.
fn key(rng: &mut Rng) -> [u64; 2] {
    [rng.bits() | 1, rng.bits()]
}

/// The tunnels that the kernel holds.
fn tunnels(installed: &Installed) -> impl Iterator<Item = (PeerName, &TunnelTo)> {
    installed.maps.iter().filter_map(|op| match op {
        MapOp::PutTunnel(peer, tunnel) => Some((*peer, tunnel)),
        _ => None,
    })
}

/// Random bytes from the kernel, for a key or a seed. Waits, early after a boot, until the kernel's generator is seeded.
fn entropy() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
