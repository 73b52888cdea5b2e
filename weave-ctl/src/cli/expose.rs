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
    let request = Expose { addrs: args.addrs, masquerade: args.masquerade, hostname: args.hostname };
    let exposed = context.wait(context.client.expose(&request))?;
    if args.masquerade {
        let status = context.wait(context.client.status())?;
        // It is exposed all the same: what the host's firewall needs is the operator's to decide.
        for text in status.warnings.iter().filter(|text| text.starts_with("masquerade: ")) {
            super::print(&mut std::io::stderr().lock(), &render::warning(text, context.json));
        }
    }
    Ok(render::attached(&exposed, context.json))
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
