//! `wick check`: what is wrong with the configuration, and with what is stored.

use wick_core::Config;
use wick_database::Database;
use wick_room::invariants;
use wick_service::database_options;

use crate::{Failure, cli, data_folder::is_there};

/// Reports that the configuration, which was read, is fine. With `salvage`, gives up what damaged logs hold after the
/// damage; with `rooms`, checks the stored rooms. The server must not run meanwhile.
pub(crate) fn run(config: &Config, rooms: bool, salvage: bool) -> Result<(), Failure> {
    cli::say("the configuration is fine")?;
    if !rooms && !salvage {
        return Ok(());
    }
    let store = config.database.store();
    if !is_there(&store)? {
        return cli::say("there is no database yet");
    }
    if salvage {
        self::salvage(config)?;
    }
    if !rooms {
        return Ok(());
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

fn salvage(config: &Config) -> Result<(), Failure> {
    let options = database_options(&config.database);
    let given_up = Database::salvage(&config.database.store(), &options)
        .map_err(|error| Failure::because("the database cannot be salvaged", error))?;
    match given_up {
        None => cli::say("the logs are fine"),
        Some(what) => cli::say(&format!(
            "{what}: what came after is given up, the damaged files are kept beside the others; run `wick check --rooms`"
        )),
    }
}
