//! Delayed state, redactions, memberships and ciphertext: what they do to the room when they are sent.

use serde_json::json;
use wick_room::invariants;

use super::later::{ACTIONS, By, CONFLICT, FORMS, Later, delay_id, ok};
use crate::expiry::call::{Call, errcode, seconds};

#[tokio::test]
async fn row_25_state_that_says_what_is_the_case_already_counts_as_sent() {
    let call = Call::new().await;
    let set = call.set(&call.alice, "seat", json!({ "body": "same" })).await.1;
    let before = call.timeline().len();
    let same = json!({ "body": "same" });
    let due = call.put_off(&Later { content: same.clone(), ..Later::state("seat", "t") }).await;
    let by_hand = call.put_off(&Later { content: same, ..Later::state("seat", "t") }).await;
    ok(&call.act(&by_hand, "send").await);
    call.server.clock.advance(seconds(10)).await;
    for id in [due, by_hand] {
        let seen = call.until_over(&id).await;
        assert_eq!(seen["event_id"], set["event_id"]);
        assert!(seen.get("error").is_none());
        ok(&call.act(&id, "send").await);
        assert_eq!(errcode(&call.act(&id, "cancel").await), CONFLICT);
        assert_eq!(errcode(&call.act(&id, "restart").await), (404, "M_NOT_FOUND"));
    }
    assert_eq!(call.timeline().len(), before);
    assert_eq!(call.running(), 0);
    let read = call.server.services().database.published();
    assert_eq!(invariants::check(&read).unwrap(), []);
}

#[tokio::test]
async fn row_25_a_membership_that_is_the_case_already_counts_as_sent() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let content = json!({ "membership": "leave" });
    let later = Later::state(bob.user_id.as_str(), "t").of_type("m.room.member", content);
    let id = delay_id(&call.later(&bob, By::Path, &later).await);
    assert_eq!(call.post(&bob, "leave", json!({})).await.0, 200);
    let left = call.state("m.room.member", bob.user_id.as_str());
    call.server.clock.advance(seconds(10)).await;
    ok(&call.act(&id, "send").await);
    let seen = call.seen(&bob, &id).await.1;
    assert_eq!(seen["event_id"].as_str(), left.as_deref());
    assert_eq!(call.state("m.room.member", bob.user_id.as_str()), left);
}

#[tokio::test]
async fn row_26_newer_state_changes_nothing() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    call.put_off(&Later::state("seat", "alice")).await;
    delay_id(&call.later(&bob, By::Path, &Later::state("seat", "bob")).await);
    for user in [&call.alice, &bob] {
        let body = json!({ "body": user.user_id });
        assert_eq!(call.set(user, "seat", body).await.0, 200);
    }
    assert_eq!(call.running(), 2);
    call.server.clock.advance(seconds(10)).await;
    call.until_said("alice").await;
    call.until_said("bob").await;
}

#[tokio::test]
async fn row_26_where_it_is_set_up_so_newer_state_of_another_user_takes_back_the_pending_ones() {
    let call = Call::with(|config| config.delayed_events.cancel_superseded = true).await;
    let bob = call.join("bob").await;
    let mut theirs = Vec::new();
    for by in FORMS {
        let name = format!("{by:?}");
        theirs.push(delay_id(&call.later(&call.alice, by, &Later::state("seat", &name)).await));
    }
    let other = call.put_off(&Later::state("other", "other")).await;
    let message = call.delay("message").await;
    let bobs = delay_id(&call.later(&bob, By::Query, &Later::state("seat", "bobs")).await);

    // Their own state takes back nothing, and neither does a refused one.
    assert_eq!(call.set(&call.alice, "other", json!({ "body": "alice's" })).await.0, 200);
    let mallory = call.server.register("mallory").await;
    assert_eq!(call.set(&mallory, "seat", json!({})).await.0, 403);
    assert_eq!(call.running(), 6);

    assert_eq!(call.set(&bob, "seat", json!({ "body": "bob's" })).await.0, 200);
    assert_eq!(call.running(), 3);
    for id in &theirs {
        for action in ACTIONS {
            assert_eq!(errcode(&call.act(id, action).await), (404, "M_NOT_FOUND"));
        }
        assert_eq!(errcode(&call.seen(&call.alice, id).await), (404, "M_NOT_FOUND"));
    }
    assert_eq!(call.listed(&call.alice).await, [other, message]);
    assert_eq!(call.listed(&bob).await, [bobs]);
    let read = call.server.services().database.published();
    assert_eq!(invariants::check(&read).unwrap(), []);
    call.server.clock.advance(seconds(10)).await;
    for said in ["other", "message", "bobs"] {
        call.until_said(said).await;
    }
    assert!(FORMS.iter().all(|by| call.saying(&format!("{by:?}")).is_empty()));
}

