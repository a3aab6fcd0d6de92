//! The commit path.

use ruma::room_id;
use wick_core::Position;

use crate::{
    Database, Durability, Options, Range, Read,
    schema::{intern::SHORT_BY_ROOM, meta::META},
};

#[tokio::test]
async fn a_committed_row_is_published_and_survives_a_drop() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Options::default()).unwrap();
    let mut batch = database.batch();
    let slot = batch.reserve_position();
    batch.put(&META, "probe", &7);
    batch.put_at(slot, &META, |position| ("at".to_owned(), position.0));
    let room = room_id!("!room:example.org");
    let short = database.intern().room(room, &mut batch).unwrap();
    let committed = database.commit(batch, Durability::Synced).await.unwrap();
    assert_eq!(committed.at(slot), Some(Position(1)));

    let snapshot = database.published();
    assert_eq!(snapshot.position(), Position(1));
    assert_eq!(snapshot.get(&META, "probe").unwrap(), Some(7));
    assert_eq!(snapshot.get(&META, "at").unwrap(), Some(1));
    assert_eq!(snapshot.get(&META, "nothing").unwrap(), None);
    assert_eq!(database.intern().room_id(&snapshot, short).unwrap().as_deref(), Some(room));
    drop((snapshot, database));

    let database = Database::open(folder.path(), Options::default()).unwrap();
    assert_eq!(database.position(), Position(1));
    let names: Vec<String> =
        database.latest().scan_back(&META, Range::all()).keys().map(Result::unwrap).collect();
    assert_eq!(names, ["probe", "position", "format", "at"]);
    assert_eq!(database.latest().get(&SHORT_BY_ROOM, room).unwrap(), Some(short));
}
