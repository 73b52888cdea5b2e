//! `connect`: adds or replaces targets.

use super::{Context, args::ConnectArgs, failure::Failure, render};
use crate::{api::types::Connect, config};

pub(super) fn run(context: &Context<'_>, args: ConnectArgs) -> Result<String, Failure> {
    config::targets(&args.peers)?;
    let request = Connect { targets: args.peers, replace: args.replace };
    Ok(render::targets(&context.wait(context.client.connect(&request))?, context.json))
}
