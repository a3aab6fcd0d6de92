//! What events from elsewhere do to the timers of events that expire.

use wick_core::Timestamp;
use wick_database::schema::timer::{EXPIRY_BY_EVENT, ExpiryStatus, TIMER_BY_EVENT};
use wick_room::{Appended, Arm};

use super::*;

impl Server {
    /// Sends an event of dave's that expires.
    async fn send_running(&self, draft: Draft) -> Appended {
        let timer = self.rooms.next_timer();
        let arm = Arm { timer, nonce: 1, duration: 10_000, deadline: Timestamp(u64::MAX) };
        let effects = Effects { arm: Some(arm), ..Effects::default() };
        let sent = self.rooms.send(draft, effects).await.expect("dave may");
        assert!(self.is_running(&sent));
        sent
    }

    fn is_running(&self, event: &Appended) -> bool {
        let read = self.rooms.database().published();
        read.contains(&TIMER_BY_EVENT, &event.short).expect("timers can be read")
    }

    fn status(&self, event: &Appended) -> Option<ExpiryStatus> {
        let read = self.rooms.database().published();
        let row = read.get(&EXPIRY_BY_EVENT, &event.short).expect("statuses can be read");
        row.map(|row| row.status)
    }
}

const STATUS: &str = "org.example.status";

fn status(room: &RoomBuilder) -> Draft {
    let content = serde_json::from_value(json!({ "m.will_expire": "running" }));
    let sender = DAVE.try_into().expect("it is a user id");
    Draft::state(room.room_id(), sender, STATUS.into(), "", content.expect("it is an object"))
}

fn message(room: &RoomBuilder) -> Draft {
    let content = serde_json::from_value(json!({ "m.will_expire": "running" }));
    let sender = DAVE.try_into().expect("it is a user id");
    let event_type = "m.room.message".into();
    Draft::message(room.room_id(), sender, event_type, content.expect("it is an object"))
}

#[tokio::test]
async fn a_state_event_from_elsewhere_stops_the_timer_of_the_one_it_replaces() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB, DAVE]);
        let server = Server::with(&room).await;
        let running = server.send_running(status(&room)).await;
        room.adopt(&running.pdu);

        let message = room.message(&room.tips(), BOB, "nothing to do with it");
        assert!(accepted(server.receive(&room, &message).await));
        assert!(server.is_running(&running));

        let other = room.state(&room.tips(), BOB, STATUS, json!({}));
        assert!(accepted(server.receive(&room, &other).await));
        assert!(!server.is_running(&running), "{version}");
        server.check(&room);
    }
}

#[tokio::test]
async fn a_state_event_that_loses_the_resolution_stops_its_timer_and_one_that_wins_goes_on() {
    for version in versions() {
        for later in [true, false] {
            let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB, DAVE]);
            let server = Server::with(&room).await;
            let fork = room.tips();
            let running = server.send_running(status(&room)).await;
            room.adopt(&running.pdu);
            if later {
                room.set_time(running.pdu.origin_server_ts.0);
            }
            let other = room.state(&fork, BOB, STATUS, json!({}));
            assert!(accepted(server.receive(&room, &other).await));
            assert_eq!(server.is_running(&running), !later, "{version}");
            server.check(&room);
        }
    }
}

#[tokio::test]
async fn a_redaction_from_elsewhere_stops_the_timer_if_its_sender_may_redact() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB, DAVE]);
        room.member(&room.tips(), CAROL, CAROL, "join");
        let server = Server::with(&room).await;
        let running = server.send_running(message(&room)).await;
        room.adopt(&running.pdu);

        let weak = room.redaction(&room.tips(), CAROL, &running.pdu.event_id);
        assert!(accepted(server.receive(&room, &weak).await));
        assert!(server.is_running(&running), "{version}: carol has no power");

        let strong = room.redaction(&room.tips(), BOB, &running.pdu.event_id);
        assert!(accepted(server.receive(&room, &strong).await));
        assert!(!server.is_running(&running), "{version}");
        assert_eq!(server.status(&running), None);
        server.sound();
    }
}

#[tokio::test]
async fn a_redaction_that_comes_before_its_target_takes_effect_when_the_target_comes() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let server = Server::with(&room).await;
        let fork = room.tips();
        let target = room.message(&fork, BOB, "a secret");
        let redaction = room.redaction(&fork, BOB, &target);
        assert!(accepted(server.receive(&room, &redaction).await));
        assert!(accepted(server.receive(&room, &target).await));
        let read = server.rooms.database().published();
        let (_, stored) = server
            .rooms
            .event_by_id(&read, &target)
            .expect("events can be read")
            .expect("the target is here");
        assert_eq!(stored.content.get(), "{}", "{version}");
        server.check(&room);
    }
}

#[tokio::test]
async fn a_terminal_event_from_elsewhere_sets_the_status_of_its_senders_own_event_alone() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB, CAROL]);
        let here = NewEvent {
            sender: BOB,
            event_type: "m.room.message",
            state_key: None,
            content: json!({ "msgtype": "m.text", "body": "here", "m.will_expire": "running" }),
            auth_events: None,
        };
        let original = room.add(&room.tips(), here);
        let server = Server::with(&room).await;
        let terminal = json!({
            "m.will_expire": "expired",
            "m.relates_to": { "rel_type": "m.expire.relationship", "event_id": original },
        });
        for (sender, set) in [(CAROL, false), (BOB, true)] {
            let event_type = "m.room.message";
            let content = terminal.clone();
            let new_event =
                NewEvent { sender, event_type, state_key: None, content, auth_events: None };
            let said = room.add(&room.tips(), new_event);
            assert!(accepted(server.receive(&room, &said).await));
            let read = server.rooms.database().published();
            let short = server.rooms.intern().lookup_event(&read, &original);
            let short = short.expect("names can be read").expect("the original is here");
            let row = read.get(&EXPIRY_BY_EVENT, &short).expect("statuses can be read");
            let status = row.map(|row| row.status);
            assert_eq!(status, set.then_some(ExpiryStatus::Expired), "{version} {sender}");
        }
        server.check(&room);
    }
}
