//! `reset`: leaves the network and forgets everything; with `--force` also when no controller runs any more.

use super::{Context, args::ResetArgs, failure::Failure, render};
use crate::api::{client::ClientError, types::Reset};

pub(super) fn run(context: &Context<'_>, args: &ResetArgs) -> Result<String, Failure> {
    match context.wait(context.client.reset(&Reset { force: args.force })) {
        Ok(done) => Ok(render::done(&done, context.json)),
        Err(Failure::Client(ClientError::NoController(_))) if args.force => {
            let removed = context.engine.wipe(&context.dirs).map_err(Failure::Refused)?;
            Ok(render::removed(&removed, context.json))
        }
        Err(Failure::Client(ClientError::NoController(run_dir))) => Err(Failure::NoController(format!(
            "no controller is running in {}: nothing was changed; launch it to hand its addresses to a peer first, or \
             use `reset --force` to forget everything without that",
            run_dir.display()
        ))),
        Err(failure) => Err(failure),
    }
}
