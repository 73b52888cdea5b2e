//! `consense`: waits until there is a ring, and says what it waits for.

use std::time::Duration;

use super::{Context, failure::Failure, render};

/// Pause between two questions whether there is a ring.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(context: &Context<'_>) -> Result<String, Failure> {
    let json = context.json;
    let done = context.wait(async {
        let mut said = String::new();
        loop {
            let consensus = context.client.consense().await?;
            if consensus.ready {
                return Ok::<_, crate::api::client::ClientError>(consensus);
            }
            if consensus.state != said {
                super::print(&mut std::io::stderr().lock(), &render::waiting(&consensus, json));
                said = consensus.state;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })?;
    Ok(render::consensus(&done, json))
}
