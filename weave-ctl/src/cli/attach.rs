//! `attach`: gives a container an interface and addresses.

use super::{Context, args::AttachArgs, dns, failure::Failure, files, render};
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
    files::added_hosts(&args.add_host)?;
    let request = Attach {
        container: args.container.clone(),
        owner: None,
        addrs: args.addrs.clone(),
        hostname: args.hostname.clone(),
        aliases: args.alias.clone(),
        without_dns: args.without_dns,
    };
    let attached = context.wait(context.client.attach(&request))?;
    if args.rewrite_hosts || args.rewrite_resolv || !args.add_host.is_empty() {
        files::write(&args, &attached, dns::serving(context)?.as_ref())?;
    }
    Ok(render::attached(&attached, context.json))
}
