//! `forget`: removes targets.

use super::{Context, args::ForgetArgs, failure::Failure, render};
use crate::{api::types::Forget, config};

pub(super) fn run(context: &Context<'_>, args: ForgetArgs) -> Result<String, Failure> {
    config::targets(&args.peers)?;
    let request = Forget { targets: args.peers };
    Ok(render::targets(&context.wait(context.client.forget(&request))?, context.json))
}
