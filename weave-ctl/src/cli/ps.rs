//! `ps`: the containers of this host.

use super::{Context, failure::Failure, render};

pub(super) fn run(context: &Context<'_>) -> Result<String, Failure> {
    Ok(render::containers(&context.wait(context.client.ps())?, context.json))
}
