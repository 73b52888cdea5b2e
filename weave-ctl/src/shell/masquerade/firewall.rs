//! What the host's firewall does with packets that it forwards to and from containers.
//!
//! Docker sets the policy of iptables' FORWARD chain to DROP, and has a chain for the rules of others, DOCKER-USER: there
//! two rules of ours accept what comes from the interface and the answers to it. They are known by their comment. Elsewhere
//! nothing is changed: a chain that drops what no rule accepts is told, with the command that helps, until a rule that
//! accepts packets of the interface is in its table.
//!
//! Recognized: iptables of both kinds (legacy, and over nftables), ufw, firewalld, other base chains of nftables at the hook
//! `forward` with policy drop. Not recognized: chains that end with a rule that drops or rejects.

use std::fs;

use serde_json::Value;

use super::{Applied, MasqueradeError, run, table};

/// How long iptables waits for its lock.
pub(super) const LOCK_SECONDS: &str = "5";
const DOCKER_USER: &str = "DOCKER-USER";
/// The comment of our rules.
const COMMENT: &str = "weave-ctl";
/// Tables of iptables-legacy in the calling thread's namespace. Read first, since to ask iptables-legacy makes them.
const LEGACY_TABLES: &str = "/proc/thread-self/net/ip_tables_names";

/// One of the two sets of rules that iptables may mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nft,
    Legacy,
}

/// A program that shows and changes the rules of a kind.
struct Iptables {
    program: &'static str,
    kind: Kind,
}

impl Iptables {
    /// The programs for the kinds that are in use here; `chains` are those of nftables.
    fn all(chains: &[Value]) -> Result<Vec<Self>, MasqueradeError> {
        let nft = chains.iter().any(|chain| of(chain, ["ip", "filter"]) && chain["name"] == "FORWARD");
        let legacy = fs::read_to_string(LEGACY_TABLES).is_ok_and(|names| names.lines().any(|name| name == "filter"));
        let mut found = Vec::new();
        for (used, kind, word, own) in
            [(nft, Kind::Nft, "nf_tables", "iptables-nft"), (legacy, Kind::Legacy, "legacy", "iptables-legacy")]
        {
            for program in [own, "iptables"].into_iter().filter(|_| used) {
                let version = run(program, &["-V"], "").map_err(|e| refused(e.to_string()))?;
                if version.is_some_and(|ran| ran.stdout.contains(word)) {
                    found.push(Self { program, kind });
                    break;
                }
            }
        }
        Ok(found)
    }

    fn run(&self, args: &[&str]) -> Result<super::Ran, MasqueradeError> {
        let ran = run(self.program, &[&["-w", LOCK_SECONDS], args].concat(), "").map_err(|e| refused(e.to_string()))?;
        ran.ok_or_else(|| refused(format!("{} is gone", self.program)))
    }

    /// The rules of a chain, as the words that make them; `None` when there is no such chain.
    fn rules(&self, chain: &str) -> Result<Option<Vec<String>>, MasqueradeError> {
        let ran = self.run(&["-S", chain])?;
        Ok(ran.done.then(|| ran.stdout.lines().map(str::to_owned).collect()))
    }

    /// Puts our rules into DOCKER-USER; false when they were there.
    fn accept(&self, ifname: &str) -> Result<bool, MasqueradeError> {
        let mut changed = false;
        for rule in rules(ifname) {
            if !self.run(&[&["-C", DOCKER_USER], &rule[..]].concat())?.done {
                let ran = self.run(&[&["-I", DOCKER_USER, "1"], &rule[..]].concat())?;
                if !ran.done {
                    return Err(refused(ran.stderr));
                }
                changed = true;
            }
        }
        Ok(changed)
    }

    /// What to run where the policy of FORWARD is DROP and nothing accepts the interface's packets.
    fn command(&self, ifname: &str) -> Result<Option<String>, MasqueradeError> {
        let forward = self.rules("FORWARD")?.unwrap_or_default();
        let all = self.run(&["-S"])?.stdout;
        let from = format!("-i {ifname} ");
        let accepted = all.lines().any(|rule| rule.contains(&from) && rule.ends_with("-j ACCEPT"));
        if accepted || !forward.iter().any(|line| line == "-P FORWARD DROP") {
            return Ok(None);
        }
        if all.lines().any(|line| line == "-N ufw-user-forward") {
            return Ok(Some(format!("`ufw route allow in on {ifname}`")));
        }
        let program = self.program;
        Ok(Some(format!(
            "`{program} -I FORWARD -i {ifname} -j ACCEPT` and `{program} -I FORWARD -o {ifname} -m conntrack --ctstate \
             RELATED,ESTABLISHED -j ACCEPT`"
        )))
    }
}

