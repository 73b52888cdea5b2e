//! The driver's contract: all records of a batch in one commit, then everything else in the order given; and what the
//! simulated kernel makes of it.

use std::{iter, time::Duration};

use weave_ctl::proto::io::{Input, MapOp, OpId, Output, Severity, Shutdown};

use super::{Event, HostId, World, journal::Detail};

impl World {
    pub(super) fn drain(&mut self, id: HostId) {
        let Some(node) = self.hosts.get_mut(&id).and_then(|h| h.node.as_mut()) else { return };
        let batch: Vec<Output> = iter::from_fn(|| node.poll_output()).collect();
        self.bound_batch(id, batch.len());
        let persists = batch.iter().any(|o| matches!(o, Output::Persist(_)));
        if !persists || self.commit(id, &batch) {
            self.carry_out(id, batch, persists);
        }
    }

    /// Does what a batch asks for once its records are durable.
    pub(super) fn carry_out(&mut self, id: HostId, batch: Vec<Output>, persists: bool) {
        // A controller may be killed between any two effects.
        let killed = persists && self.chance(self.faults.crash_after_commit);
        let done = if killed { self.below(batch.len() + 1) } else { batch.len() };
        let run = self.hosts.get(&id).map(|h| h.run);
        for output in batch.into_iter().take(done) {
            if persists && self.is_write_point(id) {
                return;
            }
            self.effect(id, output);
        }
        if self.hosts.get(&id).map(|h| h.run) != run {
            return;
        }
        if killed {
            return self.crash_and_return(id);
        }
        self.reschedule(id);
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).unwrap_or(0)
    }

    pub(super) fn crash_and_return(&mut self, id: HostId) {
        self.crash(id);
        let delay = Duration::from_millis(100 + self.rng.below(3000));
        self.at(delay, Event::Restart(id));
    }

    fn effect(&mut self, id: HostId, output: Output) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let run = host.run;
        match output {
            Output::Persist(_) => {}
            Output::Map(op) => self.map_op(id, run, op),
            Output::Dial(dial, target) => {
                self.journal.note(Detail::Frames, self.now, || format!("h{id} dials {target}"));
                let delay = self.delay();
                self.at(delay, Event::Connect { from: id, run, dial, target });
            }
            Output::Send(session, bytes) => self.send(id, session, bytes),
            Output::Close(session, reason) => self.close(id, session, &reason),
            Output::Probes(probes) => probes.into_iter().for_each(|probe| self.send_probe(id, probe)),
            Output::Watch(addr) => {
                let egress = self.egress(id, addr);
                let delay = self.delay();
                self.at(delay, Event::Deliver(id, run, Input::Egress(addr, egress)));
            }
            // The shell's answers to what is not watched any more are ignored by the core.
            Output::Unwatch(_) => {}
            Output::Link(op, what) => {
                host.operations.insert(op, what);
                let delay = self.delay();
                self.at(delay, Event::LinkOp(id, run, op));
            }
            Output::Reply(request, answer) => {
                self.note(|| match &answer {
                    Ok(weave_ctl::proto::command::Answer::Status(_)) => format!("h{id} #{} -> status", request.0),
                    answer => format!("h{id} #{} -> {answer:?}", request.0),
                });
                self.oracle.answered(request.0, &answer);
                self.answers.insert(request.0, answer);
                self.check_promises(id);
            }
            Output::Event(severity, text) => self.note(|| {
                let mark = if severity == Severity::Warn { "WARN " } else { "" };
                format!("h{id} {mark}{text}")
            }),
            Output::Shutdown(Shutdown::Stop) => self.crash(id),
            Output::Shutdown(Shutdown::Teardown) => self.power_off(id),
            Output::Shutdown(Shutdown::Wipe | Shutdown::Leave) => self.wipe(id),
        }
    }

    fn map_op(&mut self, id: HostId, run: u64, op: MapOp) {
        if self.chance(self.faults.map_failure) {
            self.note(|| format!("h{id} {op:?} fails"));
            let reason = "simulated failure of the kernel".to_owned();
            return self.at(Duration::ZERO, Event::Deliver(id, run, Input::MapFailed(op, reason)));
        }
        self.note(|| format!("h{id} {op:?}"));
        self.check_lasting(id, &op);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        self.meter.map_op(&host.kernel.maps, &op);
        host.kernel.apply(&op);
    }

    pub(super) fn link_op(&mut self, id: HostId, run: u64, op: OpId) {
        let fails = self.chance(self.faults.link_failure);
        let Some(host) = self.hosts.get_mut(&id).filter(|h| h.run == run) else { return };
        let Some(what) = host.operations.remove(&op) else { return };
        let result =
            if fails { Err("simulated failure of the kernel".to_owned()) } else { Ok(host.kernel.link_op(&what)) };
        self.note(|| format!("h{id} {what:?} -> {result:?}"));
        self.check_interfaces(id);
        self.input(id, Input::LinkDone(op, result));
    }
}
