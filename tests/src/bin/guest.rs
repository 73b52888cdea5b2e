//! What runs inside the machines of `cargo xtask kernels`, before the live network.
//!
//! `guest load OBJECT` loads every program; `guest packets OBJECT` runs the packet tables. Each prints a line per program
//! or test, which `xtask/src/kernels/report.rs` reads; the exit status says whether all passed.
//!
//! Does not: attach anything.

use std::{env, fs, process::ExitCode};

use weave_tests::packets;

/// Starts each line that counts.
const MARK: &str = "WEAVE: ";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [verb, path] = &args[..] else { return usage() };
    let object = match fs::read(path) {
        Ok(object) => object,
        Err(error) => {
            eprintln!("guest: cannot read {path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let passed = match verb.as_str() {
        "load" => load(&object),
        "packets" => run_packets(&object),
        _ => return usage(),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: guest load|packets OBJECT");
    ExitCode::from(2)
}

fn load(object: &[u8]) -> bool {
    match packets::verify_all(object) {
        Ok(programs) => {
            for (name, instructions) in programs {
                let instructions = instructions.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
                println!("{MARK}load {name} {instructions}");
            }
            true
        }
        Err(error) => {
            println!("{MARK}load programs failed: {}", one_line(&error));
            false
        }
    }
}

fn run_packets(object: &[u8]) -> bool {
    let mut passed = true;
    for (name, result) in packets::run_all(object) {
        let name = name.replace(' ', "-");
        match result {
            Ok(()) => println!("{MARK}packet {name} ok"),
            Err(error) => {
                passed = false;
                println!("{MARK}packet {name} failed: {}", one_line(&error));
            }
        }
    }
    passed
}

/// The verifier's log has many lines: the console keeps them, the report wants one.
fn one_line(error: &str) -> String {
    if error.contains('\n') {
        println!("{error}");
    }
    error.lines().next().unwrap_or_default().to_owned()
}
