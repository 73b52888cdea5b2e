//! Sockets: questions in, answers out.
//!
//! Datagrams are read by a thread a socket (`datagrams`), connections by tasks. A question is answered where it is read when
//! the table knows, else by a task of its own. An error of a socket never ends its server.
//! Bounds: those of [`Limit`] and of the forwarder; [`CONNECTIONS_MAX`] connections, [`OF_SOURCE_MAX`] of one source, each
//! silent for at most [`IDLE`].

mod datagrams;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hickory_proto::op::{Message, ResponseCode};
use ipnet::Ipv4Net;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

pub(super) use self::datagrams::Datagrams;
use super::{
    answer::{Transport, Verdict, Zone, decide, encode, limit, own_edns, refusal},
    forward::{Failed, Forwarder},
    limit::Limit,
    table::NameTable,
};

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Connections of one source at once.
const OF_SOURCE_MAX: usize = 16;
/// Time for which a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after an error of a socket: the cause may last.
const PAUSE: Duration = Duration::from_millis(20);

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What became of questions since the launch.
        #[derive(Debug, Default)]
        pub(super) struct Stats {
            $($(#[$doc])* pub(super) $name: AtomicU64,)*
        }

        impl Stats {
            /// All of them, with their names.
            pub(super) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

stats! {
    /// Answered from the table of names, or refused.
    answered,
    /// Answered by other servers, or from what they answered before.
    forwarded,
    /// Not answered by other servers.
    failed,
    /// Of sources that may not ask here.
    refused,
    /// Beyond what one source may ask, or what may be under way.
    limited,
    /// No questions, or answers that could not be sent.
    dropped,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Who may ask on a socket.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// All: the programs let in containers of this host alone.
    Containers,
    /// This host, its neighbours, and containers.
    Host(Arc<Neighbourhood>),
}

/// Who a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// One that may not ask.
    Stranger,
    /// One that may.
    Neighbour,
    /// This host.
    Here,
}

/// Who may ask on the host's addresses.
#[derive(Debug)]
pub(super) struct Neighbourhood {
    range: Ipv4Net,
    hosts: RwLock<(Vec<Ipv4Addr>, Vec<Ipv4Net>)>,
}

impl Neighbourhood {
    /// Containers with addresses of `range`, and this host.
    pub(super) fn new(range: Ipv4Net) -> Self {
        Self { range, hosts: RwLock::default() }
    }

    /// This host has the `own` addresses, and neighbours on these networks.
    pub(super) fn set(&self, own: &[Ipv4Addr], on_link: &[Ipv4Net]) {
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = (own.to_vec(), on_link.to_vec());
    }

    fn source(&self, addr: IpAddr) -> Source {
        let IpAddr::V4(v4) = addr.to_canonical() else {
            return if addr.is_loopback() { Source::Here } else { Source::Stranger };
        };
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        if v4.is_loopback() || hosts.0.contains(&v4) {
            Source::Here
        } else if self.range.contains(&v4) || hosts.1.iter().any(|net| net.contains(&v4)) {
            Source::Neighbour
        } else {
            Source::Stranger
        }
    }
}

impl Scope {
    fn source(&self, addr: IpAddr) -> Source {
        match self {
            Self::Containers => Source::Neighbour,
            Self::Host(neighbourhood) => neighbourhood.source(addr),
        }
    }
}

/// What all sockets have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// Names of the domain.
    pub(super) table: Arc<NameTable>,
    /// What is answered here.
    pub(super) zone: Zone,
    /// Asks for the rest.
    pub(super) forwarder: Arc<Forwarder>,
    /// What became of questions.
    pub(super) stats: Stats,
    limit: Mutex<Limit>,
    rotate: AtomicU64,
}

impl Shared {
    /// Nobody asked yet.
    pub(super) fn new(table: Arc<NameTable>, zone: Zone, forwarder: Arc<Forwarder>) -> Self {
        Self { table, zone, forwarder, stats: Stats::default(), limit: Mutex::default(), rotate: AtomicU64::new(0) }
    }

    fn takes(&self, source: IpAddr) -> bool {
        let takes = self.limit.lock().unwrap_or_else(PoisonError::into_inner).takes(source, Instant::now());
        if !takes {
            count(&self.stats.limited);
        }
        takes
    }

    /// Where the order of addresses begins: another place for each answer.
    fn rotate(&self) -> usize {
        usize::try_from(self.rotate.fetch_add(1, Ordering::Relaxed) % u64::from(u32::MAX)).unwrap_or(0)
    }

    /// What is to be done with a question of `source`, beyond its bound too.
    fn decide(&self, bytes: &[u8], transport: Transport, source: Source) -> Verdict {
        let verdict = decide(bytes, transport, &self.zone, &*self.table, self.rotate());
        if source == Source::Stranger {
            count(&self.stats.refused);
            let refused = Message::from_vec(bytes).ok().and_then(|question| refusal(&question, ResponseCode::Refused));
            return match (verdict, refused) {
                (Verdict::Answer(_) | Verdict::Forward(_), Some(refused)) => Verdict::Answer(refused),
                _ => Verdict::Drop,
            };
        }
        match &verdict {
            Verdict::Answer(_) => count(&self.stats.answered),
            Verdict::Drop => count(&self.stats.dropped),
            Verdict::Forward(_) => {}
        }
        verdict
    }

    /// The answer of other servers, as `source` takes it.
    async fn forward(&self, question: &Message, transport: Transport, from: IpAddr, source: Source) -> Option<Vec<u8>> {
        let answer = self.forwarder.ask(question, transport, from, source == Source::Here).await;
        let answer = answer.map(|answer| passed_on(question, &answer, transport));
        match answer {
            Ok(Some(bytes)) => {
                count(&self.stats.forwarded);
                Some(bytes)
            }
            Ok(None) | Err(Failed::Silent | Failed::Loop) => {
                count(&self.stats.failed);
                refusal(question, ResponseCode::ServFail)
            }
            Err(Failed::Full) => {
                count(&self.stats.limited);
                refusal(question, ResponseCode::ServFail)
            }
            Err(Failed::NoServer) => {
                count(&self.stats.failed);
                refusal(question, ResponseCode::Refused)
            }
        }
    }
}

/// What another server answered, as an answer to `question`: cut where it is too long.
fn passed_on(question: &Message, answer: &Message, transport: Transport) -> Option<Vec<u8>> {
    let mut answer = answer.clone();
    answer.metadata.id = question.metadata.id;
    answer.metadata.authoritative = false;
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&question.queries);
    answer.edns = own_edns(question, answer.metadata.response_code);
    let bytes = encode(&answer)?;
    if bytes.len() <= limit(question, transport) {
        return Some(bytes);
    }
    let mut cut = answer.truncate();
    cut.queries.clone_from(&question.queries);
    encode(&cut).filter(|bytes| bytes.len() <= limit(question, transport))
}

