//! Makes the VXLAN socket device again when it vanished, is down or was changed: without it no probe leaves, and every path would look dead.
//!
//! ```text
//! gone -- made, down --> programs attached -- raised --> up: probes leave by it
//!   ^------- a step failed, PAUSE later ------/
//! ```
//! Bounds: one attempt each [`PAUSE`], one at a time.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::Driver;
use crate::shell::socket_device;

/// Time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// How far the device is.
#[derive(Clone, Copy, Debug)]
pub(super) enum SocketStep {
    /// It is there, and down; its index.
    Made(u32),
    /// It is up, and has this index.
    Up(u32),
    /// The last step failed.
    Failed,
}

impl Driver {
    /// The device is gone, down, or another: makes it as it should be, unless that is under way.
    pub(super) fn remake_socket_device(&mut self) {
        if !std::mem::replace(&mut self.socket_busy, true) {
            self.make_socket_device(Duration::ZERO);
        }
    }

    fn make_socket_device(&self, after: Duration) {
        let (name, data_port) = (self.socket_device.clone(), self.data_port);
        self.socket_task(async move {
            sleep(after).await;
            let index = match socket_device::make(&name, data_port).await {
                Ok(_) => socket_device::index(&name).await,
                Err(error) => Err(error),
            };
            match index {
                Ok(index) => index.map_or(SocketStep::Failed, SocketStep::Made),
                Err(error) => {
                    // Told once, and not with every further attempt.
                    if after.is_zero() {
                        warn!("{error}; no probe is sent until it succeeds, and paths stay as they are");
                    }
                    SocketStep::Failed
                }
            }
        });
    }

    /// Takes the next step.
    pub(super) fn socket_step(&mut self, step: SocketStep) {
        let (name, data_port) = (self.socket_device.clone(), self.data_port);
        match step {
            SocketStep::Made(index) => {
                let attached = self.programs.ask(move |programs| programs.attach_socket_device(index));
                self.socket_task(async move {
                    let raised = match attached.await {
                        Ok(Ok(())) => socket_device::raise(&name, data_port).await.map_err(|error| error.to_string()),
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(ended) => Err(ended.to_string()),
                    };
                    match raised {
                        Ok(()) => SocketStep::Up(index),
                        Err(error) => {
                            warn!("{error}");
                            SocketStep::Failed
                        }
                    }
                });
            }
            SocketStep::Up(index) => {
                let told = self.datapath.set_socket_device(index).map_err(|error| error.to_string());
                match told.and_then(|()| self.prober.move_to(index).map_err(|error| error.to_string())) {
                    Ok(()) => {
                        self.socket_busy = false;
                        info!("the VXLAN socket device {name} was gone, down or changed, and is as it should be again");
                        self.host.keep_watch_of(index);
                    }
                    Err(error) => {
                        warn!("{error}");
                        self.socket_step(SocketStep::Failed);
                    }
                }
            }
            SocketStep::Failed => self.make_socket_device(PAUSE),
        }
    }

    fn socket_task(&self, task: impl Future<Output = SocketStep> + Send + 'static) {
        let steps = self.socket_steps.0.clone();
        tokio::spawn(async move {
            // Fails only when the driver has ended.
            let _ended = steps.send(task.await).await;
        });
    }
}
