//! Asks a running controller. One connection a request, every wait bounded.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::unix::AsyncFd,
    net::UnixStream,
    time::{sleep, timeout},
};

use super::{
    REQUEST_MAX, SOCKET, VERSION, VERSION_HEADER,
    types::{
        Attach, Bind, Connect, Consensus, ContainerStatus, Detach, Done, Error, Expose, Forget, Hide, Lookup,
        NameChange, NameStatus, Release, Released, ReleasedOwner, RemovePeer, RemovedPeer, Report, Reserve, Reset,
        Status, Stop, Targets,
    },
};

/// Longest wait for an answer: above the controller's own bound, so that its sentence arrives.
const ANSWER_WAIT: Duration = Duration::from_secs(45);
/// Longest wait for the socket to accept.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for a stopped controller's process to end.
const END_WAIT: Duration = Duration::from_secs(20);
/// Pause between two looks at the socket of a controller whose process cannot be watched.
const END_POLL: Duration = Duration::from_millis(20);
/// Longest answer, in bytes: a report of every container, peer and range that fits the maps.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no controller is running in {}: start one with `weave-ctl launch`", .0.display())]
    NoController(PathBuf),
    /// Somebody listens, but not to this user.
    #[error("may not talk to the controller in {}: run this command as root", .0.display())]
    Denied(PathBuf),
    /// The controller says no.
    #[error("{0}")]
    Refused(String),
    /// The controller does not take the request for one.
    #[error("{0}")]
    BadRequest(String),
    /// The two sides do not understand each other.
    #[error(
        "the running controller is version {theirs}, this command is version {VERSION}, and they do not understand \
         each other: use the command of that version, or stop the controller with it and launch this one"
    )]
    Version {
        /// The controller's version.
        theirs: String,
    },
    /// The request does not fit.
    #[error(
        "the request has {0} bytes, more than the {REQUEST_MAX} that a controller takes: name fewer things at once"
    )]
    TooBig(usize),
    /// No answer.
    #[error("the controller in {} gave no answer in {} seconds: see its log", run_dir.display(), after.as_secs())]
    Silent {
        /// Where it runs.
        run_dir: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke.
    #[error("lost the controller in {} before it answered: {reason}", run_dir.display())]
    Lost {
        /// Where it runs.
        run_dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// It stopped serving but did not end.
    #[error("the controller took the request, but its process has not ended after {} seconds", END_WAIT.as_secs())]
    NotEnded,
}

/// A controller, by its run directory.
#[derive(Clone, Debug)]
pub struct Client {
    run_dir: PathBuf,
}

impl Client {
    /// The controller that serves in `run_dir`.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned() }
    }

    /// Adds or replaces targets.
    ///
    /// # Errors
    /// As every request of this type: [`ClientError`].
    pub async fn connect(&self, body: &Connect) -> Result<Targets, ClientError> {
        self.post("connect", body).await
    }

    /// Removes targets.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn forget(&self, body: &Forget) -> Result<Targets, ClientError> {
        self.post("forget", body).await
    }

    /// Holds addresses for an owner.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reserve(&self, body: &Reserve) -> Result<ContainerStatus, ClientError> {
        self.post("reserve", body).await
    }

    /// Names the owner of what was reserved without one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn bind(&self, body: &Bind) -> Result<ContainerStatus, ClientError> {
        self.post("bind", body).await
    }

    /// Attaches a container.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn attach(&self, body: &Attach) -> Result<ContainerStatus, ClientError> {
        self.post("attach", body).await
    }

    /// Detaches a container, or takes some of its addresses away.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn detach(&self, body: &Detach) -> Result<Released, ClientError> {
        self.post("detach", body).await
    }

    /// Gives up what is held for an owner without an interface.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn release(&self, body: &Release) -> Result<Released, ClientError> {
        self.post("release", body).await
    }

    /// Gives up what is held for containers that are absent since a reboot.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn release_absent(&self) -> Result<Vec<ReleasedOwner>, ClientError> {
        self.post("release-absent", &serde_json::json!({})).await
    }

    /// Gives the host an interface in the network.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn expose(&self, body: &Expose) -> Result<ContainerStatus, ClientError> {
        self.post("expose", body).await
    }

    /// Takes the host's addresses away.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn hide(&self, body: &Hide) -> Result<Released, ClientError> {
        self.post("hide", body).await
    }

    /// Gives addresses a name; what has it then.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_name(&self, body: &NameChange) -> Result<Vec<NameStatus>, ClientError> {
        self.post("dns-add", body).await
    }

    /// Takes a name of addresses away.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_name(&self, body: &NameChange) -> Result<Done, ClientError> {
        self.post("dns-remove", body).await
    }

    /// The addresses of a name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lookup(&self, body: &Lookup) -> Result<Vec<NameStatus>, ClientError> {
        self.post("dns-lookup", body).await
    }

    /// All names.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn names(&self) -> Result<Vec<NameStatus>, ClientError> {
        self.get("names").await
    }

    /// Takes over from a peer that is gone for good.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_peer(&self, body: &RemovePeer) -> Result<RemovedPeer, ClientError> {
        self.post("rmpeer", body).await
    }

    /// Sees to it that the range is divided; how far that is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn consense(&self) -> Result<Consensus, ClientError> {
        self.post("consense", &serde_json::json!({})).await
    }

    /// The containers.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ps(&self) -> Result<Vec<ContainerStatus>, ClientError> {
        self.get("ps").await
    }

    /// The state of everything.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("status").await
    }

    /// The state of everything, for finding faults.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn report(&self) -> Result<Report, ClientError> {
        self.get("report").await
    }

    /// Stops the controller; returns when its process has ended.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stop(&self, body: &Stop) -> Result<Done, ClientError> {
        self.post_and_end("stop", body).await
    }

    /// Makes the controller leave and forget everything; returns when its process has ended.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reset(&self, body: &Reset) -> Result<Done, ClientError> {
        self.post_and_end("reset", body).await
    }

    /// True when a controller accepts connections here.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn is_running(&self) -> Result<bool, ClientError> {
        match self.open().await {
            Ok(_) => Ok(true),
            Err(ClientError::NoController(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn get<A: DeserializeOwned>(&self, verb: &str) -> Result<A, ClientError> {
        let stream = self.open().await?;
        self.ask(stream, Method::GET, verb, Bytes::new()).await
    }

    async fn post<B: Serialize, A: DeserializeOwned>(&self, verb: &str, body: &B) -> Result<A, ClientError> {
        let body = self.encode(body)?;
        let stream = self.open().await?;
        self.ask(stream, Method::POST, verb, body).await
    }

    async fn post_and_end<B: Serialize>(&self, verb: &str, body: &B) -> Result<Done, ClientError> {
        let body = self.encode(body)?;
        let stream = self.open().await?;
        // Taken before the request, while the process surely lives: a number could have been given to another since.
        let process = stream
            .peer_cred()
            .ok()
            .and_then(|cred| Pid::from_raw(cred.pid()?))
            .filter(|pid| *pid != getpid())
            .and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
        let done = self.ask(stream, Method::POST, verb, body).await?;
        let ended = async {
            // SAFETY: the descriptor is owned by the `AsyncFd`, so it stays open and the same until that is dropped.
            match process.and_then(|fd| unsafe { AsyncFd::register(fd) }.ok()) {
                Some(process) => process.readable().await.map(drop).map_err(|e| self.lost(&e)),
                // The controller is in another PID namespace: all that can be seen is that it serves no more.
                None => {
                    while self.is_running().await? {
                        sleep(END_POLL).await;
                    }
                    Ok(())
                }
            }
        };
        timeout(END_WAIT, ended).await.unwrap_or(Err(ClientError::NotEnded))?;
        Ok(done)
    }

    fn encode<B: Serialize>(&self, body: &B) -> Result<Bytes, ClientError> {
        let bytes = serde_json::to_vec(body).map_err(|e| self.lost(&e))?;
        if bytes.len() > REQUEST_MAX { Err(ClientError::TooBig(bytes.len())) } else { Ok(bytes.into()) }
    }

    async fn open(&self) -> Result<UnixStream, ClientError> {
        let connected = timeout(CONNECT_WAIT, UnixStream::connect(self.run_dir.join(SOCKET))).await;
        match connected {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                    ClientError::NoController(self.run_dir.clone())
                }
                io::ErrorKind::PermissionDenied => ClientError::Denied(self.run_dir.clone()),
                _ => self.lost(&error),
            }),
            Err(_) => Err(ClientError::Silent { run_dir: self.run_dir.clone(), after: CONNECT_WAIT }),
        }
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        stream: UnixStream,
        method: Method,
        verb: &str,
        body: Bytes,
    ) -> Result<A, ClientError> {
        timeout(ANSWER_WAIT, self.exchange(stream, method, verb, body))
            .await
            .unwrap_or_else(|_| Err(ClientError::Silent { run_dir: self.run_dir.clone(), after: ANSWER_WAIT }))
    }

    async fn exchange<A: DeserializeOwned>(
        &self,
        stream: UnixStream,
        method: Method,
        verb: &str,
        body: Bytes,
    ) -> Result<A, ClientError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.lost(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/{verb}"))
            .header(header::HOST, "weave")
            .header(header::CONTENT_TYPE, "application/json")
            .header(VERSION_HEADER, VERSION)
            .body(Full::new(body))
            .map_err(|e| self.lost(&e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| self.lost(&e))?;
            self.decode(response).await
        };
        tokio::pin!(answer);
        tokio::select! {
            // The answer first: the connection may end in the same moment as the answer is complete.
            biased;
            answer = &mut answer => answer,
            // What the connection has read before its end still reaches the answer; its own error does not matter then.
            _ = connection => answer.await,
        }
    }

    async fn decode<A: DeserializeOwned>(&self, response: hyper::Response<Incoming>) -> Result<A, ClientError> {
        let status = response.status();
        let theirs =
            response.headers().get(VERSION_HEADER).and_then(|v| v.to_str().ok()).unwrap_or("unknown").to_owned();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|e| self.lost(e.as_ref()))?.to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.misread(theirs, &error));
        }
        if status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED {
            return Err(ClientError::Version { theirs });
        }
        let Error { error } = serde_json::from_slice(&body).map_err(|error| self.misread(theirs, &error))?;
        Err(match status {
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => ClientError::BadRequest(error),
            _ => ClientError::Refused(error),
        })
    }

    /// An answer that is not as the contract says: another version's, or a broken one.
    fn misread(&self, theirs: String, error: &serde_json::Error) -> ClientError {
        if theirs == VERSION { self.lost(error) } else { ClientError::Version { theirs } }
    }

    fn lost<E: std::fmt::Display + ?Sized>(&self, reason: &E) -> ClientError {
        ClientError::Lost { run_dir: self.run_dir.clone(), reason: reason.to_string() }
    }
}
