//! What the figures were taken on.

use std::fs;

use serde_json::{Value, json};

/// The machine, as far as figures depend on it.
#[derive(Clone, Debug)]
pub struct Machine {
    kernel: String,
    cpu: String,
    cores: usize,
    load: String,
}

impl Machine {
    /// Looks at this machine; what cannot be found out is said so.
    #[must_use]
    pub fn look() -> Self {
        let unknown = || "unknown".to_owned();
        let uname = rustix::system::uname();
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split(": ").nth(1));
        let load = fs::read_to_string("/proc/loadavg").ok().and_then(|l| Some(l.split(' ').next()?.to_owned()));
        Self {
            kernel: format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
            cpu: model.map_or_else(unknown, str::to_owned),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load: load.unwrap_or_else(unknown),
        }
    }

    /// For the head of the report.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { kernel, cpu, cores, load } = self;
        format!(
            "kernel {kernel}\n{cores} cores of {cpu}\nload before the start {load} (other work makes figures noisy)"
        )
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self { kernel, cpu, cores, load } = self;
        json!({ "kernel": kernel, "cpu": cpu, "cores": cores, "load_before": load })
    }
}
