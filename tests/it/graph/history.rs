//! Events from before this server was in a room.

use wick_database::{
    Range,
    schema::room::{CHILD_BY_MISSING, EVENT_BY_POSITION},
};

use super::*;

impl Server {
    fn timeline(&self) -> Vec<(i64, OwnedEventId)> {
        let read = self.rooms.database().published();
        read.scan(&EVENT_BY_POSITION, Range::all())
            .map(|row| row.expect("the timeline can be read"))
            .map(|((_, place), event)| (place, self.id(event)))
            .collect()
    }

    fn missing(&self) -> Vec<OwnedEventId> {
        let read = self.rooms.database().published();
        let rows = read.scan(&CHILD_BY_MISSING, Range::all()).keys();
        rows.map(|row| row.expect("the rows can be read").1).collect()
    }

    /// Receives a piece of history, with the state before the first of its events.
    async fn receive_history(&self, room: &RoomBuilder, ids: &[OwnedEventId]) -> Vec<Received> {
        let state: Vec<_> = room.before(&ids[0]).values().cloned().collect();
        self.receive_outliers(room, &room.auth_chain(&state)).await;
        let root = self.rooms.state_of(&room.room_id(), &state).await.expect("it is here");
        let events: Vec<_> = ids
            .iter()
            .map(|id| Incoming { event: verified(room, id), state: Some(root) })
            .collect();
        let received = self.rooms.receive_history(&room.room_id(), &events).await;
        received.expect("the room is here")
    }
}

#[tokio::test]
async fn history_goes_before_what_is_there_and_changes_nothing_else() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let first = room.order().len();
        room.message(&room.tips(), BOB, "one");
        room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": "two" }));
        room.message(&room.tips(), BOB, "three");
        room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": "four" }));
        let join = room.member(&room.tips(), DAVE, DAVE, "join");
        let order = room.order().to_vec();
        let server = Server::joined(&room, &join).await;
        let before = server.head(&room);
        assert_eq!(server.missing(), [order[first + 3].clone()]);

        let received = server.receive_history(&room, &order[first + 2..first + 4]).await;
        assert!(received.iter().all(|received| matches!(received, Received::Accepted(_))));
        assert_eq!(server.missing(), [order[first + 1].clone()]);
        server.check(&room);
        server.receive_history(&room, &order[first - 1..first + 2]).await;
        assert_eq!(server.head(&room), before, "{version}");
        let ids: Vec<_> = server.timeline().into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids, order[first - 1..], "{version}");
        let places: Vec<_> = server.timeline().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places[..5], [-5, -4, -3, -2, -1]);
        server.check(&room);

        // The state at each place is the one after the event there.
        let read = server.rooms.database().published();
        let short = server.rooms.intern().lookup_room(&read, &room.room_id());
        let short = short.expect("names can be read").expect("the room is here");
        for (place, id) in server.timeline() {
            let root = server.rooms.root_at(&read, short, place).expect("states can be read");
            assert_eq!(server.state_at(root), room.resolved(&[id]), "{version} {place}");
        }

        let again = server.receive_history(&room, &order[first..first + 1]).await;
        assert!(matches!(again[..], [Received::Known(_)]));
        assert_eq!(server.timeline().len(), 6);
    }
}

#[tokio::test]
async fn history_that_its_own_state_refuses_is_stored_as_rejected_and_not_part_of_the_timeline() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let forged = room.message(&room.tips(), CAROL, "i was never here");
        let join = room.member(&room.tips(), DAVE, DAVE, "join");
        let server = Server::joined(&room, &join).await;
        let received = server.receive_history(&room, std::slice::from_ref(&forged)).await;
        assert!(matches!(received[..], [Received::Rejected(..)]), "{version}: {received:?}");
        assert_eq!(server.timeline().len(), 1);
        server.sound();
    }
}
