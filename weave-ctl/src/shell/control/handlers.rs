//! One handler a path: reads the request, asks the driver, writes the answer.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{COMMANDS_MAX, Call, Waits};
use crate::{
    api::{self, types},
    config,
    proto::{
        command::{AddrRequest, Answer, Command, Container, Holder, NameRequest, Refusal},
        io::Target,
        reservation::{HOST_OWNER, Place},
        status::{HostStatus, Snapshot},
    },
    shell::netns,
};

/// Longest wait for a word on why a command waits.
const WHY_WAIT: Duration = Duration::from_secs(1);

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Malformed(String),
    #[error("the request has more than {} bytes: nothing was changed", api::REQUEST_MAX)]
    TooBig,
    #[error("the controller is stopping: nothing was changed")]
    Stopping,
    #[error(
        "no answer after {} seconds{why}: the request was withdrawn; see `weave-ctl status` and try again",
        after.as_secs()
    )]
    Waited { after: Duration, why: String },
    #[error("the container was not found within {} seconds: nothing was changed; try again", after.as_secs())]
    NotFoundYet { after: Duration },
    #[error("this controller, version {}, does not know {path}", api::VERSION)]
    Unknown { path: String },
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Refused(_) => StatusCode::CONFLICT,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooBig => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Waited { .. } | Self::NotFoundYet { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Unknown { .. } => StatusCode::NOT_FOUND,
        };
        (status, Json(types::Error { error: self.to_string() })).into_response()
    }
}

type Reply<T> = Result<Json<T>, Failure>;

#[derive(Clone)]
struct App {
    calls: mpsc::Sender<Call>,
    commands: Arc<Semaphore>,
    /// Those that may wait for addresses: they hold up nobody else.
    attaching: Arc<Semaphore>,
    since: Instant,
    waits: Waits,
}

/// The paths of the contract.
pub(super) fn router(calls: mpsc::Sender<Call>, waits: Waits) -> Router {
    let commands = Arc::new(Semaphore::new(COMMANDS_MAX));
    let attaching = Arc::new(Semaphore::new(COMMANDS_MAX));
    let app = App { calls, commands, attaching, since: Instant::now(), waits };
    Router::new()
        .route("/v1/connect", post(connect))
        .route("/v1/forget", post(forget))
        .route("/v1/reserve", post(reserve))
        .route("/v1/bind", post(bind))
        .route("/v1/attach", post(attach))
        .route("/v1/detach", post(detach))
        .route("/v1/release", post(release))
        .route("/v1/release-absent", post(release_absent))
        .route("/v1/expose", post(expose))
        .route("/v1/hide", post(hide))
        .route("/v1/dns-add", post(add_name))
        .route("/v1/dns-remove", post(remove_name))
        .route("/v1/dns-lookup", post(lookup))
        .route("/v1/names", get(names))
        .route("/v1/consense", post(consense))
        .route("/v1/rmpeer", post(remove_peer))
        .route("/v1/stop", post(stop))
        .route("/v1/reset", post(reset))
        .route("/v1/ps", get(ps))
        .route("/v1/status", get(status))
        .route("/v1/report", get(report))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(axum::middleware::map_response(sign))
        .with_state(app)
}

/// Says on every answer who speaks.
async fn sign(mut response: Response) -> Response {
    response.headers_mut().insert(api::VERSION_HEADER, HeaderValue::from_static(api::VERSION));
    response
}

async fn unknown(request: Request) -> Failure {
    Failure::Unknown { path: format!("{} {}", request.method(), request.uri().path()) }
}

async fn connect(State(app): State<App>, request: Request) -> Reply<types::Targets> {
    let body: types::Connect = app.body(request).await?;
    let named = config::targets(&body.targets).map_err(|e| Failure::Malformed(e.to_string()))?;
    let command = Command::Connect { targets: named.clone(), replace: body.replace };
    let before = app.targets(command).await?;
    let (kept, added) = named.iter().partition(|t| before.contains(t));
    let removed = before.iter().filter(|t| body.replace && !named.contains(t)).collect();
    retargeted(added, kept, removed)
}

