//! A policy server that has no answer for some time: what waits for it, and for how long.

use std::time::Duration;

use serde_json::{Value, json};
use wick_core::Clock;
use wick_database::{
    Range, Read,
    schema::{
        inbound::{QUEUED_BY_ROOM, QueuedEvent},
        users::POSTPONED_BY_MEMBER,
    },
};
use wick_harness::User;

use super::{Break, Does, Policed, Refuse, Rooms, Sign, V3};
use crate::{
    federation::{rooms::BOB, waiting::until},
    talk,
};

const PASSWORD: &str = "correct horse battery staple";

/// Breaks for leaves alone.
fn break_leaves(event: &Value) -> Does {
    if event["content"]["membership"] == "leave" { Break } else { Sign }
}

impl Policed {
    /// The content of a user's member event.
    async fn member(&self, user: &User) -> Value {
        let Rooms { server, alice, .. } = &self.rooms;
        let path = format!("{V3}/rooms/{}/state/m.room.member/{}", self.room, user.user_id);
        let (status, body) = server.get(&path, &alice.token).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// How many member events wait for the policy server.
    fn postponed(&self) -> usize {
        let read = self.rooms.server.services().database.latest();
        read.scan(&POSTPONED_BY_MEMBER, Range::all()).count()
    }

    /// The events of other servers that wait.
    fn queued(&self) -> Vec<QueuedEvent> {
        let read = self.rooms.server.services().database.latest();
        read.scan(&QUEUED_BY_ROOM, Range::all()).map(|row| row.unwrap().1).collect()
    }

    async fn joined(&self, name: &str) -> User {
        let user = self.rooms.server.register(name).await;
        talk::member(&self.rooms.server, &self.room, &user, &user, "join").await;
        user
    }

    async fn rename(&self, user: &User, name: &str) {
        let path = format!("{V3}/profile/{}/displayname", user.user_id);
        let body = json!({ "displayname": name });
        assert_eq!(self.rooms.server.put(&path, &user.token, body).await.0, 200);
    }

    async fn deactivate(&self, user: &User) {
        let body = json!({ "auth": {
            "type": "m.login.password", "password": PASSWORD,
            "identifier": { "type": "m.id.user", "user": user.user_id },
        } });
        let path = format!("{V3}/account/deactivate");
        let (status, body) = self.rooms.server.post(&path, &user.token, body).await;
        assert_eq!(status, 200, "{body}");
    }
}

#[tokio::test]
async fn a_new_name_reaches_a_room_once_its_policy_server_answers_again_also_after_a_crash() {
    let mut policed = Policed::start().await;
    let carol = policed.joined("carol").await;
    policed.policy.set(|_| Break);
    policed.rename(&carol, "Carol").await;
    assert_eq!(policed.member(&carol).await["displayname"], "carol");
    assert_eq!(policed.postponed(), 1);
    policed.rooms.server.crash().await;
    policed.policy.set(|_| Sign);
    policed.until(async || policed.member(&carol).await["displayname"] == "Carol").await;
    assert_eq!(policed.postponed(), 0);
    policed.assert_sound();
}

#[tokio::test]
async fn a_deactivated_user_leaves_a_room_once_its_policy_server_answers_again() {
    let mut policed = Policed::start().await;
    let carol = policed.joined("carol").await;
    policed.policy.set(|_| Break);
    policed.deactivate(&carol).await;
    assert_eq!(policed.member(&carol).await["membership"], "join");
    assert_eq!(policed.postponed(), 1);
    policed.rooms.server.crash().await;
    policed.policy.set(|_| Sign);
    policed.until(async || policed.member(&carol).await["membership"] == "leave").await;
    assert_eq!(policed.postponed(), 0);
    policed.assert_sound();
}

#[tokio::test]
async fn guests_leave_a_closed_room_once_its_policy_server_answers_again() {
    let mut policed = Policed::start().await;
    policed.rooms.server.restart_with(|config| config.registration.guests = true).await;
    let guest = policed.rooms.server.register_guest().await;
    let access = "m.room.guest_access";
    policed.rooms.set(&policed.room, access, json!({ "guest_access": "can_join" })).await;
    talk::member(&policed.rooms.server, &policed.room, &guest, &guest, "join").await;
    policed.policy.set(break_leaves);
    policed.rooms.set(&policed.room, access, json!({ "guest_access": "forbidden" })).await;
    policed.until(async || policed.postponed() == 1).await;
    assert_eq!(policed.member(&guest).await["membership"], "join");
    policed.rooms.server.crash().await;
    policed.policy.set(|_| Sign);
    policed.until(async || policed.member(&guest).await["membership"] == "leave").await;
    assert_eq!(policed.postponed(), 0);
    policed.assert_sound();
}

#[tokio::test]
async fn a_member_event_that_is_refused_after_an_outage_is_not_tried_again() {
    let policed = Policed::start().await;
    let carol = policed.joined("carol").await;
    policed.policy.set(|_| Break);
    policed.rename(&carol, "Carol").await;
    policed.policy.set(|_| Refuse);
    policed.until(async || policed.postponed() == 0).await;
    assert_eq!(policed.member(&carol).await["displayname"], "carol");
    // One that was changed back has nothing to wait for.
    policed.policy.set(|_| Break);
    policed.rename(&carol, "Carola").await;
    policed.rename(&carol, "carol").await;
    assert_eq!(policed.postponed(), 0);
    policed.assert_sound();
}

#[tokio::test]
async fn after_a_long_outage_a_room_is_open_within_a_minute() {
    let policed = Policed::start().await;
    let clock = &policed.rooms.server.clock;
    policed.policy.set(|_| Break);
    policed.policy.asked();
    for minute in 0..60 {
        assert_eq!(policed.say(&format!("lost-{minute}")).await.0, 502);
        clock.advance(Duration::from_secs(60)).await;
    }
    let asked = policed.policy.asked().len();
    assert!((50..=60).contains(&asked), "{asked}");
    // It is asked once in that time, however much is sent.
    for number in 0..20 {
        assert_eq!(policed.say(&format!("lost-again-{number}")).await.0, 502);
    }
    assert_eq!(policed.policy.asked().len(), 1);
    // Nothing else that the same server is asked for waits.
    let federation = &policed.rooms.server.services().federated().unwrap().federation;
    assert_eq!(federation.retry_at(&policed.rooms.peer.name).unwrap(), None);
    policed.policy.set(|_| Sign);
    assert_eq!(policed.say("too-early").await.0, 502);
    clock.advance(Duration::from_secs(60)).await;
    assert_eq!(policed.say("back").await.0, 200);
    policed.assert_sound();
}

#[tokio::test]
async fn events_of_other_servers_are_tried_again_each_minute_of_a_long_outage_and_in_their_order() {
    let policed = Policed::start().await;
    policed.policy.set(|_| Break);
    let message = |body: &str, prev: Option<&str>| {
        let content = json!({ "msgtype": "m.text", "body": body });
        let mut draft = policed.rooms.draft(&policed.room, (BOB, "m.room.message", None), content);
        if let Some(prev) = prev {
            draft["prev_events"] = json!([prev]);
        }
        policed.rooms.signed("11", draft)
    };
    let (id, first) = message("first", None);
    let (_, second) = message("second", Some(id.as_str()));
    policed.receive("1", &[first]).await;
    policed.receive("2", &[second]).await;
    let clock = &policed.rooms.server.clock;
    for minute in 1..=30 {
        clock.advance(Duration::from_secs(60)).await;
        until(|| policed.queued().iter().all(|event| event.unanswered >= minute)).await;
    }
    for event in policed.queued() {
        assert!(event.retry_at.since(clock.now()) <= Duration::from_secs(60), "{event:?}");
        assert!(event.attempts <= 1, "{event:?}");
    }
    policed.policy.set(|_| Sign);
    policed.until(async || policed.texts().await == ["before", "first", "second"]).await;
    // An event is shown before its row is gone.
    until(|| policed.queued().is_empty()).await;
    policed.assert_sound();
}
