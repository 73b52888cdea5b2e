//! `expose` and `hide`: the host's own interface in the network.

use super::{
    Context,
    args::{ExposeArgs, HideArgs},
    detach,
    failure::Failure,
    render,
};
use crate::{
    api::types::{Expose, Hide},
    config::addr,
};

pub(super) fn run(context: &Context<'_>, args: ExposeArgs) -> Result<String, Failure> {
    for text in &args.addrs {
        addr::attach(text)?;
    }
    let request = Expose { addrs: args.addrs };
    Ok(render::attached(&context.wait(context.client.expose(&request))?, context.json))
}

pub(super) fn hide(context: &Context<'_>, args: HideArgs) -> Result<String, Failure> {
    for text in &args.addrs {
        addr::detach(text)?;
    }
    let request = Hide { addrs: args.addrs };
    let released = context.wait(context.client.hide(&request))?;
    // A host that is hidden already is what was asked for.
    if !request.addrs.is_empty() {
        detach::check("this host", &request.addrs, &released)?;
    }
    Ok(render::released(&released, context.json))
}
