//! The main job, shown: three hosts, six containers, one overlay. Run by `cargo xtask demo`.
//!
//! Interrupted with Ctrl-C it removes what it made, as it does at the end and after a failure.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use serde_json::Value;
use weave_tests::lab::{
    self, Lab, Plan,
    cmd::{self, run},
    host::ping,
};

/// Start of the names of all namespaces.
const PREFIX: &str = "weave-demo";
const HOSTS: usize = 3;
/// Seconds of TCP, twice.
const SECONDS: u32 = 3;
/// Exit status of a program ended by SIGINT, as shells give it.
const INTERRUPTED: u8 = 130;

/// Three hosts, six containers, one overlay.
#[derive(Parser)]
struct Args {
    /// The controller to run.
    #[arg(long)]
    binary: PathBuf,
    /// Leave everything standing, and say how to enter it.
    #[arg(long)]
    keep: bool,
    /// Remove what an earlier run with --keep left standing.
    #[arg(long, conflicts_with = "keep")]
    clean: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = ctrlc::set_handler(cmd::interrupt) {
        eprintln!("cannot listen for Ctrl-C: {error}");
        return ExitCode::FAILURE;
    }
    match demo(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if cmd::interrupted() => {
            eprintln!("interrupted: everything was removed");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &Args) -> Result<()> {
    let plan = Plan::new(PREFIX, HOSTS, &args.binary);
    if args.clean {
        step("removing what an earlier run left standing");
        return Lab::empty(plan).map(drop);
    }
    step("making three hosts with two containers each");
    let mut lab = Lab::new(plan)?;
    step("launching a controller on each");
    let start = Instant::now();
    lab.launch_all()?;
    println!("  three launches took {:.2?}", start.elapsed());
    step("waiting for the links");
    lab.wait_established(Duration::from_secs(15))?;
    step("attaching the containers");
    let containers = attach(&lab)?;
    step("pinging every pair, both ways");
    ping_all(&containers)?;
    step("pinging by name, as a container's programs do");
    by_name(&lab)?;
    for what in [&["status"][..], &["status", "connections"], &["status", "ipam"], &["status", "dns"]] {
        step(&format!("weave-ctl {} (on host 1)", what.join(" ")));
        print!("{}", lab.host(1).weave(what)?);
    }
    step(&format!("moving TCP between host 1 and host 2, {SECONDS} s through the overlay and {SECONDS} s beside it"));
    throughput(&lab, &containers)?;
    if args.keep {
        lab.keep();
        how_to_enter(&lab);
    } else {
        step("removing everything");
    }
    Ok(())
}

fn step(text: &str) {
    println!("\n=> {text}");
}

fn attach(lab: &Lab) -> Result<Vec<(String, Ipv4Addr)>> {
    let mut containers = Vec::new();
    for host in lab.hosts() {
        for name in host.containers() {
            let start = Instant::now();
            let address = host.attach(&name)?;
            println!("  {name} on host {}: {address} ({:.1?})", host.number(), start.elapsed());
            containers.push((name, address));
        }
    }
    Ok(containers)
}

fn ping_all(containers: &[(String, Ipv4Addr)]) -> Result<()> {
    let mut failed = Vec::new();
    for (from, _) in containers {
        for (to, address) in containers.iter().filter(|(to, _)| to != from) {
            if !ping(from, *address, 2) {
                failed.push(format!("{from} -> {to} ({address})"));
            }
        }
    }
    let pairs = containers.len() * (containers.len() - 1);
    ensure!(failed.is_empty(), "{} of {pairs} pings failed: {}", failed.len(), failed.join(", "));
    println!("  {pairs} of {pairs} answered");
    Ok(())
}

/// From the first container of each host to that of the next, which it looks up by its resolv.conf.
fn by_name(lab: &Lab) -> Result<()> {
    let hosts = lab.hosts();
    for (host, next) in hosts.iter().zip(hosts.iter().cycle().skip(1)) {
        let (from, to) = (host.container(1), next.container(1));
        // Attached already: only its file is written.
        host.weave(&["attach", "--rewrite-resolv", &from])?;
        let answered = run(&["ip", "netns", "exec", &from, "ping", "-c1", "-W2", &to]);
        std::fs::remove_dir_all(format!("/etc/netns/{from}")).context("cannot remove the container's resolv.conf")?;
        let said = answered.with_context(|| format!("{from} does not reach {to} by its name"))?;
        println!("  {from}: {}", said.lines().nth(1).unwrap_or_default());
    }
    Ok(())
}

fn throughput(lab: &Lab, containers: &[(String, Ipv4Addr)]) -> Result<()> {
    let (on_1, on_2) = (&containers[0], &containers[2]);
    let overlay = iperf(&on_1.0, &on_2.0, on_2.1)?;
    let bare = iperf(lab.host(1).netns(), lab.host(2).netns(), lab::underlay(2))?;
    println!("  overlay        {overlay:6.2} Gbit/s   {} -> {}", on_1.0, on_2.0);
    println!("  bare underlay  {bare:6.2} Gbit/s   {} -> {}", lab.host(1).netns(), lab.host(2).netns());
    println!("  ratio          {:6.2}", overlay / bare);
    Ok(())
}

/// Gbit/s of one TCP stream.
fn iperf(from: &str, to: &str, address: Ipv4Addr) -> Result<f64> {
    let (from, to) = (format!("--net=/run/netns/{from}"), format!("--net=/run/netns/{to}"));
    let server = std::thread::spawn(move || run(&["nsenter", &to, "iperf3", "-s", "-1"]).map(drop));
    let (address, seconds) = (address.to_string(), SECONDS.to_string());
    // The server needs a moment until it listens; it takes one client and ends.
    for _ in 0..20 {
        sleep(Duration::from_millis(100));
        let text = run(&["nsenter", &from, "iperf3", "-J", "-c", &address, "-t", &seconds]);
        let Ok(text) = text else {
            ensure!(!cmd::interrupted(), "interrupted");
            continue;
        };
        server.join().map_err(|e| anyhow::anyhow!("iperf3's server did not end well: {e:?}"))??;
        let report: Value = serde_json::from_str(&text).context("read iperf3's report")?;
        let bits = report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 gave no figure")?;
        return Ok(bits / 1e9);
    }
    bail!("no TCP connection to {address}")
}

fn how_to_enter(lab: &Lab) {
    step("left standing");
    for host in lab.hosts() {
        println!("  host {}: nsenter --net=/run/netns/{}", host.number(), host.netns());
        println!("    {} status", host.command(&[]).join(" ").trim_end());
        for container in host.containers() {
            println!("    container: nsenter --net=/run/netns/{container}");
        }
    }
    println!("  remove it with: cargo xtask demo --clean");
}
