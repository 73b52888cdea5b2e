//! `launch`: becomes the controller (`--foreground`), or starts one in the background and waits until it is ready.

mod background;
mod log;
mod privilege;

use super::{Context, failure::Failure, render};
use crate::config::{self, LaunchConfig, flags::LaunchFlags};

/// Called once, when the controller's API answers.
pub type Ready = Box<dyn FnOnce() + Send>;

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
    context.engine.run(config, Box::new(|| tracing::info!("ready"))).map_err(Failure::Refused)?;
    Ok(String::new())
}

fn start(context: &Context<'_>, config: &LaunchConfig, flags: &LaunchFlags) -> Result<String, Failure> {
    let pid = background::start(config, flags.log_level).map_err(|e| Failure::Refused(e.to_string()))?;
    let status = context.wait(context.client.status()).map_err(|failure| {
        let log = log::path(&config.dirs.run);
        Failure::Refused(format!("the controller became ready, but then: {failure} (its log is {})", log.display()))
    })?;
    Ok(render::launched(&status, pid, context.json))
}
