//! The binary, also installed as `weave`: hands the command line what runs a controller.

use std::process::ExitCode;

use weave_ctl::{
    cli::{self, Engine, Moments},
    config::{Dirs, LaunchConfig},
    shell::driver,
};

struct Driver;

impl Engine for Driver {
    fn run(&self, config: LaunchConfig, moments: Moments) -> Result<(), String> {
        driver::run(config, moments.ready, moments.stopping).map_err(|e| e.to_string())
    }

    fn wipe(&self, dirs: &Dirs) -> Result<Vec<String>, String> {
        driver::wipe_offline(dirs).map_err(|e| e.to_string())
    }

    fn teardown(&self, dirs: &Dirs) -> Result<Vec<String>, String> {
        driver::teardown_offline(dirs).map_err(|e| e.to_string())
    }
}

fn main() -> ExitCode {
    cli::run(std::env::args_os(), &Driver)
}