/// Places of connections, by source.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<IpAddr, usize>>);

impl Places {
    /// A place for a connection of `source`, if one is left.
    fn take(self: &Arc<Self>, source: IpAddr) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= CONNECTIONS_MAX || all.get(&source).is_some_and(|n| *n >= OF_SOURCE_MAX) {
            return None;
        }
        *all.entry(source).or_default() += 1;
        Some(Place(Arc::clone(self), source))
    }
}

/// Given back when dropped.
struct Place(Arc<Places>, IpAddr);

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// Answers questions that come on connections, for ever.
pub(super) async fn tcp(shared: Arc<Shared>, listener: TcpListener, scope: Scope) {
    let places = Arc::new(Places::default());
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // Too many open files, say.
            sleep(PAUSE).await;
            continue;
        };
        let Some(place) = places.take(from.ip()) else {
            count(&shared.stats.limited);
            continue;
        };
        let (shared, source) = (Arc::clone(&shared), scope.source(from.ip()));
        tokio::spawn(async move {
            let _place = place;
            // A connection that breaks concerns nobody else.
            connection(&shared, stream, from.ip(), source).await.ok();
        });
    }
}

async fn connection(shared: &Shared, mut stream: TcpStream, from: IpAddr, source: Source) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        bytes.resize(usize::from(length), 0);
        timeout(IDLE, stream.read_exact(&mut bytes)).await??;
        if !shared.takes(from) {
            return Ok(());
        }
        let answer = match shared.decide(&bytes, Transport::Tcp, source) {
            Verdict::Answer(answer) => Some(answer),
            Verdict::Drop => None,
            Verdict::Forward(question) => shared.forward(&question, Transport::Tcp, from, source).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat())).await??;
    }
}

#[cfg(test)]
mod tests;
