//! Carries out what callers ask for, as far as it is not in a file of its own.

use super::Node;
use crate::proto::{
    command::{Answer, Command, Refusal},
    ids::RequestId,
    io::{Output, Record, Shutdown},
    target::Target,
    time::Instant,
};

/// Most targets that a peer keeps.
const TARGETS_MAX: usize = 1024;

impl Node {
    pub(super) fn command(&mut self, id: RequestId, command: Command, now: Instant) {
        match command {
            Command::Connect { targets, replace } => self.connect(id, targets, replace, now),
            Command::Forget(targets) => self.forget(id, &targets, now),
            Command::Attach(container, addrs) => self.attach(id, container, addrs),
            Command::Detach(container, addrs) => self.endpoints.detach(id, &container, &addrs),
            Command::Status => {
                let status = Box::new(self.status(now));
                self.reply(id, Ok(Answer::Status(status)));
            }
            Command::Stop { teardown } => {
                self.reply(id, Ok(Answer::Done));
                self.out.push_back(Output::Shutdown(if teardown { Shutdown::Teardown } else { Shutdown::Stop }));
            }
            Command::Reset { force } => self.reset(id, force, now),
            Command::RemovePeer { peer, force } => self.remove_peer(id, peer, force, now),
            Command::Consense => self.consense(id, now),
        }
    }

    fn connect(&mut self, id: RequestId, targets: Vec<Target>, replace: bool, now: Instant) {
        let mut all = if replace { Vec::new() } else { self.sessions.targets().to_vec() };
        for target in targets {
            if !all.contains(&target) {
                all.push(target);
            }
        }
        if all.len() > TARGETS_MAX {
            let text = format!("that would make {} targets, more than {TARGETS_MAX}; none was added", all.len());
            return self.reply(id, Err(Refusal(text)));
        }
        self.set_targets(all, now);
        self.reply(id, Ok(Answer::Done));
    }

    fn forget(&mut self, id: RequestId, targets: &[Target], now: Instant) {
        if let Some(unknown) = targets.iter().find(|t| !self.sessions.targets().contains(t)) {
            let text = format!("{unknown} is not a target (status targets lists them); nothing was forgotten");
            return self.reply(id, Err(Refusal(text)));
        }
        let left = self.sessions.targets().iter().filter(|t| !targets.contains(t)).cloned().collect();
        self.set_targets(left, now);
        self.reply(id, Ok(Answer::Done));
    }

    fn set_targets(&mut self, targets: Vec<Target>, now: Instant) {
        self.out.push_back(Output::Persist(Record::Targets(targets.clone())));
        self.sessions.set_targets(targets, now);
    }
}