async fn forget(State(app): State<App>, request: Request) -> Reply<types::Targets> {
    let body: types::Forget = app.body(request).await?;
    let named = config::targets(&body.targets).map_err(|e| Failure::Malformed(e.to_string()))?;
    app.targets(Command::Forget(named.clone())).await?;
    retargeted(Vec::new(), Vec::new(), named.iter().collect())
}

async fn reserve(State(app): State<App>, request: Request) -> Reply<types::ContainerStatus> {
    let body: types::Reserve = app.body(request).await?;
    let addrs = wanted(&body.addrs)?;
    app.container(&app.attaching, Command::Reserve(body.owner, addrs)).await
}

async fn bind(State(app): State<App>, request: Request) -> Reply<types::ContainerStatus> {
    let types::Bind { id, owner } = app.body(request).await?;
    app.container(&app.commands, Command::Bind { id, owner }).await
}

async fn attach(State(app): State<App>, request: Request) -> Reply<types::ContainerStatus> {
    let body: types::Attach = app.body(request).await?;
    let addrs = wanted(&body.addrs)?;
    let mut container = app.look(move || netns::resolve(&body.container)).await?.map_err(|e| Refusal(e.to_string()))?;
    if let Some(owner) = body.owner {
        container = Container { owner, chosen: true, ..container };
    }
    container.names = NameRequest { hostname: body.hostname, aliases: body.aliases, without: body.without_dns };
    app.container(&app.attaching, Command::Attach(container, addrs)).await
}

async fn detach(State(app): State<App>, request: Request) -> Reply<types::Released> {
    let body: types::Detach = app.body(request).await?;
    let addrs = named(&body.addrs)?;
    if body.keep && !addrs.is_empty() {
        return Err(Failure::Malformed("`keep` keeps all addresses: none can be named beside it".to_owned()));
    }
    let holder = app.look(move || netns::holder(&body.container)).await?;
    app.released(Command::Detach { holder, addrs, keep: body.keep }).await
}

async fn release(State(app): State<App>, request: Request) -> Reply<types::Released> {
    let body: types::Release = app.body(request).await?;
    let addrs = named(&body.addrs)?;
    app.released(Command::Release(body.owner, addrs)).await
}

async fn release_absent(State(app): State<App>) -> Reply<Vec<types::ReleasedOwner>> {
    let released = |(owner, addrs)| types::ReleasedOwner { owner, addrs };
    match app.command(Command::ReleaseAbsent).await? {
        Answer::ReleasedAbsent(all) => Ok(Json(all.into_iter().map(released).collect())),
        other => Err(unexpected(&other)),
    }
}

async fn expose(State(app): State<App>, request: Request) -> Reply<types::ContainerStatus> {
    let body: types::Expose = app.body(request).await?;
    let addrs = wanted(&body.addrs)?;
    let place = Place::Host { masquerade: body.masquerade };
    let names = NameRequest { hostname: body.hostname, ..NameRequest::default() };
    let host = Container { owner: HOST_OWNER.to_owned(), chosen: true, place, names };
    app.container(&app.attaching, Command::Attach(host, addrs)).await
}

async fn hide(State(app): State<App>, request: Request) -> Reply<types::Released> {
    let body: types::Hide = app.body(request).await?;
    let addrs = named(&body.addrs)?;
    let holder = Holder { owner: HOST_OWNER.to_owned(), netns: None };
    app.released(Command::Detach { holder, addrs, keep: false }).await
}

async fn add_name(State(app): State<App>, request: Request) -> Reply<Vec<types::NameStatus>> {
    let (holder, name, addrs) = app.name_change(request).await?;
    app.names(Command::AddName { holder, name, addrs }).await
}

async fn remove_name(State(app): State<App>, request: Request) -> Reply<types::Done> {
    let (holder, name, addrs) = app.name_change(request).await?;
    app.command(Command::RemoveName { holder, name, addrs }).await?;
    done()
}

async fn lookup(State(app): State<App>, request: Request) -> Reply<Vec<types::NameStatus>> {
    let body: types::Lookup = app.body(request).await?;
    app.names(Command::Names(Some(body.name))).await
}

async fn names(State(app): State<App>) -> Reply<Vec<types::NameStatus>> {
    app.names(Command::Names(None)).await
}

