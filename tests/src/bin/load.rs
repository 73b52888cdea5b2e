//! What `cargo xtask load` runs: `load BPF_DIR DEVICE` attaches the programs, `load BPF_DIR` takes them away.
//!
//! Does not: fill any map beside the configuration.

use std::{env, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use weave_common::config::{Config, SCHEMA};
use weave_ctl::shell::datapath::{Datapath, device_index};

/// The network of a controller that was given no other.
const CONFIG: Config = Config {
    schema: SCHEMA,
    vni: 1,
    data_port: 6784,
    pad: 0,
    socket_ifindex: 0,
    me: [2; 6],
    pad2: [0; 2],
    service: [0; 4],
    dns_ttl: 0,
    dns: 0,
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    match args {
        [bpf_dir] => {
            Datapath::teardown(Path::new(bpf_dir)).with_context(|| format!("cannot remove {bpf_dir}"))?;
            println!("detached and removed what was pinned under {bpf_dir}");
            Ok(())
        }
        [bpf_dir, device] => {
            let (datapath, existing) =
                Datapath::open(Path::new(bpf_dir), CONFIG).context("the programs do not load")?;
            let ifindex = device_index(device).with_context(|| format!("there is no device {device}"))?;
            datapath.programs().attach_underlay(ifindex).with_context(|| format!("cannot attach to {device}"))?;
            let how = if existing.adopted { "replaced" } else { "loaded" };
            println!("{how} the programs, attached to {device}, pinned under {bpf_dir}");
            Ok(())
        }
        _ => bail!("usage: load BPF_DIR [DEVICE]"),
    }
}
