//! `wick check`: what is wrong with the configuration, and with what is stored.

use wick_core::Config;
use wick_database::Database;
use wick_room::invariants;
use wick_service::database_options;

use crate::{Failure, cli};

/// Says that the configuration, which was read, is fine; with `rooms`, checks the stored rooms as well. For
/// that the server must not run.
pub(crate) fn run(config: &Config, rooms: bool) -> Result<(), Failure> {
    cli::say("the configuration is fine")?;
    if !rooms {
        return Ok(());
    }
    let store = config.database.store();
    if !store.exists() {
        return cli::say("there is no database yet");
    }
    let database = Database::open(&store, database_options(&config.database))
        .map_err(|error| Failure::because("the database cannot be opened", error))?;
    let violations = invariants::check(&database.published())
        .map_err(|error| Failure::because("the database cannot be read", error))?;
    for violation in &violations {
        cli::say(&violation.to_string())?;
    }
    match violations.len() {
        0 => cli::say("the rooms are fine"),
        found => Err(Failure(format!("{found} rules are broken in the stored rooms"))),
    }
}
