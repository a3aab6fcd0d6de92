//! The wick homeserver: reads the command line and the configuration, and runs the command.

mod admin_socket;
mod backup;
mod check;
mod cli;
mod clock;
mod data_folder;
mod descriptors;
mod keys;
mod lifecycle;
mod listen;
mod random;
mod recovery;
mod serve;
mod settings;
mod telemetry;
mod tls;

use std::{fmt, process::ExitCode};

use clap::Parser;
use mimalloc::MiMalloc;

use crate::cli::{Cli, Command, Generate};

/// Faster than the system's, and gives back what password hashing took: see docs/benchmarks.md. Its
/// `override` feature replaces `malloc` in the whole process, RocksDB included.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Why the process ends. Printed to standard error.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Failure {
    /// `what` went wrong because of `why`.
    pub(crate) fn because(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            cli::complain(&failure);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Some(Command::Generate { what: Generate::Config }) => {
            return cli::print(wick_core::config::EXAMPLE.trim_end());
        }
        Some(Command::Generate { what: Generate::Completions { shell } }) => {
            return cli::completions(*shell);
        }
        None
        | Some(
            Command::Serve | Command::Check { .. } | Command::Backup { .. } | Command::Admin { .. },
        ) => {}
    }
    let config = settings::load(cli)?;
    match &cli.command {
        Some(Command::Check { rooms, media, salvage }) => {
            let (rooms, media, salvage) = (*rooms, *media, *salvage);
            check::run(&config, check::Parts { rooms, media, salvage })
        }
        Some(Command::Backup { folder }) => backup::run(&config, folder),
        Some(Command::Admin { what }) => admin_socket::run(&config, what),
        None | Some(Command::Serve | Command::Generate { .. }) => lifecycle::run(config),
    }
}
