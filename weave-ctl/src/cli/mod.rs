//! The command line: a file a verb, clap's types in [`args`], all output in `render`.
//!
//! Exit status: 0 done, 1 refused by the controller (or the host, for `launch`), 2 usage or no controller. What is
//! asked for goes to stdout, everything else to stderr; with `--json` both are JSON.
//!
//! Does not: run the controller or touch what it keeps. [`Engine`] stands for that, so that this room needs no other
//! than the contract and the settings.

pub mod args;
mod attach;
mod connect;
mod consense;
mod detach;
mod dns;
mod expose;
mod failure;
mod files;
mod forget;
mod launch;
mod ps;
mod release;
mod render;
mod report;
mod reset;
mod rmpeer;
mod status;
mod stop;
mod version;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

pub use self::launch::Moments;
use self::{
    args::{Cli, Verb},
    failure::Failure,
};
use crate::{
    api::client::Client,
    config::{self, Dirs, LaunchConfig, env::Env},
};

/// The parts of the program that work without a controller to ask.
pub trait Engine {
    /// Runs a controller until it is told to stop. Calls [`Moments`] as they come.
    ///
    /// # Errors
    /// One sentence: why it ended, and what was left unchanged.
    fn run(&self, config: LaunchConfig, moments: Moments) -> Result<(), String>;

    /// Removes the store and the dataplane of a controller that does not run. Says what was removed, a line each.
    ///
    /// # Errors
    /// One sentence.
    fn wipe(&self, dirs: &Dirs) -> Result<Vec<String>, String>;

    /// Removes the dataplane of a controller that does not run. Says what was removed, a line each.
    ///
    /// # Errors
    /// One sentence.
    fn teardown(&self, dirs: &Dirs) -> Result<Vec<String>, String>;
}

/// What every verb gets.
struct Context<'a> {
    client: Client,
    dirs: Dirs,
    env: Env,
    json: bool,
    engine: &'a dyn Engine,
}

/// Does what the arguments say and reports it; the result is for the calling shell.
pub fn run<I: IntoIterator<Item = OsString>>(arguments: I, engine: &dyn Engine) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error, &arguments),
    };
    let json = cli.json;
    match dispatch(cli, engine) {
        Ok(text) => {
            print(&mut io::stdout().lock(), &text);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            print(&mut io::stderr().lock(), &render::failure(&failure.to_string(), json));
            failure.exit_code()
        }
    }
}

/// Wrong usage; or a request for help or the version, which clap takes for errors too, with status 0.
fn not_parsed(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.use_stderr() && arguments.iter().any(|a| a == "--json") {
        let text = error.render().to_string();
        // What was wrong comes before the first empty line; how the verb is used, after it.
        let what: Vec<&str> = text.lines().take_while(|l| !l.is_empty()).map(str::trim).collect();
        let sentence = what.join(" ");
        let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
        print(&mut io::stderr().lock(), &render::failure(sentence, true));
    } else {
        // A closed stdout is nobody's loss.
        error.print().ok();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn dispatch(cli: Cli, engine: &dyn Engine) -> Result<String, Failure> {
    let env = Env::read();
    let dirs = config::dirs(&cli.dirs, &env)?;
    let context = Context { client: Client::new(&dirs.run), dirs, env, json: cli.json, engine };
    match cli.verb {
        Verb::Launch(flags) => launch::run(&context, &flags),
        Verb::Connect(args) => connect::run(&context, args),
        Verb::Forget(args) => forget::run(&context, args),
        Verb::Consense => consense::run(&context),
        Verb::Rmpeer(args) => rmpeer::run(&context, args),
        Verb::Status(args) => status::run(&context, &args),
        Verb::Attach(args) => attach::run(&context, args),
        Verb::Detach(args) => detach::run(&context, args),
        Verb::Release(args) => release::run(&context, args),
        Verb::Expose(args) => expose::run(&context, args),
        Verb::Hide(args) => expose::hide(&context, args),
        Verb::DnsAdd(args) => dns::add(&context, args),
        Verb::DnsRemove(args) => dns::remove(&context, args),
        Verb::DnsLookup(args) => dns::lookup(&context, args),
        Verb::DnsArgs => dns::arguments(&context),
        Verb::Ps(args) => ps::run(&context, &args),
        Verb::Stop(args) => stop::run(&context, &args),
        Verb::Reset(args) => reset::run(&context, &args),
        Verb::Report(args) => report::run(&context, &args),
        Verb::Version => Ok(version::run(context.json)),
    }
}

/// Writes all or nothing that matters: a reader that has seen enough (`| head`) is no failure.
fn print(to: &mut dyn Write, text: &str) {
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).ok();
}

impl Context<'_> {
    /// Waits for one request to the controller.
    fn wait<T, E>(&self, request: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
        Ok(runtime.block_on(request)?)
    }
}

#[cfg(test)]
mod tests;
