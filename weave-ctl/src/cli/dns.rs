//! `dns-add`, `dns-remove`, `dns-lookup`, `dns-args`: names of containers.

use super::{
    Context,
    args::{LookupArgs, NameArgs},
    failure::Failure,
    render,
};
use crate::{
    api::types::{DnsStatus, Lookup, NameChange},
    config::addr,
};

/// What the arguments name: addresses, and at most one container.
fn change(args: NameArgs) -> Result<NameChange, Failure> {
    let (addrs, mut containers): (Vec<String>, Vec<String>) =
        args.items.into_iter().partition(|item| addr::detach(item).is_ok());
    let container = containers.pop();
    if let (Some(one), Some(other)) = (containers.pop(), &container) {
        return Err(Failure::Usage(format!("{one:?} and {other:?} are no addresses: name one container at most")));
    }
    Ok(NameChange { container, name: args.hostname, addrs })
}

pub(super) fn add(context: &Context<'_>, args: NameArgs) -> Result<String, Failure> {
    let change = change(args)?;
    Ok(render::names(&context.wait(context.client.add_name(&change))?, context.json))
}

pub(super) fn remove(context: &Context<'_>, args: NameArgs) -> Result<String, Failure> {
    let change = change(args)?;
    Ok(render::done(&context.wait(context.client.remove_name(&change))?, context.json))
}

pub(super) fn lookup(context: &Context<'_>, args: LookupArgs) -> Result<String, Failure> {
    let lookup = Lookup { name: args.name };
    let found = context.wait(context.client.lookup(&lookup))?;
    if found.is_empty() {
        return Err(Failure::Refused(format!(
            "no container is called {:?} (`status dns` lists all names)",
            lookup.name
        )));
    }
    Ok(render::found(&found, context.json))
}

/// Nothing, where questions are not answered: containers then ask as their engine has it.
pub(super) fn arguments(context: &Context<'_>) -> Result<String, Failure> {
    let dns = serving(context)?;
    let arguments = dns.map(|dns| {
        let address = dns.address.to_string();
        ["--dns", &address, "--dns-search", &dns.domain].map(str::to_owned)
    });
    Ok(render::arguments(arguments.as_ref().map_or(&[][..], |arguments| &arguments[..]), context.json))
}

/// Where containers ask for names; `None` where they cannot.
pub(super) fn serving(context: &Context<'_>) -> Result<Option<DnsStatus>, Failure> {
    Ok(context.wait(context.client.status())?.dns.filter(|dns| dns.enabled))
}