/// Addresses as they are asked for.
fn wanted(addrs: &[String]) -> Result<Vec<AddrRequest>, Failure> {
    let parsed: Result<_, _> = addrs.iter().map(|text| config::addr::attach(text)).collect();
    parsed.map_err(|e| Failure::Malformed(e.to_string()))
}

/// Addresses as they are named to be given up.
fn named(addrs: &[String]) -> Result<Vec<Ipv4Addr>, Failure> {
    let parsed: Result<_, _> = addrs.iter().map(|text| config::addr::detach(text)).collect();
    parsed.map_err(|e| Failure::Malformed(e.to_string()))
}

async fn consense(State(app): State<App>) -> Reply<types::Consensus> {
    match app.command(Command::Consense).await? {
        Answer::Consense(ready, state) => Ok(Json(types::Consensus { ready, state })),
        other => Err(unexpected(&other)),
    }
}

async fn remove_peer(State(app): State<App>, request: Request) -> Reply<types::RemovedPeer> {
    let body: types::RemovePeer = app.body(request).await?;
    match app.command(Command::RemovePeer { peer: body.peer, force: body.force }).await? {
        Answer::Removed { peer, addresses, heir } => {
            Ok(Json(types::RemovedPeer { peer: peer.to_string(), addresses, heir: heir.to_string() }))
        }
        other => Err(unexpected(&other)),
    }
}

async fn stop(State(app): State<App>, request: Request) -> Reply<types::Done> {
    let body: types::Stop = app.body(request).await?;
    app.command(Command::Stop { teardown: body.teardown }).await?;
    done()
}

async fn reset(State(app): State<App>, request: Request) -> Reply<types::Done> {
    let body: types::Reset = app.body(request).await?;
    app.command(Command::Reset { force: body.force }).await?;
    done()
}

async fn ps(State(app): State<App>) -> Reply<Vec<types::ContainerStatus>> {
    match app.command(Command::Containers).await? {
        Answer::Containers(all) => Ok(Json(all)),
        other => Err(unexpected(&other)),
    }
}

async fn status(State(app): State<App>) -> Reply<types::Status> {
    Ok(Json(app.whole_status().await?))
}

