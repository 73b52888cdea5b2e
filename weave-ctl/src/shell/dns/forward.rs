//! Asks other servers what is not known here.
//!
//! Each question gets a socket with a random port and a random id of its own; an answer is taken from the server that was
//! asked, with that id and question. A server that is silent for [`ATTEMPT`] is passed over, and tried last for [`DEAD_FOR`].
//! Equal questions that are under way are asked once.
//! A question may come back by a server that asks this resolver: from a server's own address, or from this host when a server
//! is on it. It waits for the answer that is under way, as others do. In a loop that never comes, because the server waits
//! for this resolver: after [`LOOP_AFTER`] the question fails, and the server is not asked for it again.
//! Bounds: [`FORWARDS_MAX`] questions at once, [`OF_SOURCE_MAX`] of one source; [`ATTEMPTS_MAX`] packets and [`TOTAL`] a
//! question; the bounds of the cache.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use rustix::io::Errno;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::watch,
    time::timeout,
};

use super::{
    answer::{Transport, own_edns},
    cache::{Cache, Key},
    upstream::is_here,
};

/// Time for one server to answer.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Time for all of them.
const TOTAL: Duration = Duration::from_secs(4);
/// Servers asked for one question, one after the other.
const ATTEMPTS_MAX: usize = 5;
/// Time for which a server that did not answer is tried last.
const DEAD_FOR: Duration = Duration::from_secs(10);
/// Time after which a question that came back shows a loop. Another client of this host that asks the same waits so long too
/// when the server is slow, and fails then.
const LOOP_AFTER: Duration = Duration::from_millis(100);
/// Questions under way at once.
const FORWARDS_MAX: usize = 1024;
/// Questions of one source under way at once.
const OF_SOURCE_MAX: usize = 128;
/// Longest answer in bytes over UDP.
const DATAGRAM_MAX: usize = 4096;

/// Why a question was not answered by another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// There is no other server.
    NoServer,
    /// None answered in time.
    Silent,
    /// It came back to this host.
    Loop,
    /// More are under way than may be.
    Full,
}

/// What is asked of other servers, and how.
type Asked = (Key, Transport);
/// Answer to all who wait; `None` while nothing is known.
type Outcome = Option<Result<Arc<Message>, Failed>>;

#[derive(Debug, Default)]
struct State {
    servers: Vec<SocketAddr>,
    /// Servers that did not answer, and until when they are tried last.
    dead: HashMap<(SocketAddr, Transport), Instant>,
    under_way: HashMap<Asked, watch::Receiver<Outcome>>,
    /// Those under way that came back.
    looped: HashSet<Asked>,
    of_source: HashMap<IpAddr, usize>,
    waiting: usize,
    cache: Cache,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Forwarder(Mutex<State>);

/// A place among those that wait, given back when dropped.
struct Place<'a>(&'a Forwarder, IpAddr);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting -= 1;
        if let Some(count) = state.of_source.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                state.of_source.remove(&self.1);
            }
        }
    }
}

