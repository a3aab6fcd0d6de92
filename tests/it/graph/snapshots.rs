//! Rooms that are joined: as another server has them, at the event of the join.

use wick_database::{Fault, FaultAction, schema::room::CHILD_BY_MISSING};

use super::*;

/// A room with some history, which dave of this server joins.
fn joined_room(version: RoomVersionId) -> (RoomBuilder, OwnedEventId) {
    let mut room = RoomBuilder::public(version, ALICE, &[BOB]);
    room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": "first" }));
    room.message(&room.tips(), BOB, "hello");
    room.state(&room.tips(), ALICE, "m.room.topic", json!({ "topic": "second" }));
    room.member(&room.tips(), CAROL, CAROL, "join");
    room.member(&room.tips(), CAROL, CAROL, "leave");
    room.message(&room.tips(), BOB, "before dave");
    let join = room.member(&room.tips(), DAVE, DAVE, "join");
    (room, join)
}

fn message(room: &RoomBuilder, body: &str) -> Draft {
    let content = serde_json::from_value(json!({ "body": body })).expect("it is an object");
    let sender = DAVE.try_into().expect("it is a user id");
    Draft::message(room.room_id(), sender, "m.room.message".into(), content)
}

#[tokio::test]
async fn a_room_that_is_joined_has_the_state_and_the_members_of_the_other_server() {
    for version in versions() {
        let (mut room, join) = joined_room(version.clone());
        let server = Server::joined(&room, &join).await;
        server.check(&room);
        assert_eq!(server.extremities(&room), set(&[&join]));
        let counts = server.head(&room).counts;
        assert_eq!((counts.joined, counts.left), (3, 1), "{version}");

        // It goes on from there, in both directions.
        let sent = server.rooms.send(message(&room, "i am here"), Effects::default()).await;
        let sent = sent.expect("dave is in the room");
        room.adopt(&sent.pdu);
        let answer = room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": "dave" }));
        assert!(accepted(server.receive(&room, &answer).await), "{version}");
        assert_eq!(server.extremities(&room), set(&[&answer]));
        server.check(&room);
    }
}

#[tokio::test]
async fn a_room_that_is_joined_again_is_as_the_other_server_has_it_by_then() {
    for version in versions() {
        let (mut room, join) = joined_room(version.clone());
        let server = Server::joined(&room, &join).await;
        let leave = room.member(&room.tips(), DAVE, DAVE, "leave");
        assert!(accepted(server.receive(&room, &leave).await));
        // What happens while this server is not in the room.
        room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": "without dave" }));
        room.member(&room.tips(), BOB, BOB, "leave");
        let again = room.member(&room.tips(), DAVE, DAVE, "join");
        let received = server.join(&room, &again).await;
        assert!(matches!(received, Received::Accepted(_)), "{version}: {received:?}");
        server.check(&room);
        assert_eq!(server.extremities(&room), set(&[&again]));
        assert_eq!(server.head(&room).counts.joined, 2);

        let read = server.rooms.database().published();
        let missing = read.scan(&CHILD_BY_MISSING, wick_database::Range::all()).count();
        assert_eq!(missing, 2, "{version}: the history ends at both joins");
    }
}

#[tokio::test]
async fn a_second_join_of_this_server_keeps_what_came_since_the_first() {
    for version in versions() {
        let (mut room, join) = joined_room(version.clone());
        let server = Server::joined(&room, &join).await;
        let kept = room.message(&room.tips(), BOB, "to dave");
        assert!(accepted(server.receive(&room, &kept).await));
        let other = room.member(&[join], "@erin:here.example", "@erin:here.example", "join");
        let received = server.join(&room, &other).await;
        assert!(matches!(received, Received::Accepted(_)), "{version}: {received:?}");
        assert_eq!(server.extremities(&room), set(&[&kept, &other]));
        server.check(&room);
    }
}

#[tokio::test]
async fn a_join_that_the_state_does_not_allow_makes_no_room() {
    for version in versions() {
        let (mut room, _) = joined_room(version.clone());
        room.member(&room.tips(), ALICE, DAVE, "ban");
        let join = room.member(&room.tips(), DAVE, DAVE, "join");
        let server = Server::start();
        let received = server.join(&room, &join).await;
        assert!(matches!(received, Received::Dropped(..)), "{version}: {received:?}");
        let read = server.rooms.database().published();
        assert_eq!(read.scan(&HEAD_BY_ROOM, wick_database::Range::all()).count(), 0);
        server.sound();
    }
}

/// The process dies before or after one commit.
struct Strike(u64, FaultAction);

impl Fault for Strike {
    fn before_commit(&self, number: u64) -> FaultAction {
        if number == self.0 { self.1 } else { FaultAction::Proceed }
    }
}

#[tokio::test]
async fn a_join_that_is_disturbed_at_any_commit_is_wholly_there_or_not_and_can_be_repeated() {
    let (room, join) = joined_room(RoomVersionId::V12);
    for fate in [FaultAction::StopBefore, FaultAction::StopAfter] {
        // The outliers, the state, the room.
        for commit in 1..=3 {
            let options =
                Options { fault: Some(Arc::new(Strike(commit, fate))), ..Options::default() };
            let folder = tempfile::tempdir().expect("there is a temporary folder");
            let server = Server::open(folder, options);
            let state: Vec<_> = room.before(&join).values().cloned().collect();
            let chain = room.auth_chain(&state).iter().map(|id| verified(&room, id)).collect();
            let chain = wick_room::by_auth_events(chain);
            let (id, version) = (room.room_id(), room.version());
            let attempt = async {
                server.rooms.receive_outliers(&id, &version, &chain).await?;
                let state = server.rooms.state_of(&id, &state).await?;
                let event = verified(&room, &join);
                let snapshot = Snapshot { version: version.clone(), state, event };
                server.rooms.receive_snapshot(&id, &snapshot, |_| Ok(())).await
            };
            attempt.await.expect_err("the process died");
            let Server { rooms, folder } = server;
            drop(rooms);
            let server = Server::open(folder, Options::default());
            server.sound();
            server.join(&room, &join).await;
            server.check(&room);
            assert_eq!(server.extremities(&room), set(&[&join]), "{fate:?} at {commit}");
        }
    }
}