fn rules(ifname: &str) -> [Vec<&str>; 2] {
    let comment = ["-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"];
    [
        [&["-o", ifname, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"], &comment[..]].concat(),
        [&["-i", ifname], &comment[..]].concat(),
    ]
}

/// True when the chain is of this family and table.
fn of(chain: &Value, [family, table]: [&str; 2]) -> bool {
    chain["family"] == family && chain["table"] == table
}

fn refused(said: String) -> MasqueradeError {
    MasqueradeError::Refused { what: "change the rules of iptables that let containers out", said }
}

fn chains() -> Result<Vec<Value>, MasqueradeError> {
    let objects = table::list(&["chains"])?.unwrap_or_default();
    Ok(objects.into_iter().filter_map(|mut object| object.get_mut("chain").map(Value::take)).collect())
}

/// Makes Docker's rules let packets pass, and tells what else drops them.
pub(super) fn ensure(ifname: &str, applied: &mut Applied) -> Result<(), MasqueradeError> {
    let chains = chains()?;
    let mut by_iptables = false;
    for iptables in Iptables::all(&chains)? {
        by_iptables |= iptables.kind == Kind::Nft;
        if iptables.rules(DOCKER_USER)?.is_some() {
            if iptables.accept(ifname)? {
                applied.changed.push(format!(
                    "added rules to Docker's chain {DOCKER_USER} ({}): packets from {ifname} pass, and the answers to them",
                    iptables.program
                ));
            }
        } else if let Some(command) = iptables.command(ifname)? {
            applied.blocked.push(blocked("the chain FORWARD of iptables", &command));
        }
    }
    for chain in &chains {
        let iptables = by_iptables && of(chain, ["ip", "filter"]) && chain["name"] == "FORWARD";
        if !iptables && let Some(sentence) = dropping(chain, ifname)? {
            applied.blocked.push(sentence);
        }
    }
    Ok(())
}

fn blocked(what: &str, command: &str) -> String {
    format!(
        "{what} drops packets that no rule accepts: containers do not get out of the network through this host; run {command}"
    )
}

/// A sentence about a base chain of nftables that drops forwarded packets of the interface.
fn dropping(chain: &Value, ifname: &str) -> Result<Option<String>, MasqueradeError> {
    let [family, table, name] = ["family", "table", "name"].map(|key| chain[key].as_str().unwrap_or_default());
    let firewalld = table == "firewalld";
    let drops = chain["hook"] == "forward" && (firewalld || chain["policy"] == "drop");
    if !drops || !matches!(family, "ip" | "inet") || accepted(family, table, ifname)? {
        return Ok(None);
    }
    let (what, command) = if firewalld {
        let command =
            format!("`firewall-cmd --permanent --zone=trusted --add-interface={ifname}` and `firewall-cmd --reload`");
        ("firewalld".to_owned(), command)
    } else {
        let insert = format!("nft insert rule {family} {table} {name}");
        let command = format!(
            "`{insert} iifname {ifname} accept` and `{insert} oifname {ifname} ct state established,related accept`"
        );
        (format!("the chain {name} of the nftables table {family} {table}"), command)
    };
    Ok(Some(blocked(&what, &command)))
}

/// True when a rule of the table names the interface as that which packets come from, and does not drop them.
fn accepted(family: &str, table: &str, ifname: &str) -> Result<bool, MasqueradeError> {
    let objects = table::list(&["table", family, table])?.unwrap_or_default();
    let names = |statement: &Value| {
        let matched = &statement["match"];
        matched["left"]["meta"]["key"] == "iifname" && matched["right"].to_string().contains(&format!("\"{ifname}\""))
    };
    let lets = |statement: &Value| ["accept", "jump", "goto"].iter().any(|verdict| statement.get(verdict).is_some());
    let rules = objects.iter().filter_map(|object| object["rule"]["expr"].as_array());
    Ok(rules.into_iter().any(|statements| statements.iter().any(names) && statements.iter().any(lets)))
}

/// Removes our rules from DOCKER-USER; true when there were any.
pub(super) fn remove() -> Result<bool, MasqueradeError> {
    let mut removed = false;
    for iptables in Iptables::all(&chains()?)? {
        for rule in iptables.rules(DOCKER_USER)?.unwrap_or_default() {
            let words: Vec<&str> = rule.split_whitespace().map(|word| word.trim_matches('"')).collect();
            let ours = words.windows(2).any(|pair| pair == ["--comment", COMMENT]);
            if let (true, ["-A", rest @ ..]) = (ours, &words[..]) {
                let ran = iptables.run(&[&["-D"], rest].concat())?;
                if !ran.done {
                    return Err(refused(ran.stderr));
                }
                removed = true;
            }
        }
    }
    Ok(removed)
}
