//! What the core says, carried out.

use std::{net::Ipv4Addr, sync::Arc};

use tracing::{info, warn};

use super::{Driver, Finished, RunError, Step, egress};
use crate::{
    proto::{
        domain::DnsName,
        io::{EndpointSpec, Input, LinkOp, MapOp, OpId, Output, Record, Severity, Shutdown},
        reservation::Place,
    },
    shell::{datapath::DatapathError, endpoints},
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
            Output::Dial(dial, target) => self.links.dial(dial, target),
            Output::Send(session, bytes) => self.links.send(session, bytes),
            Output::Close(session, reason) => self.links.close(session, &reason),
            Output::Probes(probes) => self.prober.send(&probes),
            Output::Watch(addr) => self.host.watch(addr),
            Output::Unwatch(addr) => {
                self.egresses.remove(&addr);
                self.host.unwatch(addr);
            }
            Output::Map(op) => self.map(op),
            Output::Link(op, what) => self.job(op, what),
            Output::Reply(id, answer) => {
                if let Some(reply) = self.replies.remove(&id) {
                    // A caller that went away needs no answer.
                    drop(reply.send(answer));
                }
            }
            Output::Event(Severity::Info, text) => info!("{text}"),
            Output::Event(Severity::Warn, text) => warn!("{text}"),
            Output::Shutdown(how) => return Some(how),
        }
        None
    }

    fn map(&mut self, op: MapOp) {
        match &op {
            MapOp::PutTunnel(peer, tunnel) => self.slow_path.put(*peer, tunnel),
            MapOp::DelTunnel(peer) => self.slow_path.remove(*peer),
            _ => {}
        }
        let done = match &op {
            MapOp::PutName(name, addrs) => self.put_name(name, addrs),
            MapOp::DelName(name) => self.put_name(name, &[]),
            _ => self.datapath.apply(&op),
        };
        if let Err(error) = done {
            self.pending.push_back(Input::MapFailed(op, error.to_string()));
        }
    }

    /// Tells a name to the resolver and to the programs.
    fn put_name(&mut self, name: &DnsName, addrs: &[Ipv4Addr]) -> Result<(), DatapathError> {
        let (table, domain) = &self.names;
        let name = domain.full(name);
        table.put(&name, addrs);
        self.datapath.put_name(&name, addrs)
    }

    /// Does a job on interfaces in a task of its own; [`Self::job_done`] gets what came of it.
    fn job(&self, op: OpId, what: LinkOp) {
        self.in_a_task(async move {
            match what {
                LinkOp::Ensure(spec) => ensure(op, spec).await,
                LinkOp::SetMtu { host_if, place, mtu } => {
                    let result = endpoints::set_mtu(host_if, place, mtu).await.map_err(|e| e.to_string());
                    Finished { op, step: Step::Last, result: result.map(|()| Default::default()) }
                }
                LinkOp::Remove { host_if, masquerade } => {
                    let mut result = endpoints::remove(&host_if).await.map_err(|e| e.to_string());
                    if masquerade && result.is_ok() {
                        result = egress::remove().await.map_err(|e| e.to_string());
                    }
                    Finished { op, step: Step::Last, result: result.map(|()| Default::default()) }
                }
            }
        });
    }

    fn in_a_task(&self, job: impl Future<Output = Finished> + Send + 'static) {
        let (jobs, finished) = (Arc::clone(&self.jobs), self.finished.0.clone());
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _place = jobs.acquire().await;
            // Fails only when the driver has ended.
            drop(finished.send(job.await).await);
        });
    }

    pub(super) fn has_endpoint(&mut self, host_if: &str, ifindex: u32) {
        self.endpoints.insert(host_if.to_owned(), ifindex);
        self.host.keep_watch_of(ifindex);
    }

    /// The program of an interface that is made is attached before its host end is up, and the core hears of it when it is
    /// up: so nothing that the container sends reaches this host's stack.
    pub(super) async fn job_done(&mut self, done: Finished) -> Result<Option<Shutdown>, RunError> {
        let Finished { op, step, result } = done;
        if let (Step::Made { host_if, masquerade }, &Ok(ifindex)) = (&step, &result) {
            let host_if = host_if.clone();
            if let Some(applied) = masquerade {
                self.masqueraded(Ok(applied.clone()));
            }
            self.has_endpoint(&host_if, ifindex);
            let attached = self.programs.ask(move |programs| programs.attach_container(ifindex));
            self.in_a_task(async move {
                let refused = match attached.await {
                    Ok(Ok(())) => {
                        let result = endpoints::raise(ifindex).await.map(|()| ifindex).map_err(|e| e.to_string());
                        return Finished { op, step: Step::Last, result };
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(ended) => ended.to_string(),
                };
                if let Err(left) = endpoints::remove(&host_if).await {
                    warn!("{left}");
                }
                Finished { op, step: Step::Refused { host_if }, result: Err(refused) }
            });
            return Ok(None);
        }
        if let Step::Refused { host_if } = &step
            && let Some(ifindex) = self.endpoints.remove(host_if)
        {
            self.forget_programs(ifindex);
            self.host.forget(ifindex);
        }
        self.input(Input::LinkDone(op, result)).await
    }
}

/// Makes an interface; before that of the host, the rules by which containers go out through it.
async fn ensure(op: OpId, spec: EndpointSpec) -> Finished {
    let range = match spec.place {
        Place::Host { masquerade: true } => spec.routes.first().copied(),
        Place::Host { .. } | Place::Netns(_) => None,
    };
    let applied = match range {
        Some(range) => egress::apply(range).await.map(Some).map_err(|e| e.to_string()),
        None => Ok(None),
    };
    let (masquerade, result) = match applied {
        Ok(applied) => (applied, endpoints::ensure(&spec).await.map_err(|e| e.to_string())),
        Err(error) => (None, Err(error)),
    };
    Finished { op, step: Step::Made { host_if: spec.host_if, masquerade }, result }
}
