//! The resolver: answers containers' questions for names, and passes other questions on to the host's servers.
//!
//! Its sockets for containers are in a namespace of the controller's own, which the service endpoint joins to the network: no
//! socket, firewall or route of the host is in the way there, and nothing of the host can be reached by it. Sockets of
//! `--dns-listen`, and those by which other servers are asked, are the host's.
//! `table` holds names as the driver wrote them last; `answer` decides; `server` has the sockets; `forward`, `cache` and
//! `upstream` ask others.

mod answer;
mod cache;
mod forward;
mod limit;
mod server;
mod table;
mod upstream;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use tokio::{task::JoinHandle, time::sleep};
use tracing::{info, warn};

pub use self::table::NameTable;
use self::{
    answer::Zone,
    forward::Forwarder,
    server::{Datagrams, Neighbourhood, Scope, Shared},
    upstream::{Own, PORT, ResolvConf},
};
use super::netns::{NetnsError, OpenNetns};
use crate::{config::dns::DnsConfig, proto::status::ResolverStatus};

/// The host's servers (resolv.conf(5)).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Time between two looks whether they changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of questions that wait in the kernel.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Why questions cannot be answered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The namespace cannot be entered.
    #[error("cannot answer questions for names: {0}")]
    Netns(#[from] NetnsError),
    /// The kernel gave no socket there.
    #[error("cannot answer questions for names: {0}")]
    Socket(io::Error),
    /// Nor on the host.
    #[error("cannot answer questions for names on {addr} (--dns-listen): {source}; nothing was changed")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// What is served, and how others are asked.
#[derive(Clone, Debug)]
pub struct ResolverConfig {
    /// As the operator wants it.
    pub dns: DnsConfig,
    /// The domain, without a dot at the end.
    pub domain: String,
    /// The network's range.
    pub range: Ipv4Net,
    /// The service address.
    pub service: Ipv4Addr,
}

/// A running resolver; it ends when dropped.
#[derive(Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
    neighbourhood: Arc<Neighbourhood>,
    config: DnsConfig,
    tasks: Vec<JoinHandle<()>>,
    _datagrams: Vec<Datagrams>,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Resolver {
    /// Answers in `netns`, and where the operator wants it on the host.
    ///
    /// # Errors
    /// A socket cannot be had.
    pub fn start(config: &ResolverConfig, table: Arc<NameTable>, netns: &OpenNetns) -> Result<Self, ResolverError> {
        let (udp, tcp) = netns.run(|| sockets((Ipv4Addr::UNSPECIFIED, PORT).into()))?.map_err(ResolverError::Socket)?;
        let mut all = vec![(udp, tcp, Scope::Containers)];
        let neighbourhood = Arc::new(Neighbourhood::new(config.range));
        for addr in &config.dns.listen {
            let listening = sockets(*addr).map_err(|source| ResolverError::Listen { addr: *addr, source });
            let (udp, tcp) = listening?;
            all.push((udp, tcp, Scope::Host(Arc::clone(&neighbourhood))));
        }
        let forwarder = Arc::new(Forwarder::default());
        let zone = Zone { domain: config.domain.clone(), ttl: config.dns.ttl, range: config.range };
        let shared = Arc::new(Shared::new(table, zone, Arc::clone(&forwarder)));
        let (mut tasks, mut datagrams) = (Vec::new(), Vec::new());
        for (udp, tcp, scope) in all {
            let tcp = tokio::net::TcpListener::from_std(tcp).map_err(ResolverError::Socket)?;
            let server = Datagrams::start(Arc::clone(&shared), udp, scope.clone());
            datagrams.push(server.map_err(ResolverError::Socket)?);
            tasks.push(tokio::spawn(server::tcp(Arc::clone(&shared), tcp, scope)));
        }
        // What leads back here would go round.
        let own = Own::new(config.dns.listen.iter().copied().chain([(config.service, PORT).into()]));
        if config.dns.upstream.is_empty() {
            tasks.push(tokio::spawn(follow(ResolvConf::new(Path::new(RESOLV_CONF), own), forwarder)));
        } else {
            let (back, servers): (Vec<_>, Vec<_>) = config.dns.upstream.iter().partition(|server| own.has(**server));
            for server in back {
                warn!("{server} (--dns-upstream) is this resolver itself, and is not asked");
            }
            forwarder.set_servers(servers);
        }
        Ok(Self { shared, neighbourhood, config: config.dns.clone(), tasks, _datagrams: datagrams })
    }

    /// Sources on these networks may ask on the host's addresses; `own` are the host's.
    pub fn set_neighbourhood(&self, own: &[Ipv4Addr], on_link: &[Ipv4Net]) {
        self.neighbourhood.set(own, on_link);
    }

    /// How it is set up, and what became of questions.
    #[must_use]
    pub fn status(&self) -> ResolverStatus {
        let shown = |addrs: &[SocketAddr]| addrs.iter().map(ToString::to_string).collect();
        let counted = self.shared.stats.all();
        ResolverStatus {
            ttl_s: self.config.ttl,
            upstream: shown(&self.shared.forwarder.servers()),
            listen: shown(&self.config.listen),
            questions: counted.into_iter().map(|(what, count)| (what.to_owned(), count)).collect(),
        }
    }
}

/// Follows the host's resolv.conf, for ever.
async fn follow(mut file: ResolvConf, forwarder: Arc<Forwarder>) {
    let mut first = true;
    loop {
        let looked = tokio::task::spawn_blocking(move || {
            let servers = file.changed();
            (file, servers)
        });
        let Ok((back, servers)) = looked.await else { return };
        file = back;
        let unread = first && servers.is_none();
        first = false;
        if let Some(servers) = servers
            && (forwarder.set_servers(servers.clone()) || servers.is_empty())
        {
            let shown: Vec<String> = servers.iter().map(ToString::to_string).collect();
            match shown.is_empty() {
                true => {
                    warn!("{RESOLV_CONF} names no other server: questions for names outside of the domain are refused")
                }
                false => info!("questions for names outside of the domain go to {}", shown.join(" ")),
            }
        } else if unread {
            warn!("{RESOLV_CONF} cannot be read: questions for names outside of the domain are refused until it can");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Sockets for datagrams and connections at `addr`, in the namespace of this thread.
fn sockets(addr: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind(addr)?;
    // More than the usual bound of a socket: not given without CAP_NET_ADMIN, and then as much as may be.
    set_socket_recv_buffer_size_force(&udp, RECEIVE_BUFFER)
        .or_else(|_| set_socket_recv_buffer_size(&udp, RECEIVE_BUFFER))?;
    let tcp = TcpListener::bind(addr)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}
