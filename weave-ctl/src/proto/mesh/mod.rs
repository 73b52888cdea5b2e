//! Who is in the network, the links that hold it together, and the ways that packets take.
//!
//! Rooms: `wire` (control messages), `entry` (what is gossiped, signed), `store` (what is held of it), `gossip` (how it
//! spreads), `routes` (who reaches whom), `topology` (what the records amount to), `pace` (how often), `link` and `dialer`
//! (links, and whom to connect to), `hello` (who may), `probe` and `paths` (whether data ports answer, how fast, up to
//! which size), `turns` (what goes on by itself), `ways` (straight or through others), `doubts` (whether those may),
//! `boards` (what other rooms say to those of other peers), `outbid` (a store that was set back). They meet in [`Mesh`], in
//! `links`.
//!
//! Why not a gossip library. foca (SWIM) and chitchat (Scuttlebutt) are kept and free of IO or nearly so, and both assume
//! that any member can send a datagram to any other: their failure detectors ping members at random, directly or through
//! others, and call a member dead that does not answer. Here a peer may be reached by some others only, may accept no
//! connection at all, and be several hops away for good, alive all the while; what is gossiped *is* the graph of links,
//! and membership is being reached in it. Neither signs what a member says, so one member could speak for another.
//! Chitchat's versions also need its clock for the removal of what is old. What is kept of both: only the owner raises
//! the version of what it tells (Scuttlebutt), and news goes by rumour to a few (SWIM's dissemination).
//!
//! Discovery: peers heard of are dialled until there are as many links as a mesh of that size needs (unless
//! `--no-discovery`); a data path needs no link.

mod boards;
pub mod dialer;
mod doubts;
pub mod entry;
#[cfg(test)]
mod fixture;
pub mod gossip;
mod hello;
pub mod link;
pub mod links;
mod outbid;
mod pace;
pub mod paths;
pub mod probe;
pub mod routes;
mod status;
pub mod store;
pub mod topology;
mod turns;
mod ways;
pub mod wire;

pub use links::{Mesh, MeshConfig, MeshEvent};
pub use ways::PathTo;
