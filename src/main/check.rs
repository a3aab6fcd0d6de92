//! `wick check`: what is wrong with the configuration, and with what is stored.

use std::sync::Arc;

use tokio::runtime;
use wick_core::Config;
use wick_database::Database;
use wick_room::invariants;
use wick_runtime::Supervisor;
use wick_service::database_options;

use crate::{Failure, cli, clock::SystemClock, data_folder::is_there};

/// What is checked besides the configuration.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    /// The stored rooms.
    pub(crate) rooms: bool,
    /// The stored media.
    pub(crate) media: bool,
    /// Gives up what damaged logs hold after the damage.
    pub(crate) salvage: bool,
}

/// Reports that the configuration, which was read, is fine, and checks other parts. The server must not run meanwhile.
pub(crate) fn run(config: &Config, parts: Parts) -> Result<(), Failure> {
    cli::print("the configuration is fine")?;
    if !parts.rooms && !parts.media && !parts.salvage {
        return Ok(());
    }
    let store = config.database.store();
    if !is_there(&store)? {
        return cli::print("there is no database yet");
    }
    if parts.salvage {
        salvage(config)?;
    }
    if !parts.rooms && !parts.media {
        return Ok(());
    }
    let database = Database::open(&store, database_options(&config.database))
        .map_err(|error| Failure::because("the database cannot be opened", error))?;
    if parts.rooms {
        rooms(&database)?;
    }
    if parts.media {
        media(config, &database)?;
    }
    Ok(())
}

fn rooms(database: &Database) -> Result<(), Failure> {
    let violations = invariants::check(&database.published())
        .map_err(|error| Failure::because("the database cannot be read", error))?;
    for violation in &violations {
        cli::print(&violation.to_string())?;
    }
    match violations.len() {
        0 => cli::print("the rooms are fine"),
        found => Err(Failure(format!("{found} rules are broken in the stored rooms"))),
    }
}

fn media(config: &Config, database: &Database) -> Result<(), Failure> {
    // For an object store. An error means that there is a provider already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because("the runtime cannot be started", error))?;
    let supervisor = Arc::new(Supervisor::new(Arc::new(SystemClock::new())));
    let (orphans, wrong) = runtime
        .block_on(wick_media::check(config, database, &supervisor))
        .map_err(|error| Failure::because("the media cannot be read", error))?;
    for wrong in &wrong {
        cli::print(wrong)?;
    }
    if orphans > 0 {
        cli::print(&format!(
            "{orphans} files belong to nothing: the server removes them when they are a day old"
        ))?;
    }
    match wrong.len() {
        0 => cli::print("the media are fine"),
        found => Err(Failure(format!("{found} things are wrong in the stored media"))),
    }
}

fn salvage(config: &Config) -> Result<(), Failure> {
    let options = database_options(&config.database);
    let given_up = Database::salvage(&config.database.store(), &options)
        .map_err(|error| Failure::because("the database cannot be salvaged", error))?;
    match given_up {
        None => cli::print("the logs are fine"),
        Some(what) => cli::print(&format!(
            "{what}: what came after is given up, the damaged files are kept beside the others; run `wick check --rooms`"
        )),
    }
}
