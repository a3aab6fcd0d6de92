//! The version of the format, and the way from an older one to the present one.
//!
//! Invariants: steps are in order and never change once released; each commits its own version with
//! its last batch, so that an interrupted migration goes on where it stopped.

use crate::{
    Batch, Database, Durability, Error, Read, Result,
    schema::meta::{FORMAT, META},
};

/// The version of the format that this server writes.
pub const VERSION: u64 = 1;

/// One step: brings the format from `version - 1` to `version`.
struct Step {
    version: u64,
    run: fn(&Database, &mut Batch) -> Result<()>,
}

/// The steps, in order.
const STEPS: &[Step] = &[];

/// Refuses a newer format.
pub(crate) fn check(found: Option<u64>) -> Result<()> {
    match found {
        Some(found) if found > VERSION => Err(Error::Newer(
            format!("its format is {found}, this version knows formats up to {VERSION}").into(),
        )),
        _ => Ok(()),
    }
}

/// Brings the database to the present format. An empty one is given it.
pub(crate) fn run(database: &Database) -> Result<()> {
    let Some(mut found) = database.latest().get(&META, FORMAT)? else {
        return set(database, database.batch(), VERSION);
    };
    for step in STEPS {
        if step.version <= found {
            continue;
        }
        tracing::info!(from = found, to = step.version, "migrating the database");
        let mut batch = database.batch();
        (step.run)(database, &mut batch)?;
        set(database, batch, step.version)?;
        found = step.version;
    }
    check(Some(found))
}

fn set(database: &Database, mut batch: Batch, version: u64) -> Result<()> {
    batch.put(&META, FORMAT, &version);
    // Nothing is read before `open` returns, so it is enough that the row precedes all others in the log.
    drop(database.write(batch, Durability::Flushed)?);
    Ok(())
}
