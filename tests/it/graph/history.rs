//! Events that this server missed: from before it was in a room, and between two stays.

use wick_database::{
    Fault, FaultAction, Range,
    schema::room::{CHILD_BY_MISSING, EVENT_BY_POSITION, GAP_BY_PLACE, TimelineGap},
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
        self.receive_in_gap(room, None, ids).await
    }

    /// The same in the gap before the event at a place.
    async fn receive_in_gap(
        &self,
        room: &RoomBuilder,
        gap: Option<i64>,
        ids: &[OwnedEventId],
    ) -> Vec<Received> {
        let received = self.try_receive_in_gap(room, gap, ids).await;
        received.expect("the room is here")
    }

    async fn try_receive_in_gap(
        &self,
        room: &RoomBuilder,
        gap: Option<i64>,
        ids: &[OwnedEventId],
    ) -> wick_core::Result<Vec<Received>> {
        let state: Vec<_> = room.before(&ids[0]).values().cloned().collect();
        self.try_receive_outliers(room, &room.auth_chain(&state)).await?;
        let root = self.rooms.state_of(&room.room_id(), &state).await?;
        let events: Vec<_> = ids
            .iter()
            .map(|id| Incoming { event: verified(room, id), state: Some(root) })
            .collect();
        self.rooms.receive_history(&room.room_id(), gap, &events).await
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

/// A room that dave joined, left and joined again, with what happened meanwhile.
struct Returned {
    room: RoomBuilder,
    first: OwnedEventId,
    leave: OwnedEventId,
    missed: Vec<OwnedEventId>,
    again: OwnedEventId,
}

impl Returned {
    fn new(version: RoomVersionId) -> Self {
        let mut room = RoomBuilder::public(version, ALICE, &[BOB]);
        let first = room.member(&room.tips(), DAVE, DAVE, "join");
        let leave = room.member(&room.tips(), DAVE, DAVE, "leave");
        let from = room.order().len();
        room.message(&room.tips(), BOB, "one");
        room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": "two" }));
        let fork = room.tips();
        let left = room.message(&fork, BOB, "three");
        let right = room.message(&fork, ALICE, "four");
        room.state(&[left, right], BOB, "m.room.topic", json!({ "topic": "five" }));
        let missed = room.order()[from..].to_vec();
        let again = room.member(&room.tips(), DAVE, DAVE, "join");
        Self { room, first, leave, missed, again }
    }

    /// Brings a server as far as it comes by itself, and then its gap in two pieces; whether nothing failed.
    async fn deliver(&self, server: &Server) -> bool {
        let known = server.place(&self.again).is_some_and(|place| !place.is_outlier());
        if !known {
            for join in [&self.first, &self.again] {
                if server.try_join(&self.room, join).await.is_err() {
                    return false;
                }
                let event = verified(&self.room, &self.leave);
                let left = server.rooms.receive(&self.room.room_id(), &[event.into()]).await;
                if left.is_err() {
                    return false;
                }
            }
        }
        let gap = server.place(&self.again).and_then(|place| place.position);
        for piece in [&self.missed[2..], &self.missed[..2]] {
            if server.try_receive_in_gap(&self.room, gap, piece).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The room has everything once, in the order in which it was sent.
    fn check(&self, server: &Server) {
        let ids: Vec<_> = server.timeline().into_iter().map(|(_, id)| id).collect();
        let ends = ([&self.first, &self.leave], [&self.again]);
        let all = ends.0.into_iter().chain(&self.missed).chain(ends.1);
        assert_eq!(ids, all.cloned().collect::<Vec<_>>());
        server.check(&self.room);
        assert_eq!(server.missing(), self.room.event(&self.first).pdu.prev_events);
    }
}

#[tokio::test]
async fn what_fills_a_gap_stands_between_its_ends_and_changes_nothing_else() {
    for version in versions() {
        let returned = Returned::new(version.clone());
        let (room, missed) = (&returned.room, &returned.missed);
        let server = Server::joined(room, &returned.first).await;
        assert!(accepted(server.receive(room, &returned.leave).await));
        server.join(room, &returned.again).await;
        server.check(room);
        let before = (server.head(room), server.timeline());
        let gap = server.place(&returned.again).expect("it is here").position;
        assert_eq!(
            server.missing(),
            set(&[&missed[4], &room.event(&returned.first).pdu.prev_events[0]])
                .into_iter()
                .collect::<Vec<_>>()
        );

        let received = server.receive_in_gap(room, gap, &missed[2..]).await;
        assert!(received.iter().all(|received| matches!(received, Received::Accepted(_))));
        server.check(room);
        let again = server.receive_in_gap(room, gap, &missed[2..3]).await;
        assert!(matches!(again[..], [Received::Known(_)]));
        server.receive_in_gap(room, gap, &missed[..2]).await;
        returned.check(&server);
        assert_eq!(server.head(room), before.0, "{version}");
        let after = server.timeline();
        assert!(before.1.iter().all(|row| after.contains(row)), "places that were given stay");

        // The state at each place is the one after the event there.
        let read = server.rooms.database().published();
        let short = server.rooms.intern().lookup_room(&read, &room.room_id());
        let short = short.expect("names can be read").expect("the room is here");
        for (place, id) in after {
            let root = server.rooms.root_at(&read, short, place).expect("states can be read");
            assert_eq!(server.state_at(root), room.resolved(&[id]), "{version} {place}");
        }
        assert_eq!(server.rooms.open_gaps(&read, short).expect("gaps can be read"), []);
    }
}

#[tokio::test]
async fn a_gap_with_less_free_places_than_missing_events_gets_the_newest_and_stays_open() {
    let returned = Returned::new(RoomVersionId::V11);
    let (room, missed) = (&returned.room, &returned.missed);
    let server = Server::joined(room, &returned.first).await;
    assert!(accepted(server.receive(room, &returned.leave).await));
    server.join(room, &returned.again).await;
    let gap = server.place(&returned.again).and_then(|place| place.position);
    let place = gap.expect("it is in the timeline");
    let db = server.rooms.database();
    let mut batch = db.batch();
    let read = db.latest();
    let short = server.rooms.intern().lookup_room(&read, &room.room_id());
    let short = short.expect("names can be read").expect("the room is here");
    let small = TimelineGap { floor: place - 3, lowest: place };
    batch.put(&GAP_BY_PLACE, &(short, place), &small);
    db.commit(batch, Durability::Flushed).await.expect("it can be written");
    let received = server.receive_in_gap(room, gap, &missed[2..]).await;
    assert_eq!(received.len(), 2, "{received:?}");
    server.check(room);
    let ids: Vec<_> = server.timeline().into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids[2..], [&missed[3..], std::slice::from_ref(&returned.again)].concat());
    let read = db.latest();
    assert_eq!(server.rooms.open_gaps(&read, short).expect("gaps can be read"), []);
    assert!(server.receive_in_gap(room, gap, &missed[..3]).await.is_empty());
}

/// Strikes at one commit.
struct Strike(u64, FaultAction);

impl Fault for Strike {
    fn before_commit(&self, number: u64) -> FaultAction {
        if number == self.0 { self.1 } else { FaultAction::Proceed }
    }
}

#[tokio::test]
async fn a_gap_that_is_filled_through_a_failure_at_any_commit_ends_as_without_one() {
    let returned = Returned::new(RoomVersionId::V12);
    for fate in [FaultAction::Fail, FaultAction::StopBefore, FaultAction::StopAfter] {
        for commit in 1.. {
            let fault: Arc<dyn Fault> = Arc::new(Strike(commit, fate));
            let options = Options { fault: Some(fault), ..Options::default() };
            let folder = tempfile::tempdir().expect("there is a temporary folder");
            let mut server = Server::open(folder, options);
            if returned.deliver(&server).await {
                assert!(commit > 5, "{fate:?} at commit {commit} was not noticed");
                break;
            }
            if fate != FaultAction::Fail {
                let Server { rooms, folder } = server;
                drop(rooms);
                server = Server::open(folder, Options::default());
            }
            server.sound();
            assert!(returned.deliver(&server).await, "{fate:?} at commit {commit}");
            returned.check(&server);
        }
    }
}
