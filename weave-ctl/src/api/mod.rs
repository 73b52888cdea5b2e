//! The contract between the command line and a running controller: HTTP and JSON on a unix socket.
//!
//! Paths start with `/v1/`; within a version, fields are only added. Names, networks and addresses are strings as people
//! write them, so that a reader needs nothing from this crate. A refusal is a body `{"error": "one sentence"}` with one
//! of the statuses below; a 404 means that the two sides speak different versions.
//!
//! `docs/api.md` lists requests, bodies and answers; it is made of [`REQUESTS`] and [`types`] by a test.
//!
//! Statuses: 200 done; 400 and 413 a request that no version of this command sends; 409 refused, nothing was changed;
//! 503 the controller is stopping; 504 it gave no answer in time and the request was withdrawn.
//!
//! Does not: decide or render anything.

pub mod client;
pub mod types;

/// One request of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// What follows the version in its path.
    pub name: &'static str,
    /// Type of the body, in [`types`]; empty for none.
    pub body: &'static str,
    /// Type of the answer, in [`types`]; in brackets for a list of them.
    pub answer: &'static str,
    /// What it does.
    pub does: &'static str,
}

const fn endpoint(
    method: &'static str,
    name: &'static str,
    body: &'static str,
    answer: &'static str,
    does: &'static str,
) -> Endpoint {
    Endpoint { method, name, body, answer, does }
}

/// All requests.
pub const REQUESTS: [Endpoint; 21] = [
    endpoint(
        "POST",
        "reserve",
        "Reserve",
        "ContainerStatus",
        "Holds addresses for an owner, before there is an interface.",
    ),
    endpoint("POST", "bind", "Bind", "ContainerStatus", "Names the owner of what was reserved without one."),
    endpoint("POST", "attach", "Attach", "ContainerStatus", "Gives a container an interface with its addresses."),
    endpoint("POST", "detach", "Detach", "Released", "Takes addresses, or the interface, of a container away."),
    endpoint("POST", "release", "Release", "Released", "Gives up addresses that are held without an interface."),
    endpoint("POST", "release-absent", "", "[ReleasedOwner]", "Gives up those of all that are absent since a reboot."),
    endpoint("POST", "expose", "Expose", "ContainerStatus", "Gives the host an interface in the network."),
    endpoint("POST", "hide", "Hide", "Released", "Takes addresses, or the interface, of the host away."),
    endpoint("POST", "dns-add", "NameChange", "[NameStatus]", "Gives addresses a name; answers what has it now."),
    endpoint("POST", "dns-remove", "NameChange", "Done", "Takes a name of addresses away."),
    endpoint("POST", "dns-lookup", "Lookup", "[NameStatus]", "The addresses of a name, as this host knows it."),
    endpoint("GET", "names", "", "[NameStatus]", "All names, as this host knows them."),
    endpoint("GET", "ps", "", "[ContainerStatus]", "Lists the owners of addresses on this host."),
    endpoint("POST", "connect", "Connect", "Targets", "Adds targets, or replaces them all."),
    endpoint("POST", "forget", "Forget", "Targets", "Removes targets; sessions that are up stay."),
    endpoint("POST", "consense", "", "Consensus", "Sees to it that the range is divided, and tells how far that is."),
    endpoint("POST", "rmpeer", "RemovePeer", "RemovedPeer", "Takes over from a peer that is gone for good."),
    endpoint("GET", "status", "", "Status", "Everything that the controller knows."),
    endpoint("GET", "report", "", "Report", "The same, and what helps to find a fault."),
    endpoint("POST", "stop", "Stop", "Done", "Stops the controller."),
    endpoint("POST", "reset", "Reset", "Done", "Leaves the network and forgets everything."),
];

/// Version of the contract, as in the paths.
pub const API: u32 = 1;
/// Name of the socket in the run directory.
pub const SOCKET: &str = "weave.sock";
/// Version of this program, sent by both sides in the header [`VERSION_HEADER`].
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Header that carries [`VERSION`].
pub const VERSION_HEADER: &str = "weave-version";
/// Longest body of a request, in bytes.
pub const REQUEST_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
