//! What becomes of frames that the kernel's own VXLAN device took off the data port.
//!
//! A frame made by the test has no tunnel metadata, so only the refusals are reached here.

use weave_common::{drop::DropReason, map::PROG_SOCKET};
use weave_ctl::shell::datapath::abi::Abi;

use super::{
    Rig, Row,
    frames::{self, NEIGHBOUR, OWN, REMOTE, arp, from_container},
};

pub(super) const CASES: &[Row] = &[
    ("socket: nothing passes before the controller has configured", not_configured),
    ("socket: what did not come through the tunnel is refused", no_tunnel),
];

fn not_configured(rig: &mut Rig) -> Result<(), String> {
    let config = weave_common::config::Config { schema: 0, ..frames::CONFIG };
    rig.config.set(0, Abi(config), 0).map_err(|e| e.to_string())?;
    rig.run(PROG_SOCKET, &from_container(REMOTE, OWN, 60))?.dropped_for(DropReason::NotConfigured)
}

fn no_tunnel(rig: &mut Rig) -> Result<(), String> {
    for frame in
        [from_container(REMOTE, OWN, 60), from_container(REMOTE, NEIGHBOUR, 60), arp(1, REMOTE, OWN), vec![0; 15]]
    {
        rig.run(PROG_SOCKET, &frame)?.dropped_for(DropReason::NotOnUnderlay)?;
    }
    Ok(())
}
