//! Asks other servers what is not known here.
//!
//! Each question gets a socket with a random port and a random id of its own; an answer is taken from the server that was
//! asked, with that id and question. A server that is silent for [`ATTEMPT`] is passed over, and tried last for [`DEAD_FOR`].
//! Equal questions that are under way are asked once. A question that comes back from this host while it is under way shows a
//! loop through another server, and fails at once.
//! Bounds: [`FORWARDS_MAX`] questions at once, [`OF_SOURCE_MAX`] of one source; [`ATTEMPTS_MAX`] packets and [`TOTAL`] a
//! question; the bounds of the cache.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::watch,
    time::timeout,
};

use super::{
    answer::{Transport, own_edns},
    cache::{Cache, Key},
};

/// Time for one server to answer.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Time for all of them.
const TOTAL: Duration = Duration::from_secs(4);
/// Servers asked for one question, one after the other.
const ATTEMPTS_MAX: usize = 5;
/// Time for which a server that did not answer is tried last.
const DEAD_FOR: Duration = Duration::from_secs(10);
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

/// Answer to all who wait; `None` while nothing is known.
type Outcome = Option<Result<Arc<Message>, Failed>>;

#[derive(Debug, Default)]
struct State {
    servers: Vec<SocketAddr>,
    /// Servers that did not answer, and until when they are tried last.
    dead: HashMap<SocketAddr, Instant>,
    under_way: HashMap<(Key, Transport), watch::Receiver<Outcome>>,
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

    /// The answer of another server to `question`, which `source` asks; `is_here` when that is this host itself.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn ask(
        self: &Arc<Self>,
        question: &Message,
        transport: Transport,
        source: IpAddr,
        is_here: bool,
    ) -> Result<Arc<Message>, Failed> {
        let Some(key) = Key::of(question) else { return Err(Failed::Full) };
        let (mut outcome, _place) = {
            let mut state = self.state();
            if let Some(answer) = state.cache.get(&key, Instant::now()) {
                return Ok(Arc::new(answer));
            }
            if state.servers.is_empty() {
                return Err(Failed::NoServer);
            }
            let under_way = state.under_way.get(&(key.clone(), transport)).cloned();
            if under_way.is_some() && is_here {
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
                    state.under_way.insert((key.clone(), transport), outcome.clone());
                    tokio::spawn(Arc::clone(self).carry(key, question.clone(), transport, told));
                    outcome
                }
            };
            (outcome, Place(self, source))
        };
        let told = outcome.wait_for(Option::is_some).await;
        told.ok().and_then(|told| told.clone()).unwrap_or(Err(Failed::Silent))
    }

    /// Asks for all who wait, and tells them.
    async fn carry(self: Arc<Self>, key: Key, question: Message, transport: Transport, told: watch::Sender<Outcome>) {
        let asked = timeout(TOTAL, self.ask_all(&question, transport)).await;
        let result = asked.unwrap_or(Err(Failed::Silent)).map(Arc::new);
        let mut state = self.state();
        if let Ok(answer) = &result {
            state.cache.put(key.clone(), answer, Instant::now());
        }
        state.under_way.remove(&(key, transport));
        drop(state);
        // Whoever waited may be gone.
        told.send_replace(Some(result));
    }

    /// One server after the other, those that answer first, until one gives an answer that is none of trouble.
    async fn ask_all(&self, question: &Message, transport: Transport) -> Result<Message, Failed> {
        let mut last = Err(Failed::Silent);
        for server in self.order() {
            match timeout(ATTEMPT, ask_one(question, server, transport)).await {
                Ok(Ok(answer)) => {
                    self.state().dead.remove(&server);
                    let trouble = [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp];
                    if !trouble.contains(&answer.metadata.response_code) {
                        return Ok(answer);
                    }
                    last = Ok(answer);
                }
                Ok(Err(_)) | Err(_) => {
                    self.state().dead.insert(server, Instant::now() + DEAD_FOR);
                }
            }
        }
        last
    }

    fn order(&self) -> Vec<SocketAddr> {
        let (mut state, now) = (self.state(), Instant::now());
        state.dead.retain(|_, until| *until > now);
        let mut servers = state.servers.clone();
        servers.sort_by_key(|server| state.dead.contains_key(server));
        if servers.len() == 1 {
            // One datagram may be lost.
            servers.push(servers[0]);
        }
        servers.truncate(ATTEMPTS_MAX);
        servers
    }
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
