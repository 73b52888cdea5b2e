//! `status`: the state of the controller, or a part of it.

use super::{Context, args::StatusArgs, failure::Failure, render};

pub(super) fn run(context: &Context<'_>, args: &StatusArgs) -> Result<String, Failure> {
    Ok(render::status(&context.wait(context.client.status())?, args.part, context.json))
}
