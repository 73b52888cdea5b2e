//! What a host says of the mesh: paths, links, counters.
//!
//! Does not: judge; a field that is not there is an error, never a zero.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Host, Lab, eventually};

/// The name under which host `n` is launched.
#[must_use]
pub fn peer_name(n: usize) -> String {
    format!("00:00:00:00:00:{n:02x}")
}

/// How host `n` is shown to people: its name, and its nickname.
#[must_use]
pub fn shown_name(n: usize) -> String {
    format!("{}(host-{n})", peer_name(n))
}

/// How packets of containers reach a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// `direct`, `relayed`, `unconfirmed` or `here`.
    pub kind: String,
    /// The next hop of a relayed one, as it is shown; else empty.
    pub via: String,
    /// Why it is not direct; else empty.
    pub why: String,
    /// Largest packet in bytes that fits, where it is known.
    pub mtu: Option<u64>,
}

impl Path {
    /// Straight to the peer.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.kind == "direct"
    }

    /// Through host `n`.
    #[must_use]
    pub fn is_through(&self, n: usize) -> bool {
        self.kind == "relayed" && self.via.contains(&peer_name(n))
    }
}

impl Host {
    /// How packets reach host `n`; nothing while that is not known here.
    ///
    /// # Errors
    /// When `status` fails, or a peer is shown without a path.
    pub fn path(&self, n: usize) -> Result<Option<Path>> {
        let peers = self.json(&["status", "peers"])?;
        let peers = peers.as_array().context("`status peers` is no list")?;
        let Some(peer) = peers.iter().find(|p| p["name"] == peer_name(n).as_str()) else { return Ok(None) };
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let path = &peer["path"];
        let kind = path["kind"].as_str().with_context(|| format!("no path in {peer}"))?.to_owned();
        Ok(Some(Path { kind, via: text(&path["via"]), why: text(&path["why"]), mtu: path["mtu"].as_u64() }))
    }

    /// Whether the standby path to host `n` leads through host `relay`.
    #[must_use]
    pub fn stands_by(&self, n: usize, relay: usize) -> bool {
        let peers = self.json(&["status", "peers"]).unwrap_or_default();
        let via = peers.as_array().into_iter().flatten().find(|peer| peer["name"] == peer_name(n).as_str());
        via.is_some_and(|peer| peer["standby"]["via"]["name"] == peer_name(relay).as_str())
    }

    /// Waits until the path to host `n` is as wanted.
    ///
    /// # Errors
    /// When it is not within `limit`; with what `status peers` shows instead.
    pub fn wait_path(&self, n: usize, limit: Duration, wanted: impl Fn(&Path) -> bool) -> Result<Path> {
        let mut last = Ok(None);
        let there = eventually(limit, || {
            last = self.path(n);
            matches!(&last, Ok(Some(path)) if wanted(path))
        });
        match last {
            Ok(Some(path)) if there => Ok(path),
            last => bail!(
                "the path from {} to host {n} is {last:?} after {limit:?}:\n{}",
                self.netns(),
                self.weave(&["status", "peers"]).unwrap_or_else(|e| e.to_string())
            ),
        }
    }

    /// The link to host `n`, or the attempt at one, as `status connections` shows it; nothing while there is none.
    ///
    /// # Errors
    /// When `status` fails.
    pub fn connection(&self, n: usize) -> Result<Option<Value>> {
        let all = self.json(&["status", "connections"])?;
        let all = all.as_array().context("`status connections` is no list")?;
        Ok(all.iter().find(|c| c["peer"]["name"] == peer_name(n).as_str()).cloned())
    }

    /// Packets that the kernel counted under this name.
    ///
    /// # Errors
    /// When `report` fails or knows no such counter.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let report = self.json(&["report"])?;
        let counters = &report["status"]["dataplane"]["counters"];
        let found = counters.as_array().and_then(|all| all.iter().find(|c| c["name"] == name));
        found.and_then(|c| c["packets"].as_u64()).with_context(|| format!("no counter {name} in {counters}"))
    }

    /// Peers to which a link is up, each once, by their names.
    ///
    /// # Errors
    /// When `status` fails.
    pub fn neighbours(&self) -> Result<Vec<String>> {
        let up = |c: &Value| matches!(c["state"].as_str(), Some("established" | "pending"));
        let links = self.connections()?;
        let mut names: Vec<String> =
            links.iter().filter(|c| up(c)).filter_map(|c| c["peer"]["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// True when a link to host `n` is up.
    #[must_use]
    pub fn is_linked(&self, n: usize) -> bool {
        self.neighbours().is_ok_and(|all| all.contains(&peer_name(n)))
    }

    /// Number of peers known, this one included.
    ///
    /// # Errors
    /// When `status` fails.
    pub fn known(&self) -> Result<usize> {
        Ok(self.json(&["status", "peers"])?.as_array().context("`status peers` is no list")?.len())
    }
}

impl Lab {
    /// Waits until every host knows all others.
    ///
    /// # Errors
    /// When they do not within `limit`.
    pub fn wait_known(&self, limit: Duration) -> Result<()> {
        let all = self.hosts().len();
        if eventually(limit, || self.hosts().iter().all(|h| h.known().is_ok_and(|n| n == all))) {
            return Ok(());
        }
        let said =
            self.hosts().iter().map(|h| format!("{}: knows {:?}\n{}", h.netns(), h.known(), h.connections_text()));
        bail!("not all hosts are known everywhere after {limit:?}:\n{}", said.collect::<Vec<_>>().join("\n"))
    }

    /// A Lab with controllers launched, all of them known everywhere, and every container attached.
    ///
    /// # Errors
    /// As the steps.
    pub fn meshed(plan: super::Plan) -> Result<Self> {
        let lab = Self::new(plan)?;
        lab.launch_all()?;
        lab.wait_known(super::SETTLED)?;
        lab.attach_all()?;
        Ok(lab)
    }

    /// Waits until every host reaches all others directly.
    ///
    /// # Errors
    /// When they do not within `limit`; with what the hosts say instead.
    pub fn wait_direct(&self, limit: Duration) -> Result<()> {
        let direct = |host: &Host| {
            let peers = host.json(&["status", "peers"]).unwrap_or_default();
            let others = peers.as_array().map(|all| all.iter().filter(|p| p["path"]["kind"] == "direct").count());
            others == Some(self.hosts().len() - 1)
        };
        if eventually(limit, || self.hosts().iter().all(direct)) {
            return Ok(());
        }
        let said = self.hosts().iter().filter(|h| !direct(h)).map(|h| {
            format!(
                "{}:
{}",
                h.netns(),
                h.weave(&["status", "peers"]).unwrap_or_else(|e| e.to_string())
            )
        });
        bail!("not all paths are direct after {limit:?}:\n{}", said.collect::<Vec<_>>().join("\n"))
    }

    /// Packets that each host relayed so far.
    ///
    /// # Errors
    /// When a report fails.
    pub fn relayed(&self) -> Result<Vec<u64>> {
        self.hosts().iter().map(|h| h.counter("relay")).collect()
    }
}
