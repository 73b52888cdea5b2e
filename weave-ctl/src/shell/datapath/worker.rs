//! A thread that works with the programs in the order in which it is asked: nobody else waits for the kernel's network lock.
//!
//! Bounds: an asker waits for its answer before it asks again; what is asked without waiting are devices to forget, and those
//! are bounded by the host task. The thread is in the network namespace of that which made it.

use std::{
    future::Future,
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use super::{Programs, programs::lock};

type Job = Box<dyn FnOnce(&mut Programs) + Send>;

/// The controller is ending, and nothing is attached any more.
#[derive(Debug, thiserror::Error)]
#[error("the controller is stopping")]
pub struct Ended;

/// See the module. Dropping it ends the thread when it has done what it was asked.
#[derive(Debug)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(programs: Arc<Mutex<Programs>>) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = thread::spawn(move || {
            for job in queue {
                job(&mut lock(&programs));
            }
        });
        Self { jobs, thread }
    }

    /// Has `work` done after all that was asked before. The order is that of the calls: what is returned only waits.
    pub fn ask<T, W>(&self, work: W) -> impl Future<Output = Result<T, Ended>> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce(&mut Programs) -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |programs: &mut Programs| {
            // Nobody waits any more where it does not matter.
            drop(answer.send(work(programs)));
        });
        // Fails only when the thread has ended, and with it `answer`.
        drop(self.jobs.send(job));
        async move { answered.await.map_err(|_ended| Ended) }
    }

    /// Returns when all that was asked is done, and the thread has ended.
    pub fn end(self) {
        drop(self.jobs);
        // It ended, or had panicked, which was reported when it happened.
        drop(self.thread.join());
    }
}
