//! Commands with a time limit, their output and their failures as text.

use std::{
    io::Read,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Longest time for a command of the Lab.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Bounds of the pause between two looks at a command. In between it grows with the command's own time: a short command
/// is not made longer, a long one is not disturbed.
const POLL: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(20)];
/// Part of a command's own time that the pause is.
const POLL_PART: u32 = 50;

/// Set by [`interrupt`].
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends the command under way and makes every further one fail, but not those that clean up.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// True after [`interrupt`].
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Runs a command; its standard output.
///
/// # Errors
/// When it cannot be started, fails or takes longer than [`LIMIT`]; with what it printed.
pub fn run(args: &[&str]) -> Result<String> {
    success(args, output(args)?)
}

/// As [`run`], for cleaning up: goes on after [`interrupt`].
///
/// # Errors
/// As [`run`].
pub fn run_always(args: &[&str]) -> Result<String> {
    success(args, output_unless(args, || false)?)
}

fn success(args: &[&str], output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("`{}` failed ({}): {}", args.join(" "), output.status, text(&output).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command; whatever came of it.
///
/// # Errors
/// When it cannot be started or takes longer than [`LIMIT`].
pub fn output(args: &[&str]) -> Result<Output> {
    output_unless(args, interrupted)
}

fn output_unless(args: &[&str], stop: impl Fn() -> bool) -> Result<Output> {
    let (program, rest) = args.split_first().context("a command")?;
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A Ctrl-C at the terminal reaches the Lab alone, which then ends its commands in order.
    command.process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot run `{program}`"))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > LIMIT {
            kill(&mut child);
            bail!("`{}` took longer than {LIMIT:?}", args.join(" "));
        }
        if stop() {
            kill(&mut child);
            bail!("interrupted");
        }
        sleep((start.elapsed() / POLL_PART).clamp(POLL[0], POLL[1]));
    };
    Ok(Output { status, stdout: stdout.join().unwrap_or_default(), stderr: stderr.join().unwrap_or_default() })
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is what there is.
            pipe.read_to_end(&mut bytes).ok();
        }
        bytes
    })
}

fn kill(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

/// Sends `signal` to a process and waits until it is gone with all that it held. A process that has ended is no error.
///
/// Its command line vanishes before its files are closed, so looking for that says too early that it is gone.
///
/// # Errors
/// When it does not end within [`LIMIT`].
pub fn end(pid: i32, signal: Signal) -> Result<()> {
    let Some(number) = Pid::from_raw(pid) else { bail!("{pid} is no process") };
    let process = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot watch process {pid}")),
    };
    match pidfd_send_signal(&process, signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot signal process {pid}")),
    }
    let limit = Timespec::try_from(LIMIT).context("a limit")?;
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).context("wait for a process")?;
    ensure!(ended == 1, "process {pid} does not end");
    Ok(())
}

/// Both outputs, one after the other.
#[must_use]
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
