//! `detach`: takes addresses of a container away.

use super::{Context, args::DetachArgs, failure::Failure, render};
use crate::{
    api::types::{Detach, Released},
    config::addr,
};

pub(super) fn run(context: &Context<'_>, args: DetachArgs) -> Result<String, Failure> {
    for text in &args.addrs {
        addr::detach(text)?;
    }
    if addr::attach(&args.container).is_ok() {
        return Err(Failure::Usage(format!(
            "{:?} is an address, not a container: name the container last",
            args.container
        )));
    }
    let request = Detach { container: args.container, addrs: args.addrs, keep: false };
    let released = context.wait(context.client.detach(&request))?;
    check(&request.container, &request.addrs, &released)?;
    Ok(render::released(&released, context.json))
}

/// A name that is mistyped is told, though to have nothing is what was asked for.
pub(super) fn check(owner: &str, named: &[String], released: &Released) -> Result<(), Failure> {
    let released: Vec<String> = released.addrs.iter().map(|net| net.addr().to_string()).collect();
    let mut named = named.iter().filter_map(|text| text.split('/').next());
    if let Some(missing) = named.find(|addr| !released.iter().any(|released| released == addr)) {
        return Err(Failure::Refused(format!(
            "{owner} does not have address {missing}; `weave-ctl ps` lists all owners and addresses"
        )));
    }
    if released.is_empty() {
        let text = format!(
            "{owner} is not attached to this network and has no address; `weave-ctl ps` lists the owners of addresses"
        );
        return Err(Failure::Refused(text));
    }
    Ok(())
}
