//! `wick-crash`: as many kills as asked, with a line for each.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use wick_crash::{Plan, run};

/// Kills the server at random moments under load and checks that nothing answered is lost.
#[derive(Parser)]
struct Options {
    /// How many kills
    #[arg(default_value_t = 200)]
    kills: usize,
    /// What the requests and the moments of the kills follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many users are at work at once
    #[arg(long, default_value_t = 6)]
    users: usize,
}

fn main() -> ExitCode {
    let Options { kills, seed, users } = Options::parse();
    print(&format!("seed {seed}, {kills} kills, {users} users"));
    let plan = Plan { rounds: kills, seed, actors: users.max(1) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(run(plan, print)),
        Err(error) => Err(error.to_string()),
    };
    match ran {
        Ok(summary) => {
            print(&summary.to_string());
            ExitCode::SUCCESS
        }
        Err(broken) => {
            print(&format!("seed {seed}: {broken}"));
            ExitCode::FAILURE
        }
    }
}

fn print(line: &str) {
    // A closed output is no failure.
    drop(writeln!(io::stdout(), "{line}"));
}
