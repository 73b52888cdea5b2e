//! `rmpeer`: takes over from peers that are gone for good.

use super::{Context, args::RmpeerArgs, failure::Failure, render};
use crate::api::types::RemovePeer;

pub(super) fn run(context: &Context<'_>, args: RmpeerArgs) -> Result<String, Failure> {
    let mut text = String::new();
    for peer in args.peers {
        let removed = context.wait(context.client.remove_peer(&RemovePeer { peer, force: args.force }));
        match removed {
            Ok(removed) => text += &render::removed_peer(&removed, context.json),
            // What was done before is said first: it stays done.
            Err(failure) => {
                super::print(&mut std::io::stdout().lock(), &text);
                return Err(failure);
            }
        }
    }
    Ok(text)
}
