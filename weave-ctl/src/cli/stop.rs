//! `stop`: ends the controller; with `--teardown` the dataplane too, also when no controller runs any more.

use super::{Context, args::StopArgs, failure::Failure, render};
use crate::api::{client::ClientError, types::Stop};

pub(super) fn run(context: &Context<'_>, args: &StopArgs) -> Result<String, Failure> {
    match context.wait(context.client.stop(&Stop { teardown: args.teardown })) {
        Ok(done) => Ok(render::done(&done, context.json)),
        Err(Failure::Client(ClientError::NoController(_))) if args.teardown => {
            let removed = context.engine.teardown(&context.dirs).map_err(Failure::Refused)?;
            Ok(render::removed(&removed, context.json))
        }
        Err(Failure::Client(ClientError::NoController(run_dir))) => Err(Failure::NoController(format!(
            "no controller is running in {}: nothing was changed; `stop --teardown` removes what it left in the kernel",
            run_dir.display()
        ))),
        Err(failure) => Err(failure),
    }
}
