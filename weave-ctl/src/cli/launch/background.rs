//! Starts a controller in the background, and waits until it is ready or has said why not.
//!
//! The parent starts this program again with `--foreground --ready-fd N`, N being the writing end of a pipe. The child
//! leaves the session, logs to a file and writes one line to the pipe: [`READY`], or the reason why it cannot. A child
//! that ends without a word closes the pipe, so the parent always learns something within [`READY_WAIT`].
//!
//! The secret goes to the child by its standard input, so neither arguments nor environment of the controller show it.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::DirBuilderExt,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::{FdFlags, fcntl_getfd, fcntl_setfd},
    process::{Pid, Signal, kill_process, setsid},
};

use super::{
    super::{Context, failure::Failure},
    Moments, log, warn_of,
};
use crate::config::{
    Init, LaunchConfig,
    env::{KEY_FILE, PASSWORD},
    flags::LogLevel,
};

/// Where the child finds the secret: its standard input.
const SECRET: &str = "/proc/self/fd/0";
/// What the child writes when its API answers.
const READY: &str = "ready";
/// Longest wait for the child's line.
const READY_WAIT: Duration = Duration::from_secs(30);
/// Longest wait for a child that was told to end, before it is killed.
const END_WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks whether it has.
const END_POLL: Duration = Duration::from_millis(20);
/// Longest reason taken from the child, in bytes.
const REASON_MAX: u64 = 16 * 1024;

/// Why no controller runs in the background.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// Nothing was started.
    #[error("cannot {what}: {source}; no controller was started")]
    Prepare { what: String, source: io::Error },
    /// The child said why.
    #[error("{0}")]
    Reason(String),
    /// The child ended without a word.
    #[error("the controller ended before it was ready ({status}): see {}", log.display())]
    Ended { status: String, log: PathBuf },
    /// The child was ended.
    #[error("the controller was not ready after {} seconds and was ended: see {}", READY_WAIT.as_secs(), log.display())]
    Late { log: PathBuf },
}

/// Starts a controller and returns its process id when it is ready.
pub(super) fn start(config: &LaunchConfig, level: LogLevel) -> Result<u32, StartError> {
    let prepare = |what: &str| {
        let what = what.to_owned();
        move |source: io::Error| StartError::Prepare { what, source }
    };
    let run_dir = &config.dirs.run;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(run_dir);
    made.map_err(prepare(&format!("make the run directory {}", run_dir.display())))?;
    let log_path = log::path(run_dir);
    let log = log::open(&log_path).map_err(prepare(&format!("open the log {}", log_path.display())))?;
    let (reader, writer) = io::pipe().map_err(prepare("make a pipe"))?;
    // The child must inherit this end, and only this one: it outlives whoever waits for the others to close.
    close_in_children().map_err(prepare("list open files"))?;
    fcntl_setfd(&writer, FdFlags::empty()).map_err(|e| prepare("prepare a pipe")(e.into()))?;
    let program = std::env::current_exe().map_err(prepare("find this program"))?;
    let mut command = Command::new(program);
    command
        .args(arguments(config, level, writer.as_raw_fd(), SECRET))
        .env_remove(PASSWORD)
        .env_remove(KEY_FILE)
        .current_dir("/")
        .stdin(if config.secret.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::null())
        // What a panic says goes to the log as well.
        .stderr(log);
    let mut child = command.spawn().map_err(prepare("start this program again"))?;
    if let (Some(secret), Some(mut stdin)) = (&config.secret, child.stdin.take()) {
        // A pipe takes it at once, however long. A child that does not read has ended, and that is told below.
        secret.write(&mut stdin).ok();
    }
    // With this end closed here, the pipe ends when the child does.
    drop(writer);
    match first_line(reader) {
        Some(line) if line == READY => Ok(child.id()),
        Some(line) if line.is_empty() => {
            let status = wait(&mut child).map_or_else(|e| e.to_string(), |status| status.to_string());
            Err(StartError::Ended { status, log: log_path })
        }
        Some(reason) => {
            end(&mut child).ok();
            Err(StartError::Reason(reason))
        }
        None => {
            end(&mut child).ok();
            Err(StartError::Late { log: log_path })
        }
    }
}

/// Marks all that this process has open, beside the three standard descriptors, as not for its children.
fn close_in_children() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        if fd > 2 {
            // SAFETY: borrowed for one call. The descriptor was open a moment ago; were it closed meanwhile, the kernel
            // would refuse, and were it another by now, that one is not for children either.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            fcntl_setfd(fd, FdFlags::CLOEXEC).ok();
        }
    }
    Ok(())
}

/// The child's line without its end; empty when it closed the pipe, `None` when it wrote nothing in time.
fn first_line(reader: PipeReader) -> Option<String> {
    let (tx, rx) = mpsc::sync_channel(1);
    // Ends with the pipe: at the latest when the child does.
    thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(reader.take(REASON_MAX)).read_line(&mut line);
        tx.send(read.map(|_| line.trim_end().to_owned()).unwrap_or_default()).ok();
    });
    rx.recv_timeout(READY_WAIT).ok()
}

