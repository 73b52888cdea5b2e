//! `detach`: takes addresses of a container away.

use super::{Context, args::DetachArgs, failure::Failure, render};
use crate::{api::types::Detach, config::addr};

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
    let request = Detach { container: args.container, addrs: args.addrs };
    Ok(render::detached(&context.wait(context.client.detach(&request))?, context.json))
}
