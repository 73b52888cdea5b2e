//! `launch`: becomes the controller (`--foreground`), or starts one in the background and waits until it is ready.

mod background;
mod log;
mod notify;
mod privilege;

use self::notify::Notifier;
use super::{Context, Engine, failure::Failure, render};
use crate::config::{self, LaunchConfig, flags::LaunchFlags};

/// What a controller calls while it runs, each at most once.
pub struct Moments {
    /// The API answers.
    pub ready: Box<dyn FnOnce() + Send>,
    /// It was told to stop, and begins to.
    pub stopping: Box<dyn FnOnce() + Send>,
}

pub(super) fn run(context: &Context<'_>, flags: &LaunchFlags) -> Result<String, Failure> {
    let config = config::launch(flags, context.dirs.clone(), &context.env)?;
    match flags.ready_fd {
        // What launch checked before it started this process need not be checked again: the lock decides.
        Some(fd) => background::become_controller(context, config, flags.log_level, fd),
        None => {
            check(context)?;
            if flags.foreground { foreground(context, config, flags) } else { start(context, &config, flags) }
        }
    }
}

fn check(context: &Context<'_>) -> Result<(), Failure> {
    privilege::check().map_err(Failure::Refused)?;
    if context.wait(context.client.is_running())? {
        return Err(Failure::Refused(format!(
            "a controller is already running in {}: it was left alone; stop it first, or choose other directories with \
             --run-dir, --state-dir and --bpf-dir",
            context.dirs.run.display()
        )));
    }
    Ok(())
}

fn foreground(context: &Context<'_>, config: LaunchConfig, flags: &LaunchFlags) -> Result<String, Failure> {
    log::to_stderr(flags.log_level);
    warn_of(&config);
    run_notifying(context.engine, config, &Notifier::new(context.env.notify_socket.as_deref()))
}

/// Runs the controller, and tells whoever waits when it is ready, when it ends, and why it failed.
fn run_notifying(engine: &dyn Engine, config: LaunchConfig, notifier: &Notifier) -> Result<String, Failure> {
    let control = config.launch.port;
    let (at_ready, at_stop) = (notifier.clone(), notifier.clone());
    let moments = Moments {
        ready: Box::new(move || {
            tracing::info!("ready");
            // The data port follows the control port.
            at_ready.ready(&format!("control on TCP {control}, packets on UDP {}", control.saturating_add(1)));
        }),
        stopping: Box::new(move || at_stop.stopping()),
    };
    engine.run(config, moments).map(|()| String::new()).map_err(|reason| {
        notifier.failed(&reason);
        Failure::Refused(reason)
    })
}

fn start(context: &Context<'_>, config: &LaunchConfig, flags: &LaunchFlags) -> Result<String, Failure> {
    let pid = background::start(config, flags.log_level).map_err(|e| Failure::Refused(e.to_string()))?;
    let status = context.wait(context.client.status()).map_err(|failure| {
        let log = log::path(&config.dirs.run);
        Failure::Refused(format!("the controller became ready, but then: {failure} (its log is {})", log.display()))
    })?;
    Ok(render::launched(&status, pid, &config.warnings, context.json))
}

/// Logs what the operator should know of the settings.
fn warn_of(config: &LaunchConfig) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests;
