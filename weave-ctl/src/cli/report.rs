//! `report`: everything, as JSON in any case, for whoever looks for a fault; with `--graph` the mesh alone, as DOT.

use super::{Context, args::ReportArgs, failure::Failure, render};

pub(super) fn run(context: &Context<'_>, args: &ReportArgs) -> Result<String, Failure> {
    if args.graph && context.json {
        return Err(Failure::Usage("report --graph writes DOT, not JSON: leave --graph or --json away".to_owned()));
    }
    let report = context.wait(context.client.report())?;
    Ok(if args.graph { render::graph(&report.status) } else { render::json(&report) })
}
