//! The pipeline from a draft to a published event, on a real database.

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedServerName, OwnedUserId, RoomVersionId, canonical_json::CanonicalJsonObject,
    events::StateEventType, signatures::Ed25519KeyPair, user_id,
};
use serde_json::json;
use wick_core::{Draft, Random, clock::ManualClock};
use wick_database::{
    Database, Durability, Options, Read,
    schema::room::{EVENT_BY_STATE, HEAD_BY_ROOM, Head},
};

use crate::{Direction, Effects, Graph, Hooks, NewRoom, render::Show, visibility::Viewer};

struct Counting(std::sync::atomic::AtomicU64);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let number = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_le_bytes();
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = number[index % number.len()];
        }
    }
}

fn content(value: serde_json::Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

fn open(folder: &std::path::Path) -> Graph {
    open_with(folder, Counting(1.into()))
}

fn open_with(folder: &std::path::Path, random: Counting) -> Graph {
    let db = Database::open(folder, Options::default()).unwrap();
    let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).unwrap();
    let server: OwnedServerName = "localhost".try_into().unwrap();
    let clock = ManualClock::default();
    clock.advance(Duration::from_secs(1_000));
    Graph::open(
        db,
        Arc::new(clock),
        Arc::new(random),
        (server, Arc::new(key.into())),
        Hooks::default(),
        1 << 20,
    )
}

fn member(room: &ruma::RoomId, user: &OwnedUserId) -> Draft {
    Draft::state(
        room.to_owned(),
        user.clone(),
        StateEventType::RoomMember,
        user.as_str(),
        content(json!({ "membership": "join" })),
    )
}

async fn room_with_alice(
    rooms: &Graph,
    version: RoomVersionId,
) -> (ruma::OwnedRoomId, OwnedUserId) {
    let alice = user_id!("@alice:localhost").to_owned();
    let mut create = json!({ "room_version": version.as_str() });
    if version.rules().is_some_and(|rules| !rules.authorization.use_room_create_sender) {
        create["creator"] = json!(alice);
    }
    let placeholder = ruma::room_id!("!placeholder:localhost").to_owned();
    let create =
        Draft::state(placeholder, alice.clone(), StateEventType::RoomCreate, "", content(create));
    let (room_id, ()) = rooms
        .create(NewRoom { version, create }, |room| {
            let draft = member(room.room_id(), &alice);
            room.append(draft, Effects::default()).map(drop)
        })
        .await
        .unwrap();
    (room_id, alice)
}

#[tokio::test]
async fn an_event_goes_from_draft_to_timeline_in_every_room_version() {
    for version in wick_core::rules::SUPPORTED_VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let rooms = open(folder.path());
        let (room_id, alice) = room_with_alice(&rooms, version.clone()).await;
        let draft = Draft::message(
            room_id.clone(),
            alice.clone(),
            "m.room.message".into(),
            content(json!({ "body": "hello" })),
        );
        let sent = rooms.send(draft, Effects::default()).await.unwrap();

        let read = rooms.database().published();
        let timeline: Vec<_> = rooms
            .timeline(&read, sent.room, i64::MAX, Direction::Backward)
            .map(|item| item.unwrap().event)
            .collect();
        assert_eq!(timeline.len(), 3, "{version}");
        assert_eq!(timeline[0], sent.short);
        let mut viewer = Viewer::new(&rooms, &read, sent.room, &alice, None).unwrap();
        let shown = viewer.show_if_visible(sent.short, Show::CLIENT).unwrap().unwrap();
        let shown: serde_json::Value = serde_json::from_str(shown.get()).unwrap();
        assert_eq!(shown["content"]["body"], "hello");
        assert_eq!(shown["unsigned"]["membership"], "join");
        assert_eq!(shown["room_id"], room_id.as_str());
    }
}

#[tokio::test]
async fn somebody_who_is_not_in_the_room_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let rooms = open(folder.path());
    let (room_id, _) = room_with_alice(&rooms, RoomVersionId::V12).await;
    let before = rooms.database().position();
    let draft = Draft::message(
        room_id,
        user_id!("@bob:localhost").to_owned(),
        "m.room.message".into(),
        content(json!({ "body": "hello" })),
    );
    let refused = rooms.send(draft, Effects::default()).await.unwrap_err();
    assert!(matches!(refused.kind(), Some(ruma::api::error::ErrorKind::Forbidden)));
    assert_eq!(rooms.database().position(), before);
}

