//! `wick-load`: parse, run one scenario, print. One thread, so that the server has the other core.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use wick_load::{
    Failure, Result,
    cli::{Options, Plan},
    report::Report,
    scenario,
};

fn main() -> ExitCode {
    let options = Options::parse();
    let json = options.json;
    let outcome = run(options).and_then(|report| print(&report, json));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to do when even stderr is gone.
            drop(writeln!(std::io::stderr(), "wick-load: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<Report> {
    let plan = Plan::new(options).map_err(Failure::Other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(scenario::run(&plan))
}

fn print(report: &Report, json: bool) -> Result<()> {
    let text = if json { report.json()? } else { report.to_string() };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