#[tokio::test]
async fn row_26_a_delayed_state_event_takes_back_those_of_others_as_well() {
    let call = Call::with(|config| config.delayed_events.cancel_superseded = true).await;
    let bob = call.join("bob").await;
    let alices = call.put_off(&Later::state("seat", "alice").after(&seconds(20))).await;
    let later = Later::state("seat", "bob");
    delay_id(&call.later(&bob, By::Path, &later).await);
    // In one batch with it.
    let also = call.put_off(&Later::state("seat", "alice-too")).await;
    call.server.clock.advance(seconds(10)).await;
    call.until_said("bob").await;
    call.server.clock.advance(seconds(10)).await;
    for id in [alices, also] {
        assert_eq!(errcode(&call.seen(&call.alice, &id).await), (404, "M_NOT_FOUND"));
    }
    assert_eq!(call.running(), 0);
    assert_eq!(call.said(), ["bob"]);
    let read = call.server.services().database.published();
    assert_eq!(invariants::check(&read).unwrap(), []);
}

#[tokio::test]
async fn row_27_a_delayed_redaction_redacts_when_it_is_sent() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    for by in FORMS {
        let name = format!("{by:?}");
        let said = call.send(&call.alice, &name, json!({ "body": name })).await.1;
        let content = json!({ "redacts": said["event_id"], "reason": "later" });
        let redaction = Later::message(&name).of_type("m.room.redaction", content);
        let id = delay_id(&call.later(&call.alice, by, &redaction).await);
        // Another user's, who may not.
        let refused = delay_id(&call.later(&bob, by, &redaction).await);
        assert_eq!(errcode(&call.act(&refused, "send").await), (403, "M_FORBIDDEN"));
        assert_eq!(call.saying(&name).len(), 1);
        call.server.clock.advance(seconds(10)).await;
        let event = said["event_id"].as_str().unwrap();
        let redacted = || call.event(event)["unsigned"]["redacted_because"].is_object();
        call.until_so(|| format!("{event} is never redacted"), redacted).await;
        assert_eq!(call.event(event)["content"], json!({}));
        assert_eq!(call.until_over(&id).await["error"], json!(null));
        let seen = call.until_over_of(&bob, &refused).await;
        assert_eq!(seen["error"]["errcode"], "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn row_27_a_delayed_membership_is_that_of_the_moment_in_which_it_is_sent() {
    let call = Call::new().await;
    for by in FORMS {
        let name = format!("{by:?}").to_lowercase();
        let bob = call.join(&name).await;
        let leave = json!({ "membership": "leave", "reason": "gone" });
        let key = bob.user_id.as_str();
        let later = Later::state(key, "t").of_type("m.room.member", leave.clone());
        let id = delay_id(&call.later(&bob, by, &later).await);
        let message = Later::message(&name).after(&seconds(20));
        delay_id(&call.later(&bob, by, &message).await);
        call.server.clock.advance(seconds(10)).await;
        let left = || {
            let event = call.state("m.room.member", key).unwrap();
            call.event(&event)["content"]["membership"] == "leave"
        };
        call.until_so(|| format!("{name} never leaves"), left).await;
        let (_, rooms) = call.server.get("/_matrix/client/v3/joined_rooms", &bob.token).await;
        assert_eq!(rooms["joined_rooms"], json!([]));
        let event = call.event(&call.state("m.room.member", key).unwrap());
        assert_eq!(event["content"]["reason"], "gone");
        assert_eq!(call.seen(&bob, &id).await.1["event_id"], event["event_id"]);
        call.server.clock.advance(seconds(10)).await;
        assert!(call.saying(&name).is_empty(), "a user who has left cannot send");
    }
}

#[tokio::test]
async fn row_27_an_encrypted_event_is_sent_as_it_is() {
    let call = Call::new().await;
    let root = call.send(&call.alice, "root", json!({ "body": "root" })).await.1;
    for by in FORMS {
        let name = format!("{by:?}");
        let content = json!({
            "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgAEnAC+/=", "session_id": name,
            "m.relates_to": { "rel_type": "m.thread", "event_id": root["event_id"] },
        });
        let later = Later::message(&name).of_type("m.room.encrypted", content.clone());
        let id = delay_id(&call.later(&call.alice, by, &later).await);
        ok(&call.act(&id, "send").await);
        let sent = call.until_over(&id).await["event_id"].as_str().unwrap().to_owned();
        let sent = call.event(&sent);
        assert_eq!(sent["type"], "m.room.encrypted");
        assert_eq!(sent["content"], content);
    }
    let root = call.event(root["event_id"].as_str().unwrap());
    assert_eq!(root["unsigned"]["m.relations"]["m.thread"]["count"], 3);
}

#[tokio::test]
async fn the_upgrade_of_a_room_leaves_what_is_scheduled_in_it_alone() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    let alices = call.delay("alice's").await;
    let bobs = delay_id(&call.later(&bob, By::Path, &Later::message("bob's")).await);
    let upgraded = call.post(&call.alice, "upgrade", json!({ "new_version": "11" })).await;
    assert_eq!(upgraded.0, 200, "{}", upgraded.1);
    assert_eq!(call.listed(&call.alice).await, [alices.as_str()]);
    ok(&call.act(&bobs, "restart").await);
    call.server.clock.advance(seconds(10)).await;
    // In the old room, and by its rules: only its administrators still speak there.
    call.until_said("alice's").await;
    assert_eq!(call.until_over(&alices).await["room_id"], json!(call.room));
    assert_eq!(call.seen(&bob, &bobs).await.1["error"]["errcode"], "M_FORBIDDEN");
    assert_eq!(call.running(), 0);
}
