//! `reset` changes nothing or succeeds, whatever runs beside it.

use super::*;

const ATTACH: u64 = 1;
const RESET: u64 = 2;
const LATE: u64 = 3;

impl Net {
    fn attach(&mut self, request: u64, id: &str) {
        self.ask(1, request, Command::Attach(container(id), Vec::new()));
        self.deliver();
    }

    /// Ends the jobs on interfaces that are under way.
    fn end_jobs(&mut self, result: &Result<u32, String>) -> usize {
        let jobs = std::mem::take(&mut self.jobs);
        let now = self.now;
        for (at, op, _) in &jobs {
            self.nodes[*at].handle_input(Input::LinkDone(*op, result.clone()), now);
        }
        self.deliver();
        jobs.len()
    }

    fn reply(&self, request: u64) -> Option<&Result<Answer, Refusal>> {
        self.replies.iter().find(|(id, _)| *id == RequestId(request)).map(|(_, answer)| answer)
    }
}

fn joined() -> Net {
    let mut net = Net::new(2, &[1, 2]);
    net.connect(1, 2);
    net.answer(&[(1, 2)]);
    net.run(Duration::from_secs(5));
    net
}

#[test]
fn reset_succeeds_while_an_attach_is_under_way() {
    let mut net = joined();
    net.attach(ATTACH, "a");
    assert_eq!(net.end_jobs(&Ok(7)), 1);
    net.attach(ATTACH + 10, "b");
    net.ask(1, RESET, Command::Reset { force: false });
    net.deliver();
    // The interface of one is removed while that of the other is being made.
    assert_eq!(net.jobs.len(), 2);
    net.attach(LATE, "c");
    assert!(matches!(net.reply(LATE), Some(Err(_))), "nothing new is begun");
    assert_eq!(net.end_jobs(&Ok(8)), 2);
    assert!(matches!(net.jobs.as_slice(), [(0, _, LinkOp::Remove { .. })]), "{:?}", net.jobs);
    assert_eq!(net.end_jobs(&Ok(0)), 1);
    net.run(Duration::from_secs(5));
    assert!(matches!(net.reply(RESET), Some(Ok(_))), "{:?}", net.replies);
    assert_eq!(net.shutdown, Some(Shutdown::Leave));
    assert_eq!(net.at(2).keeper.owned(), 1 << 16, "all is handed over");
}

#[test]
fn reset_tries_again_what_the_kernel_refuses_for_a_while() {
    let mut net = joined();
    net.attach(ATTACH, "a");
    net.end_jobs(&Ok(7));
    net.ask(1, RESET, Command::Reset { force: false });
    net.deliver();
    for _ in 0..3 {
        assert_eq!(net.end_jobs(&Err("busy".to_owned())), 1);
        net.run(Duration::from_secs(2));
    }
    assert!(net.reply(RESET).is_none(), "{:?}", net.replies);
    assert_eq!(net.end_jobs(&Ok(0)), 1);
    net.run(Duration::from_secs(5));
    assert!(matches!(net.reply(RESET), Some(Ok(_))), "{:?}", net.replies);

    let mut net = joined();
    net.attach(ATTACH, "a");
    net.end_jobs(&Ok(7));
    net.ask(1, RESET, Command::Reset { force: false });
    net.deliver();
    while net.end_jobs(&Err("busy".to_owned())) > 0 {
        net.run(Duration::from_secs(2));
    }
    let Some(Err(Refusal(why))) = net.reply(RESET) else { panic!("{:?}", net.replies) };
    assert!(why.contains("(a)") && why.contains("stay"), "{why}");
    assert_eq!((net.shutdown, net.at(2).keeper.owned()), (None, 1 << 15));
}