async fn report(State(app): State<App>) -> Reply<types::Report> {
    let status = app.whole_status().await?;
    Ok(Json(types::Report {
        api: api::API,
        pid: std::process::id(),
        uptime_s: app.since.elapsed().as_secs(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        status,
    }))
}

/// Each target once, however often it was named.
fn retargeted(added: Vec<&Target>, kept: Vec<&Target>, removed: Vec<&Target>) -> Reply<types::Targets> {
    let once = |targets: Vec<&Target>| {
        let mut seen = BTreeSet::new();
        targets.into_iter().filter(|t| seen.insert(*t)).map(ToString::to_string).collect()
    };
    Ok(Json(types::Targets { done: true, added: once(added), kept: once(kept), removed: once(removed) }))
}

fn done() -> Reply<types::Done> {
    Ok(Json(types::Done { done: true }))
}

fn busy(after: Duration) -> Failure {
    Failure::Waited { after, why: " (the controller is busy)".to_owned() }
}

/// The core answered another question: a fault of this program, told as one.
fn unexpected(answer: &Answer) -> Failure {
    tracing::error!(?answer, "the core answered another question");
    Failure::Refused(Refusal("the controller answered another question: see its log and report this fault".to_owned()))
}

impl App {
    /// The body as JSON, whatever the request calls it.
    async fn body<T: DeserializeOwned>(&self, request: Request) -> Result<T, Failure> {
        let read = timeout(self.waits.request, to_bytes(request.into_body(), api::REQUEST_MAX)).await;
        let late = |_| Failure::Malformed("the request's body did not arrive: nothing was changed".to_owned());
        let bytes = read.map_err(late)?.map_err(|error| {
            let limit = std::error::Error::source(&error).is_some_and(|e| e.is::<http_body_util::LengthLimitError>());
            if limit { Failure::TooBig } else { Failure::Malformed(format!("the request broke off: {error}")) }
        })?;
        let wrong = |error| Failure::Malformed(format!("not a request of this kind: {error}; nothing was changed"));
        serde_json::from_slice(&bytes).map_err(wrong)
    }

    /// Asks the driver and waits its turn before: both together at most the longest wait for a reply.
    async fn command(&self, command: Command) -> Result<Answer, Failure> {
        self.bounded(self.in_turn(&self.commands, command)).await
    }

    /// Changes the targets; those that there were before.
    async fn targets(&self, command: Command) -> Result<Vec<Target>, Failure> {
        match self.command(command).await? {
            Answer::Targets(before) => Ok(before),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for what a container shall have.
    async fn container(&self, turns: &Semaphore, command: Command) -> Reply<types::ContainerStatus> {
        match self.bounded(self.in_turn(turns, command)).await? {
            Answer::Container(container) => Ok(Json(container)),
            other => Err(unexpected(&other)),
        }
    }

    /// Whose addresses get or lose which name.
    async fn name_change(&self, request: Request) -> Result<(Option<Holder>, Option<String>, Vec<Ipv4Addr>), Failure> {
        let body: types::NameChange = self.body(request).await?;
        let addrs = named(&body.addrs)?;
        let holder = match body.container {
            Some(container) => Some(self.look(move || netns::holder(&container)).await?),
            None => None,
        };
        Ok((holder, body.name, addrs))
    }

    /// Asks for names.
    async fn names(&self, command: Command) -> Reply<Vec<types::NameStatus>> {
        match self.command(command).await? {
            Answer::Names(names) => Ok(Json(names)),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives addresses up.
    async fn released(&self, command: Command) -> Reply<types::Released> {
        match self.command(command).await? {
            Answer::Released(addrs) => Ok(Json(types::Released { addrs })),
            other => Err(unexpected(&other)),
        }
    }

    async fn in_turn(&self, turns: &Semaphore, command: Command) -> Result<Answer, Failure> {
        let _place = turns.acquire().await.map_err(|_closed| Failure::Stopping)?;
        self.ask(command).await
    }

    async fn bounded<T>(&self, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match timeout(self.waits.reply, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Waited { after: self.waits.reply, why: self.why().await }),
        }
    }

    async fn ask(&self, command: Command) -> Result<Answer, Failure> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Command { command, reply }).await.map_err(|_closed| Failure::Stopping)?;
        Ok(answer.await.map_err(|_closed| Failure::Stopping)??)
    }

    /// The likely cause of a long wait, as the end of a clause.
    async fn why(&self) -> String {
        match self.snapshot(WHY_WAIT).await {
            Ok(core) if core.ipam_state() != "ready" => format!(" (address management: {})", core.ipam_state()),
            Ok(_) => String::new(),
            Err(_) => " (the controller is busy)".to_owned(),
        }
    }

    async fn snapshot(&self, wait: Duration) -> Result<Snapshot, Failure> {
        match timeout(wait, self.ask(Command::Status)).await {
            Ok(Ok(Answer::Status(snapshot))) => Ok(*snapshot),
            Ok(Ok(other)) => Err(unexpected(&other)),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(busy(wait)),
        }
    }

    /// What core and host say: put together beside the driver.
    async fn whole_status(&self) -> Result<types::Status, Failure> {
        let (core, host) = (self.snapshot(self.waits.reply).await?, self.host().await?);
        let whole = tokio::task::spawn_blocking(move || core.complete(host));
        whole.await.map_err(|_aborted| Failure::Stopping)
    }

    async fn host(&self) -> Result<HostStatus, Failure> {
        let asked = async {
            let (reply, answer) = oneshot::channel();
            self.calls.send(Call::Host { reply }).await.map_err(|_closed| Failure::Stopping)?;
            answer.await.map_err(|_closed| Failure::Stopping)
        };
        timeout(self.waits.reply, asked).await.unwrap_or_else(|_| Err(busy(self.waits.reply)))
    }

    /// Finds whom an operator means. Looks at files, so it runs beside the async tasks; commands' places bound how many do.
    async fn look<T: Send + 'static>(&self, look: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let looked = async {
            let _place = self.commands.acquire().await.map_err(|_closed| Failure::Stopping)?;
            tokio::task::spawn_blocking(look).await.map_err(|_aborted| Failure::Stopping)
        };
        timeout(self.waits.resolve, looked).await.unwrap_or(Err(Failure::NotFoundYet { after: self.waits.resolve }))
    }
}
