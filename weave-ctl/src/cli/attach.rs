//! `attach`: gives a container an interface and addresses.

use super::{Context, args::AttachArgs, failure::Failure, render};
use crate::{api::types::Attach, config::addr};

pub(super) fn run(context: &Context<'_>, args: AttachArgs) -> Result<String, Failure> {
    for text in &args.addrs {
        addr::attach(text)?;
    }
    // No container is called so: its name was left out.
    if addr::attach(&args.container).is_ok() {
        return Err(Failure::Usage(format!(
            "{:?} is an address, not a container: name the container last",
            args.container
        )));
    }
    let request = Attach { container: args.container, owner: None, addrs: args.addrs };
    Ok(render::attached(&context.wait(context.client.attach(&request))?, context.json))
}
