//! The version of the format, and the way from an older one to the present one.
//!
//! Invariants: steps are in order and never change once released; each commits its own version with
//! its last batch, so that an interrupted migration goes on where it stopped.

use std::collections::BTreeMap;

use crate::{
    Batch, Database, Durability, Error, Range, Read, Result,
    schema::{
        intern::USER_BY_SHORT,
        meta::{FORMAT, META},
        room::{
            CHILD_BY_MISSING, GAP_BY_PLACE, JOINED_BY_SERVER, MEMBER_BY_ROOM, MISSING_BY_CHILD,
            Membership, ROOM_BY_SERVER, TimelineGap,
        },
    },
};

/// The version of the format that this server writes.
pub const VERSION: u64 = 3;

/// One step: brings the format from `version - 1` to `version`.
struct Step {
    version: u64,
    run: fn(&Database, &mut Batch) -> Result<()>,
}

/// The steps, in order.
const STEPS: &[Step] =
    &[Step { version: 2, run: count_servers }, Step { version: 3, run: list_missing }];

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

/// Version 2 counts the joined users of each server in each room.
fn count_servers(database: &Database, batch: &mut Batch) -> Result<()> {
    let latest = database.latest();
    let mut joined = BTreeMap::<_, u64>::new();
    for key in latest.scan(&MEMBER_BY_ROOM, Range::all()).keys() {
        let (room, membership, user) = key?;
        if membership == Membership::Join as u8
            && let Some(user) = latest.get(&USER_BY_SHORT, &user)?
        {
            *joined.entry((room, user.server_name().to_owned())).or_default() += 1;
        }
    }
    for ((room, server), count) in joined {
        batch.put(&ROOM_BY_SERVER, &(server.clone(), room), &());
        batch.put(&JOINED_BY_SERVER, &(room, server), &count);
    }
    Ok(())
}

/// Version 3 lists missing events by the place of the event that refers to them. The gaps of an older database have no free
/// places.
fn list_missing(database: &Database, batch: &mut Batch) -> Result<()> {
    for row in database.latest().scan(&CHILD_BY_MISSING, Range::all()) {
        let ((room, missing), place) = row?;
        batch.put(&MISSING_BY_CHILD, &(room, place, missing), &());
        if place > 0 {
            let gap = TimelineGap { floor: place.saturating_sub(1), lowest: place };
            batch.put(&GAP_BY_PLACE, &(room, place), &gap);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ruma::{event_id, server_name, user_id};
    use wick_core::{ShortEventId, ShortRoomId};

    use super::*;
    use crate::Options;

    #[test]
    fn the_servers_of_the_rooms_are_counted_once_when_an_old_database_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path(), Options::default()).unwrap();
        let (mut batch, room) = (database.batch(), ShortRoomId(7));
        for (user, membership) in [
            (user_id!("@a:one.test"), Membership::Join),
            (user_id!("@b:one.test"), Membership::Join),
            (user_id!("@c:two.test"), Membership::Leave),
            (user_id!("@d:three.test"), Membership::Join),
        ] {
            let user = database.intern().user(user, &mut batch).unwrap();
            batch.put(&MEMBER_BY_ROOM, &(room, membership as u8, user), &ShortEventId(1));
        }
        set(&database, batch, 1).unwrap();
        for _ in 0..2 {
            run(&database).unwrap();
            let latest = database.latest();
            let counts = latest.scan(&JOINED_BY_SERVER, Range::all());
            let counts: Vec<_> = counts.collect::<Result<_>>().unwrap();
            let (one, three) = (server_name!("one.test"), server_name!("three.test"));
            assert_eq!(counts, [((room, one.to_owned()), 2), ((room, three.to_owned()), 1)]);
            assert!(latest.contains(&ROOM_BY_SERVER, &(three, room)).unwrap());
            assert_eq!(latest.get(&META, FORMAT).unwrap(), Some(VERSION));
        }
    }

    #[test]
    fn missing_events_are_listed_by_their_children_when_an_old_database_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path(), Options::default()).unwrap();
        let (mut batch, room) = (database.batch(), ShortRoomId(7));
        let [old, new] = [event_id!("$old"), event_id!("$new")];
        batch.put(&CHILD_BY_MISSING, &(room, old), &-5);
        batch.put(&CHILD_BY_MISSING, &(room, new), &40);
        set(&database, batch, 2).unwrap();
        run(&database).unwrap();
        let latest = database.latest();
        let missing = latest.scan(&MISSING_BY_CHILD, Range::all()).keys();
        let missing: Vec<_> = missing.collect::<Result<_>>().unwrap();
        assert_eq!(missing, [(room, -5, old.to_owned()), (room, 40, new.to_owned())]);
        let gaps: Vec<_> = latest.scan(&GAP_BY_PLACE, Range::all()).collect::<Result<_>>().unwrap();
        assert_eq!(gaps, [((room, 40), TimelineGap { floor: 39, lowest: 40 })]);
    }
}