impl Forwarder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks these servers from now on; true when they are others than before.
    pub(super) fn set_servers(&self, servers: Vec<SocketAddr>) -> bool {
        let mut state = self.state();
        let changed = state.servers != servers;
        if changed {
            // What others answered need not be what these do.
            state.cache = Cache::default();
            state.dead.clear();
            state.servers = servers;
        }
        changed
    }

    /// The servers that are asked.
    pub(super) fn servers(&self) -> Vec<SocketAddr> {
        self.state().servers.clone()
    }

    /// The answer of another server to `question`, which `source` asks; `from_here` when that is this host itself.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn ask(
        self: &Arc<Self>,
        question: &Message,
        transport: Transport,
        source: IpAddr,
        from_here: bool,
    ) -> Result<Arc<Message>, Failed> {
        let Some(key) = Key::of(question) else { return Err(Failed::Full) };
        let asked = (key, transport);
        let came_back;
        let (mut outcome, _place) = {
            let mut state = self.state();
            if let Some(answer) = state.cache.get(&asked.0, Instant::now()) {
                return Ok(Arc::new(answer));
            }
            if state.servers.is_empty() {
                return Err(Failed::NoServer);
            }
            let under_way = state.under_way.get(&asked).cloned();
            came_back = under_way.is_some() && state.may_come_from_server(source, from_here);
            if came_back && state.looped.contains(&asked) {
                return Err(Failed::Loop);
            }
            if state.waiting >= FORWARDS_MAX || state.of_source.get(&source).is_some_and(|n| *n >= OF_SOURCE_MAX) {
                return Err(Failed::Full);
            }
            state.waiting += 1;
            *state.of_source.entry(source).or_default() += 1;
            let outcome = match under_way {
                Some(outcome) => outcome,
                None => {
                    let (told, outcome) = watch::channel(None);
                    state.under_way.insert(asked.clone(), outcome.clone());
                    tokio::spawn(Arc::clone(self).carry(asked.clone(), question.clone(), told));
                    outcome
                }
            };
            (outcome, Place(self, source))
        };
        let told = outcome.wait_for(Option::is_some);
        let told = if came_back {
            let Ok(told) = timeout(LOOP_AFTER, told).await else {
                self.came_back(asked);
                return Err(Failed::Loop);
            };
            told
        } else {
            told.await
        };
        told.ok().and_then(|told| told.clone()).unwrap_or(Err(Failed::Silent))
    }

    /// A question that is under way is waited for by the server that was asked.
    fn came_back(&self, asked: Asked) {
        let mut state = self.state();
        if state.under_way.contains_key(&asked) {
            state.looped.insert(asked);
        }
    }

    /// Asks for all who wait, and tells them.
    async fn carry(self: Arc<Self>, asked: Asked, question: Message, told: watch::Sender<Outcome>) {
        let answer = timeout(TOTAL, self.ask_all(&question, &asked)).await;
        let result = answer.unwrap_or(Err(Failed::Silent)).map(Arc::new);
        let mut state = self.state();
        state.looped.remove(&asked);
        state.under_way.remove(&asked);
        if let Ok(answer) = &result {
            state.cache.put(asked.0, answer, Instant::now());
        }
        drop(state);
        // Whoever waited may be gone.
        told.send_replace(Some(result));
    }

    /// One server after the other, those that answer first, until one gives an answer that is none of trouble.
    async fn ask_all(&self, question: &Message, asked: &Asked) -> Result<Message, Failed> {
        let (mut last, mut before) = (Err(Failed::Silent), None);
        let transport = asked.1;
        for server in self.order(transport) {
            if before == Some(server) && self.state().looped.contains(asked) {
                break;
            }
            before = Some(server);
            match timeout(ATTEMPT, ask_one(question, server, transport)).await {
                Ok(Ok(answer)) => {
                    self.state().dead.remove(&(server, transport));
                    let trouble = [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp];
                    if !trouble.contains(&answer.metadata.response_code) {
                        return Ok(answer);
                    }
                    last = Ok(answer);
                }
                // That this host is short of something says nothing of the server.
                Ok(Err(error)) if is_own(&error) => {}
                Ok(Err(_)) | Err(_) => {
                    self.state().dead.insert((server, transport), Instant::now() + DEAD_FOR);
                }
            }
        }
        last
    }

    fn order(&self, transport: Transport) -> Vec<SocketAddr> {
        let (mut state, now) = (self.state(), Instant::now());
        state.dead.retain(|_, until| *until > now);
        let mut servers = state.servers.clone();
        servers.sort_by_key(|server| state.dead.contains_key(&(*server, transport)));
        if servers.len() == 1 {
            // One datagram may be lost.
            servers.push(servers[0]);
        }
        servers.truncate(ATTEMPTS_MAX);
        servers
    }
}

impl State {
    /// Whether `source` may be a server that was asked.
    fn may_come_from_server(&self, source: IpAddr, from_here: bool) -> bool {
        let source = source.to_canonical();
        self.servers.iter().any(|server| server.ip().to_canonical() == source || from_here && is_here(server.ip()))
    }
}

/// Whether an error is one of this host, not of the server or the way to it.
fn is_own(error: &io::Error) -> bool {
    let own = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| own.contains(&errno))
}

async fn ask_one(question: &Message, server: SocketAddr, transport: Transport) -> io::Result<Message> {
    let mut id = [0; 2];
    getrandom::fill(&mut id)?;
    let mut asked = Message::query();
    asked.metadata.id = u16::from_be_bytes(id);
    asked.metadata.recursion_desired = true;
    asked.metadata.checking_disabled = question.metadata.checking_disabled;
    asked.metadata.authentic_data = question.metadata.authentic_data;
    asked.queries.clone_from(&question.queries);
    asked.edns = own_edns(question, ResponseCode::NoError);
    let bytes = asked.to_vec().map_err(io::Error::other)?;
    match transport {
        Transport::Udp => over_udp(&asked, &bytes, server).await,
        Transport::Tcp => over_tcp(&asked, &bytes, server).await,
    }
}

async fn over_udp(asked: &Message, bytes: &[u8], server: SocketAddr) -> io::Result<Message> {
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; DATAGRAM_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else may be forged: the answer may come still.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && belongs(&answer, asked)
        {
            return Ok(answer);
        }
    }
}

async fn over_tcp(asked: &Message, bytes: &[u8], server: SocketAddr) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    let answer = Message::from_vec(&answer).map_err(io::Error::other)?;
    if belongs(&answer, asked) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether `answer` is one to `asked`.
fn belongs(answer: &Message, asked: &Message) -> bool {
    let said = &answer.metadata;
    said.message_type == MessageType::Response
        && said.id == asked.metadata.id
        && said.op_code == asked.metadata.op_code
        && answer.queries == asked.queries
}

#[cfg(test)]
mod tests;