#[tokio::test]
async fn events_of_one_batch_see_each_other_and_the_state_table_agrees_with_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let rooms = open(folder.path());
    let (room_id, alice) = room_with_alice(&rooms, RoomVersionId::V11).await;
    rooms
        .transact(&room_id, |room| {
            for name in ["one", "two", "three"] {
                let draft = Draft::state(
                    room.room_id().to_owned(),
                    alice.clone(),
                    StateEventType::RoomName,
                    "",
                    content(json!({ "name": name })),
                );
                room.append(draft, Effects::default())?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let read = rooms.database().published();
    let room = rooms.short(&read, &room_id).unwrap().unwrap();
    let head = rooms.head(&read, room).unwrap().unwrap();
    assert_eq!(head.extremities.len(), 1);
    assert_eq!(head.depth, 5);
    let name = rooms.state_event(&read, room, &StateEventType::RoomName, "").unwrap().unwrap();
    assert_eq!(name.content.get(), r#"{"name":"three"}"#);
    for (key, event) in rooms.states().collect(&read, head.state).unwrap() {
        assert_eq!(read.get(&EVENT_BY_STATE, &(room, key)).unwrap(), Some(event));
    }
}

#[tokio::test]
async fn rooms_made_in_the_same_millisecond_are_different_rooms() {
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let folder = tempfile::tempdir().unwrap();
        let rooms = open(folder.path());
        let (first, _) = room_with_alice(&rooms, version.clone()).await;
        let (second, _) = room_with_alice(&rooms, version.clone()).await;
        assert_ne!(first, second, "{version}");
    }
}

/// Changes a room's head as another node would, which does not take the locks here.
fn move_head(rooms: &Graph, room: wick_core::ShortRoomId) {
    let mut batch = rooms.database().batch();
    let head = batch.get(&HEAD_BY_ROOM, &room).unwrap().unwrap();
    batch.put(&HEAD_BY_ROOM, &room, &Head { depth: head.depth + 10, ..head });
    drop(rooms.database().write(batch, Durability::Flushed).unwrap());
}

fn message(room_id: &ruma::RoomId, sender: &OwnedUserId) -> Draft {
    let body = content(json!({ "body": "hello" }));
    Draft::message(room_id.to_owned(), sender.clone(), "m.room.message".into(), body)
}

#[tokio::test]
async fn a_change_whose_room_has_moved_runs_again_on_what_is_there_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let rooms = open(folder.path());
    let (room_id, alice) = room_with_alice(&rooms, RoomVersionId::V11).await;
    let mut heads = Vec::new();
    let sent = rooms
        .transact(&room_id, |room| {
            heads.push(room.head().depth);
            if heads.len() < 3 {
                move_head(&rooms, room.room());
            }
            room.append(message(&room_id, &alice), Effects::default())
        })
        .await
        .unwrap();
    assert_eq!(heads, [2, 12, 22]);
    assert_eq!(sent.pdu.depth, 23);
    let read = rooms.database().published();
    let timeline = rooms.timeline(&read, sent.room, i64::MAX, Direction::Backward);
    assert_eq!(timeline.count(), 3, "the event is there once");
}

#[tokio::test]
async fn a_refusal_that_was_decided_on_a_head_that_has_moved_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let rooms = open(folder.path());
    let (room_id, alice) = room_with_alice(&rooms, RoomVersionId::V11).await;
    let mut runs = 0;
    rooms
        .transact(&room_id, |room| {
            runs += 1;
            if runs == 1 {
                move_head(&rooms, room.room());
                return Err(wick_core::Error::forbidden("not as long as it is like this"));
            }
            room.append(message(&room_id, &alice), Effects::default()).map(drop)
        })
        .await
        .unwrap();
    assert_eq!(runs, 2);
}

#[tokio::test]
async fn a_room_that_moves_each_time_is_an_error_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let rooms = open(folder.path());
    let (room_id, alice) = room_with_alice(&rooms, RoomVersionId::V11).await;
    let before = rooms.database().position();
    let changed = rooms
        .transact(&room_id, |room| {
            move_head(&rooms, room.room());
            room.append(message(&room_id, &alice), Effects::default())
        })
        .await;
    assert!(changed.is_err_and(|error| error.kind().is_none()));
    assert_eq!(rooms.database().position(), before);
}

#[test]
fn ids_of_timers_grow_and_two_nodes_do_not_count_alike() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = open_with(folders[0].path(), Counting(1.into()));
    let other = open_with(folders[1].path(), Counting(500_000.into()));
    let ids = |rooms: &Graph| -> Vec<_> { (0..100).map(|_| rooms.next_timer()).collect() };
    let (ones, others) = (ids(&one), ids(&other));
    assert!(ones.is_sorted() && others.is_sorted());
    assert!(ones.iter().all(|id| !others.contains(id)));
}
