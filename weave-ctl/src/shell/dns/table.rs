//! The names that are served, as the driver wrote them last.
//!
//! Bounds: those of the core, `dns::RECORDS_MAX` records.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::{PoisonError, RwLock},
};

use super::answer::{Known, PTR_MAX};

/// Names with the domain, lower case and without a dot at the end, and their addresses.
#[derive(Debug, Default)]
pub struct NameTable(RwLock<Names>);

#[derive(Debug, Default)]
struct Names {
    addrs: HashMap<String, Vec<Ipv4Addr>>,
    /// Names above these: how many names are below each (RFC 8020: such a name exists).
    above: HashMap<String, usize>,
    names: HashMap<Ipv4Addr, BTreeSet<String>>,
}

/// The names above `name`.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(name.split_once('.'), |(_, rest)| rest.split_once('.')).map(|(_, rest)| rest)
}

impl Names {
    fn remove(&mut self, name: &str) {
        let Some(addrs) = self.addrs.remove(name) else { return };
        for addr in addrs {
            if let Some(names) = self.names.get_mut(&addr) {
                names.remove(name);
                if names.is_empty() {
                    self.names.remove(&addr);
                }
            }
        }
        for parent in parents(name) {
            if let Some(below) = self.above.get_mut(parent) {
                *below -= 1;
                if *below == 0 {
                    self.above.remove(parent);
                }
            }
        }
    }
}

impl NameTable {
    /// Gives `name` these addresses; with none it is no name any more.
    pub fn put(&self, name: &str, addrs: &[Ipv4Addr]) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(name);
        if addrs.is_empty() {
            return;
        }
        for parent in parents(name) {
            *all.above.entry(parent.to_owned()).or_default() += 1;
        }
        for addr in addrs {
            all.names.entry(*addr).or_default().insert(name.to_owned());
        }
        all.addrs.insert(name.to_owned(), addrs.to_vec());
    }
}

impl Known for NameTable {
    fn addresses(&self, name: &str) -> Option<Vec<Ipv4Addr>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.addrs.get(name).cloned().or_else(|| all.above.contains_key(name).then(Vec::new))
    }

    fn names(&self, addr: Ipv4Addr) -> Vec<String> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.names.get(&addr).map(|names| names.iter().take(PTR_MAX).cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
