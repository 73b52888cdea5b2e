//! `release`: gives up addresses that are held without an interface.

use super::{Context, args::ReleaseArgs, detach, failure::Failure, render};
use crate::{api::types::Release, config::addr};

pub(super) fn run(context: &Context<'_>, args: ReleaseArgs) -> Result<String, Failure> {
    let ReleaseArgs { owner, addrs, absent: _ } = args;
    let Some(owner) = owner else {
        return Ok(render::released_absent(&context.wait(context.client.release_absent())?, context.json));
    };
    for text in &addrs {
        addr::detach(text)?;
    }
    let request = Release { owner, addrs };
    let released = context.wait(context.client.release(&request))?;
    detach::check(&request.owner, &request.addrs, &released)?;
    Ok(render::released(&released, context.json))
}
