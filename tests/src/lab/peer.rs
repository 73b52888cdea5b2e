//! A peer by hand: real control links from a host's namespace, on which a test says what it likes.
//!
//! TCP, handshake, encryption and frames are the controller's own; what is in the frames is the test's. It listens, too, so
//! others that hear of its address may dial it.
//!
//! Bounds: as the controller's links; what arrives waits for the test without bound.
//! Does not: answer anything by itself.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::mpsc;
use weave_ctl::{
    proto::{
        boot::DEFAULT_RANGE,
        io::{ChannelBinding, DialId, Direction, Input, SessionId, Target},
    },
    shell::links::{Links, LinksConfig},
};

use super::{Host, traffic::within};

/// The control port.
const PORT: u16 = 6783;
/// Inputs that may wait inside; the test's own queue has no bound.
const QUEUE: usize = 64;

/// See the head of this file.
pub struct HandPeer {
    orders: Option<mpsc::UnboundedSender<Order>>,
    inputs: Receiver<Input>,
    thread: Option<JoinHandle<Result<()>>>,
    dials: u64,
}

/// A link that is open.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Its number.
    pub link: SessionId,
    /// The other end.
    pub remote: SocketAddr,
    /// What a proof is signed over.
    pub binding: ChannelBinding,
    /// The test's side dialled.
    pub dialled: bool,
}

/// What the test wants done.
enum Order {
    Dial(DialId, Target),
    Send(SessionId, Vec<u8>),
    Close(SessionId),
}

impl HandPeer {
    /// Listens on the control port of a host that has no controller.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn on(host: &Host) -> Result<Self> {
        let (orders, order_queue) = mpsc::unbounded_channel();
        let (to_test, inputs) = channel();
        let (ready, started) = channel();
        let netns = host.netns().to_owned();
        let thread = thread::spawn(move || {
            within(&netns, move || {
                // The thread is in the namespace, and so is every socket that is made on it.
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(run(order_queue, &to_test, &ready));
                Ok(())
            })
        });
        started.recv().context("the peer did not start")?.map_err(|e| anyhow!("{e}"))?;
        Ok(Self { orders: Some(orders), inputs, thread: Some(thread), dials: 0 })
    }

    /// Opens a link to a peer.
    ///
    /// # Errors
    /// When there is none within `limit`.
    pub fn dial(&mut self, to: Ipv4Addr, limit: Duration) -> Result<Opened> {
        self.dials += 1;
        let dial = DialId(self.dials);
        self.order(Order::Dial(dial, Target { host: to.to_string(), port: Some(PORT) }));
        let end = Instant::now() + limit;
        loop {
            match self.next(end.saturating_duration_since(Instant::now())) {
                Some(Input::SessionOpened {
                    session: link,
                    remote,
                    binding,
                    direction: Direction::Outbound(by),
                    ..
                }) if by == dial => {
                    return Ok(Opened { link, remote, binding, dialled: true });
                }
                Some(Input::DialFailed(by, reason)) if by == dial => bail!("no link to {to}: {reason}"),
                Some(_) => {}
                None => bail!("no link to {to} within {limit:?}"),
            }
        }
    }

    /// Sends a frame, whatever is in it.
    pub fn send(&self, link: SessionId, frame: Vec<u8>) {
        self.order(Order::Send(link, frame));
    }

    /// Closes a link after what was sent on it before.
    pub fn close(&self, link: SessionId) {
        self.order(Order::Close(link));
    }

    /// The next thing that happened on any link; nothing when `limit` is over.
    #[must_use]
    pub fn next(&self, limit: Duration) -> Option<Input> {
        self.inputs.recv_timeout(limit).ok()
    }

    fn order(&self, order: Order) {
        // Nobody listens only after the thread failed, which the test sees as silence.
        self.orders.as_ref().map(|orders| orders.send(order).ok());
    }
}

impl Drop for HandPeer {
    fn drop(&mut self) {
        self.orders = None;
        drop(self.thread.take().map(JoinHandle::join));
    }
}

async fn run(mut orders: mpsc::UnboundedReceiver<Order>, to_test: &Sender<Input>, ready: &Sender<Result<(), String>>) {
    let (inputs, mut arriving) = mpsc::channel(QUEUE);
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let config = LinksConfig { listen, secret: None, range: DEFAULT_RANGE, control_port: PORT };
    let links = match Links::start(config, inputs).await {
        Ok(links) => links,
        // Nobody waits only when the test is over.
        Err(error) => return drop(ready.send(Err(error.to_string()))),
    };
    drop(ready.send(Ok(())));
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Dial(dial, target)) => links.dial(dial, target),
                Some(Order::Send(link, frame)) => links.send(link, frame),
                Some(Order::Close(link)) => links.close(link, "the test closes it"),
                None => return,
            },
            Some(input) = arriving.recv() => drop(to_test.send(input)),
        }
    }
}
