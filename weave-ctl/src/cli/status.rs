//! `status`: the state of the controller, or a part of it.

use super::{
    Context,
    args::{StatusArgs, StatusPart},
    failure::Failure,
    render,
};

pub(super) fn run(context: &Context<'_>, args: &StatusArgs) -> Result<String, Failure> {
    if args.part == Some(StatusPart::Dns) {
        return Ok(render::names(&context.wait(context.client.names())?, context.json));
    }
    Ok(render::status(&context.wait(context.client.status())?, args.part, context.json))
}
