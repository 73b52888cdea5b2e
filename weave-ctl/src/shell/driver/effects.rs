//! What the core says, carried out.

use std::sync::Arc;

use tracing::{info, warn};

use super::{Driver, Finished, RunError};
use crate::{
    proto::io::{Event, Input, LinkFacts, LinkOp, MapOp, OpId, Output, Record, Severity, Shutdown},
    shell::endpoints,
};

impl Driver {
    /// Drains the core, commits the batch's records, then does the rest. `Some` when the core asks to end.
    pub(super) async fn drain(&mut self) -> Result<Option<Shutdown>, RunError> {
        let mut records: Vec<Record> = Vec::new();
        let mut rest = Vec::new();
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Persist(record) => records.push(record),
                other => rest.push(other),
            }
        }
        if !records.is_empty() {
            let store = Arc::clone(&self.store);
            tokio::task::spawn_blocking(move || store.commit(&records)).await?.map_err(RunError::Commit)?;
        }
        let mut told = None;
        for output in rest {
            told = self.effect(output).or(told);
        }
        Ok(told)
    }

    fn effect(&mut self, output: Output) -> Option<Shutdown> {
        match output {
            // Taken out before.
            Output::Persist(_) => {}
            Output::Dial { dial, target } => self.links.dial(dial, target),
            Output::Send { link, bytes } => self.links.send(link, bytes),
            Output::Close { link, reason } => self.links.close(link, &reason),
            Output::Probe { to, bytes } => self.probes.send(to, &bytes),
            Output::Watch(addr) => self.host.watch(addr),
            Output::Unwatch(addr) => self.host.unwatch(addr),
            Output::Map(op) => self.map(op),
            Output::Link(op, what) => self.job(op, what),
            Output::Reply { id, answer } => {
                if let Some(reply) = self.replies.remove(&id) {
                    // A caller that went away needs no answer.
                    drop(reply.send(answer));
                }
            }
            Output::Event(Event { severity: Severity::Info, text }) => info!("{text}"),
            Output::Event(Event { severity: Severity::Warn, text }) => warn!("{text}"),
            Output::Shutdown(how) => return Some(how),
        }
        None
    }

    fn map(&mut self, op: MapOp) {
        match &op {
            MapOp::PutTunnel { peer, tunnel } => self.slow_path.put(*peer, tunnel),
            MapOp::DelTunnel { peer } => self.slow_path.remove(*peer),
            _ => {}
        }
        if let Err(error) = self.datapath.apply(&op) {
            self.pending.push_back(Input::MapFailed { op, reason: error.to_string() });
        }
    }

    /// Does a job on interfaces in a task of its own; [`Self::job_done`] hears of it.
    fn job(&self, op: OpId, what: LinkOp) {
        let (jobs, finished) = (Arc::clone(&self.jobs), self.finished.0.clone());
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _place = jobs.acquire().await;
            let done = match what {
                LinkOp::Ensure(spec) => {
                    let result = endpoints::ensure(&spec).await.map_err(|e| e.to_string());
                    Finished { op, made: Some(spec.host_if), result }
                }
                LinkOp::SetMtu { host_if, netns, mtu } => {
                    let result = endpoints::set_mtu(host_if, netns, mtu).await.map_err(|e| e.to_string());
                    Finished { op, made: None, result: result.map(|()| Default::default()) }
                }
                LinkOp::Remove { host_if } => {
                    let result = endpoints::remove(&host_if).await.map_err(|e| e.to_string());
                    Finished { op, made: None, result: result.map(|()| Default::default()) }
                }
            };
            // Fails only when the driver has ended.
            drop(finished.send(done).await);
        });
    }

    pub(super) fn has_endpoint(&mut self, host_if: &str, ifindex: u32) {
        self.endpoints.insert(host_if.to_owned(), ifindex);
        self.host.keep_watch_of(host_if.to_owned(), ifindex);
    }

    /// An interface is made: attach the program before the core hears of it.
    pub(super) async fn job_done(&mut self, done: Finished) -> Result<Option<Shutdown>, RunError> {
        let Finished { op, made, mut result } = done;
        if let (Some(host_if), Ok(LinkFacts { ifindex })) = (&made, &result) {
            match self.datapath.attach_container(host_if) {
                Ok(()) => self.has_endpoint(host_if, *ifindex),
                Err(error) => {
                    result = Err(error.to_string());
                    let host_if = host_if.clone();
                    tokio::spawn(async move {
                        if let Err(left) = endpoints::remove(&host_if).await {
                            warn!("{left}");
                        }
                    });
                }
            }
        }
        self.input(Input::LinkDone { op, result }).await
    }
}
