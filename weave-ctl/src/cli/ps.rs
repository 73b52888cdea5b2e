//! `ps`: the owners of addresses on this host.

use super::{Context, args::PsArgs, failure::Failure, render};
use crate::api::types::ContainerState;

pub(super) fn run(context: &Context<'_>, args: &PsArgs) -> Result<String, Failure> {
    let mut all = context.wait(context.client.ps())?;
    all.retain(|container| !args.absent || container.state == ContainerState::Absent);
    Ok(render::containers(&all, context.json))
}