/// Tells the child to end, and waits for that.
fn end(child: &mut Child) -> io::Result<ExitStatus> {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Fails only when the child has ended by itself.
        kill_process(pid, Signal::TERM).ok();
    }
    wait(child)
}

/// Waits for the end of a child that is about to end, and kills it when it does not.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + END_WAIT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(END_POLL);
    }
    child.kill()?;
    child.wait()
}

/// The arguments with which a child gets the same settings; its secret is in the file `secret`.
fn arguments(config: &LaunchConfig, level: LogLevel, ready_fd: RawFd, secret: &str) -> Vec<OsString> {
    let launch = &config.launch;
    let mut list: Vec<OsString> = Vec::new();
    for (flag, dir) in
        [("--run-dir", &config.dirs.run), ("--state-dir", &config.dirs.state), ("--bpf-dir", &config.dirs.bpf)]
    {
        list.extend([flag.into(), dir.into()]);
    }
    list.extend(["launch", "--foreground"].map(OsString::from));
    let mut flag = |name: &str, value: Option<String>| list.extend(value.map(|v| format!("--{name}={v}").into()));
    flag("ready-fd", Some(ready_fd.to_string()));
    flag("log-level", Some(level.to_string()));
    flag("name", launch.name.map(|n| n.to_string()));
    flag("nickname", Some(launch.nickname.clone()));
    flag("port", Some(launch.port.to_string()));
    flag("host", Some(config.listen.to_string()));
    flag("ipalloc-range", launch.range.map(|n| n.to_string()));
    flag("ipalloc-default-subnet", launch.default_subnet.map(|n| n.to_string()));
    for seed in &launch.seeds {
        flag("seed", Some(seed.to_string()));
    }
    if let Init::Election(count) = launch.init {
        flag("initial-peer-count", Some(count.to_string()));
    }
    flag("conn-limit", Some(launch.conn_limit.to_string()));
    flag("test-grace", launch.test_grace.map(|grace| grace.as_secs().to_string()));
    flag("xdp", Some(config.xdp.to_string()));
    flag("dns-domain", Some(launch.dns_domain.to_string()));
    if let Some(dns) = &config.dns {
        flag("dns-ttl", Some(dns.ttl.to_string()));
        flag("dns-kernel", Some(dns.kernel.to_string()));
        dns.upstream.iter().for_each(|server| flag("dns-upstream", Some(server.to_string())));
        dns.listen.iter().for_each(|addr| flag("dns-listen", Some(addr.to_string())));
    }
    if let Some(given) = &config.secret {
        flag(given.file_flag(), Some(secret.to_owned()));
    }
    if !launch.discovery {
        list.push("--no-discovery".into());
    }
    if config.dns.is_none() {
        list.push("--no-dns".into());
    }
    if launch.init == Init::Observer {
        list.push("--observer".into());
    }
    list.push("--".into());
    list.extend(launch.targets.iter().map(|t| t.to_string().into()));
    list
}

/// The child's side: runs the controller and tells the waiting parent how that began.
pub(super) fn become_controller(
    context: &Context<'_>,
    config: LaunchConfig,
    level: LogLevel,
    ready_fd: RawFd,
) -> Result<String, Failure> {
    let pipe = inherited(ready_fd)?;
    // Ctrl-C in the terminal of `launch` must not reach the controller. Fails only where it already leads a session.
    setsid().ok();
    let said = log::to_file(level, log::path(&config.dirs.run)).map_err(|e| format!("cannot write the log: {e}"));
    // Closed with the first line: after that nobody reads it.
    let pipe = Arc::new(Mutex::new(Some(pipe)));
    let ready = Box::new({
        let pipe = Arc::clone(&pipe);
        move || tell(&pipe, READY)
    });
    // Nothing to systemd, whatever the environment says: it waits for those that it started, not for their children.
    let moments = Moments { ready, stopping: Box::new(|| ()) };
    let ended = said.and_then(|()| {
        warn_of(&config);
        context.engine.run(config, moments)
    });
    ended.map(|()| String::new()).map_err(|reason| {
        tracing::error!("{reason}");
        // One line, whatever the reason holds.
        tell(&pipe, &reason.replace('\n', " "));
        Failure::Refused(reason)
    })
}

/// Writes the one line, unless it was written.
fn tell(pipe: &Mutex<Option<PipeWriter>>, line: &str) {
    let pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut pipe) = pipe {
        // The parent may be gone: then nobody waits.
        writeln!(pipe, "{line}").ok();
    }
}

/// The pipe that the parent left open for this process.
fn inherited(fd: RawFd) -> Result<PipeWriter, Failure> {
    let wrong = || Failure::Usage(format!("--ready-fd {fd} is not a pipe: it is for launch itself, leave it out"));
    let is_pipe =
        std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"));
    if fd <= 2 || !is_pipe {
        return Err(wrong());
    }
    // SAFETY: the descriptor is open (it was just looked at) and no one else in this process owns it: it was inherited,
    // and this is the only place that takes up what was inherited beside the three standard ones.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let flags = fcntl_getfd(&fd).map_err(|_errno| wrong())?;
    fcntl_setfd(&fd, flags | FdFlags::CLOEXEC).map_err(|_errno| wrong())?;
    Ok(fd.into())
}

#[cfg(test)]
mod tests;
