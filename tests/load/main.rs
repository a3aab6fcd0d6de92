//! `wick-load`: parse, run one scenario or compare two files, print. One thread, so that the server has the other core.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use wick_load::{
    Failure, Result,
    cli::{Options, Plan},
    compare, scenario,
};

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.compare.as_slice() {
        [ours, theirs] => compare::table(ours, theirs),
        _ => run(options),
    };
    match outcome.and_then(|text| Ok(std::io::stdout().write_all(text.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to do when even stderr is gone.
            drop(writeln!(std::io::stderr(), "wick-load: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<String> {
    let json = options.json;
    let plan = Plan::new(options).map_err(Failure::Other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(scenario::run(&plan))?;
    if json { report.json() } else { Ok(report.to_string()) }
}
