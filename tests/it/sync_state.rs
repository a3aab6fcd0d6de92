//! The state in `GET /sync`: lazily loaded members, `state_after`, full state, filters.

use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::talk::{
    bodies, events, filter, joined, member, members, room, say, set, sync, sync_since, types,
};

/// A room with members beside its creator.
async fn crowd(server: &TestServer, names: &[&str]) -> (User, Vec<User>, ruma::OwnedRoomId) {
    let alice = server.register("alice").await;
    let room_id = room(server, &alice).await;
    let mut others = Vec::new();
    for name in names {
        let user = server.register(name).await;
        member(server, &room_id, &user, &user, "join").await;
        others.push(user);
    }
    (alice, others, room_id)
}

fn lazily(limit: u32, redundant: bool) -> String {
    let state = json!({ "lazy_load_members": true, "include_redundant_members": redundant });
    filter(&json!({ "room": { "timeline": { "limit": limit }, "state": state } }))
}

#[tokio::test]
async fn a_lazy_client_is_told_of_those_who_speak() {
    let server = TestServer::start().await;
    let (alice, others, room_id) = crowd(&server, &["bob", "carol", "dave"]).await;
    set(&server, &room_id, &alice, ("m.room.name", ""), json!({ "name": "a name" })).await;
    say(&server, &room_id, &others[0], "from bob").await;
    let first = sync(&server, &alice, &format!("?{}", lazily(1, false))).await;
    let told = &joined(&first, &room_id)["state"];
    assert_eq!(members(told), ["@alice:localhost", "@bob:localhost"]);
    assert!(types(told).contains(&"m.room.create"), "{told}");

    say(&server, &room_id, &others[1], "from carol").await;
    say(&server, &room_id, &others[0], "from bob again").await;
    let query = format!("&{}", lazily(5, false));
    let second = sync_since(&server, &alice, &first, &query).await;
    assert_eq!(members(&joined(&second, &room_id)["state"]), ["@carol:localhost"]);
    let again = sync_since(&server, &alice, &first, &query).await;
    assert_eq!(members(&joined(&again, &room_id)["state"]), ["@carol:localhost"]);

    say(&server, &room_id, &others[1], "from carol again").await;
    let third = sync_since(&server, &alice, &second, &query).await;
    assert_eq!(bodies(&joined(&third, &room_id)["timeline"]), ["from carol again"]);
    assert_eq!(members(&joined(&third, &room_id)["state"]), [] as [&str; 0]);
    let redundantly = format!("&{}", lazily(5, true));
    let third = sync_since(&server, &alice, &second, &redundantly).await;
    assert_eq!(members(&joined(&third, &room_id)["state"]), ["@carol:localhost"]);
}

#[tokio::test]
async fn a_lazy_client_that_lost_a_response_is_told_again_of_those_it_told_of() {
    let server = TestServer::start().await;
    let (alice, others, room_id) = crowd(&server, &["bob", "carol"]).await;
    set(&server, &room_id, &alice, ("m.room.name", ""), json!({ "name": "a name" })).await;
    let query = lazily(1, false);
    let first = sync(&server, &alice, &format!("?{query}")).await;
    let query = format!("&{query}");
    say(&server, &room_id, &others[0], "from bob").await;
    let lost = sync_since(&server, &alice, &first, &query).await;
    assert_eq!(members(&joined(&lost, &room_id)["state"]), ["@bob:localhost"]);

    say(&server, &room_id, &others[1], "from carol").await;
    let second = sync_since(&server, &alice, &first, &query).await;
    assert_eq!(members(&joined(&second, &room_id)["state"]), ["@carol:localhost"]);
    say(&server, &room_id, &others[0], "from bob again").await;
    let third = sync_since(&server, &alice, &second, &query).await;
    assert_eq!(members(&joined(&third, &room_id)["state"]), ["@bob:localhost"]);

    // Until the client comes back with the token of a response that had them.
    say(&server, &room_id, &others[0], "from bob once more").await;
    let fourth = sync_since(&server, &alice, &third, &query).await;
    assert_eq!(members(&joined(&fourth, &room_id)["state"]), [] as [&str; 0]);
    say(&server, &room_id, &others[0], "from bob at last").await;
    let fifth = sync_since(&server, &alice, &fourth, &query).await;
    assert_eq!(members(&joined(&fifth, &room_id)["state"]), [] as [&str; 0]);
    let back = sync_since(&server, &alice, &second, &query).await;
    assert_eq!(members(&joined(&back, &room_id)["state"]), ["@bob:localhost"]);
}

#[tokio::test]
async fn a_lazy_client_that_begins_anew_is_told_anew() {
    let server = TestServer::start().await;
    let (alice, others, room_id) = crowd(&server, &["bob", "carol"]).await;
    set(&server, &room_id, &alice, ("m.room.name", ""), json!({ "name": "a name" })).await;
    say(&server, &room_id, &others[0], "from bob").await;
    let query = format!("?{}", lazily(1, false));
    sync(&server, &alice, &query).await;
    say(&server, &room_id, &others[1], "from carol").await;
    let anew = sync(&server, &alice, &query).await;
    let told = members(&joined(&anew, &room_id)["state"]);
    assert_eq!(told, ["@alice:localhost", "@carol:localhost"]);
    say(&server, &room_id, &others[0], "from bob").await;
    let later = sync_since(&server, &alice, &anew, &format!("&{}", lazily(5, false))).await;
    assert_eq!(members(&joined(&later, &room_id)["state"]), ["@bob:localhost"]);
}

#[tokio::test]
async fn heroes_come_with_their_member_events() {
    let server = TestServer::start().await;
    let names = ["bob", "carol", "dave", "erin", "frank", "grace"];
    let (alice, _, room_id) = crowd(&server, &names).await;
    let first = sync(&server, &alice, &format!("?{}", lazily(1, false))).await;
    let summary = &joined(&first, &room_id)["summary"];
    let heroes: Vec<String> = names[..5].iter().map(|name| format!("@{name}:localhost")).collect();
    assert_eq!(summary["m.heroes"], json!(heroes));
    assert_eq!(summary["m.joined_member_count"], 7);
    let mut told = members(&joined(&first, &room_id)["state"]);
    told.extend(members(&joined(&first, &room_id)["timeline"]));
    for hero in &heroes {
        assert!(told.contains(&hero.as_str()), "{hero} {told:?}");
    }
}

#[tokio::test]
async fn the_state_after_the_timeline_is_told_under_the_names_that_were_asked_for() {
    let server = TestServer::start().await;
    let (alice, others, room_id) = crowd(&server, &["bob"]).await;
    const UNSTABLE: &str = "org.matrix.msc4222";
    for (query, stable, unstable) in [
        ("use_state_after=true".to_owned(), true, false),
        (format!("{UNSTABLE}.use_state_after=true"), false, true),
        (format!("use_state_after=true&{UNSTABLE}.use_state_after=true"), true, true),
    ] {
        let first = sync(&server, &alice, &format!("?{query}")).await;
        set(&server, &room_id, &alice, ("m.room.topic", ""), json!({ "topic": query })).await;
        say(&server, &room_id, &others[0], "hello").await;
        let second = sync_since(&server, &alice, &first, &format!("&{query}")).await;
        let told = joined(&second, &room_id);
        assert!(told["state"].is_null());
        assert_eq!(types(&told["timeline"]), ["m.room.topic", "m.room.message"]);
        for (name, wanted) in
            [("state_after", stable), (&*format!("{UNSTABLE}.state_after"), unstable)]
        {
            let expected: &[&str] = if wanted { &["m.room.topic"] } else { &[] };
            assert_eq!(types(&told[name]), expected, "{name} {query}");
            assert_eq!(told[name].is_object(), wanted);
        }
    }
}

#[tokio::test]
async fn the_state_after_the_timeline_holds_those_who_speak_in_it() {
    let server = TestServer::start().await;
    let (alice, others, room_id) = crowd(&server, &["bob", "carol"]).await;
    set(&server, &room_id, &alice, ("m.room.name", ""), json!({ "name": "a name" })).await;
    say(&server, &room_id, &others[0], "from bob").await;
    let query = format!("?use_state_after=true&{}", lazily(1, false));
    let first = sync(&server, &alice, &query).await;
    let told = &joined(&first, &room_id)["state_after"];
    assert_eq!(members(told), ["@alice:localhost", "@bob:localhost"]);
    let dave = server.register("dave").await;
    member(&server, &room_id, &dave, &dave, "join").await;
    say(&server, &room_id, &others[1], "from carol").await;
    let query = format!("&use_state_after=true&{}", lazily(5, false));
    let second = sync_since(&server, &alice, &first, &query).await;
    let mut told = members(&joined(&second, &room_id)["state_after"]);
    told.sort_unstable();
    assert_eq!(told, ["@carol:localhost", "@dave:localhost"]);
}

#[tokio::test]
async fn the_full_state_is_told_of_every_room_when_asked_for() {
    let server = TestServer::start().await;
    let (alice, _, room_id) = crowd(&server, &["bob"]).await;
    let first = sync(&server, &alice, "").await;
    let second = sync_since(&server, &alice, &first, "&full_state=true&timeout=30000").await;
    let told = joined(&second, &room_id);
    assert_eq!(members(&told["state"]), ["@alice:localhost", "@bob:localhost"]);
    assert_eq!(events(&told["timeline"]), [] as [Value; 0]);
    assert_eq!(told["timeline"]["limited"], false);
    for field in ["ephemeral", "account_data", "summary", "unread_notifications"] {
        assert!(told[field].is_object(), "{field}");
    }
}

#[tokio::test]
async fn filters_choose_rooms_types_and_senders() {
    let server = TestServer::start().await;
    let (alice, others, room_id) = crowd(&server, &["bob"]).await;
    let other = room(&server, &alice).await;
    say(&server, &room_id, &alice, "from alice").await;
    say(&server, &room_id, &others[0], "from bob").await;
    let get = async |wanted: Value| sync(&server, &alice, &format!("?{}", filter(&wanted))).await;

    let told = get(json!({ "room": { "not_rooms": [other] } })).await;
    assert!(joined(&told, &other).is_null() && joined(&told, &room_id).is_object());
    let told = get(json!({ "room": { "rooms": [other] } })).await;
    assert!(joined(&told, &room_id).is_null() && joined(&told, &other).is_object());
    let told = get(json!({ "room": { "timeline": { "senders": ["@bob:localhost"] } } })).await;
    let senders = events(&joined(&told, &room_id)["timeline"]).iter().map(|e| e["sender"].clone());
    assert!(senders.clone().count() == 2 && senders.clone().all(|s| s == "@bob:localhost"));
    let told =
        get(json!({ "room": { "state": { "types": [] }, "timeline": { "limit": 1 } } })).await;
    assert_eq!(types(&joined(&told, &room_id)["state"]), [] as [&str; 0]);
    assert_eq!(bodies(&joined(&told, &room_id)["timeline"]), ["from bob"]);
    let told = get(json!({ "room": { "timeline": { "limit": 0 } } })).await;
    let timeline = &joined(&told, &room_id)["timeline"];
    assert_eq!((events(timeline).len(), &timeline["limited"]), (0, &json!(true)));
    assert_eq!(timeline["prev_batch"], told["next_batch"]);
    assert_eq!(members(&joined(&told, &room_id)["state"]).len(), 2);
    let told = get(json!({ "account_data": { "not_types": ["m.push_*"] } })).await;
    assert!(told["account_data"].is_null());
}

#[tokio::test]
async fn ignored_users_are_not_heard() {
    let server = TestServer::start().await;
    let (alice, others, room_id) = crowd(&server, &["bob"]).await;
    let elsewhere = room(&server, &others[0]).await;
    let path = "/_matrix/client/v3/user/@alice:localhost/account_data/m.ignored_user_list";
    let list = json!({ "ignored_users": { "@bob:localhost": {} } });
    assert_eq!(server.put(path, &alice.token, list).await.0.as_u16(), 200);
    let first = sync(&server, &alice, "").await;
    member(&server, &elsewhere, &others[0], &alice, "invite").await;
    say(&server, &room_id, &others[0], "not heard").await;
    set(
        &server,
        &room_id,
        &others[0],
        ("m.room.member", "@bob:localhost"),
        json!({ "membership": "join", "displayname": "Bobby" }),
    )
    .await;
    let second = sync_since(&server, &alice, &first, "").await;
    assert!(second["rooms"]["invite"].is_null());
    assert_eq!(types(&joined(&second, &room_id)["timeline"]), ["m.room.member"]);
    assert_eq!(joined(&second, &room_id)["unread_notifications"]["notification_count"], 0);
    assert!(sync(&server, &alice, "").await["rooms"]["invite"].is_null());
}

#[tokio::test]
async fn a_room_that_was_left_for_good_is_told_once_and_not_again_when_forgotten() {
    let server = TestServer::start().await;
    let (alice, others, room_id) = crowd(&server, &["bob"]).await;
    let bob = &others[0];
    let with_left = filter(&json!({ "room": { "include_leave": true } }));
    let first = sync(&server, bob, "").await;
    member(&server, &room_id, bob, bob, "leave").await;
    let path = format!("/_matrix/client/v3/rooms/{room_id}/forget");
    assert_eq!(server.post(&path, &bob.token, json!({})).await.0.as_u16(), 200);
    let second = sync_since(&server, bob, &first, "").await;
    assert!(second["rooms"]["leave"][room_id.as_str()].is_object());
    assert!(sync(&server, bob, &format!("?{with_left}")).await["rooms"].is_null());
    say(&server, &room_id, &alice, "alone").await;
    assert!(sync_since(&server, bob, &second, &format!("&{with_left}")).await["rooms"].is_null());
}

#[tokio::test]
async fn a_room_that_was_joined_and_left_between_two_syncs_comes_with_what_was_seen_in_it() {
    let server = TestServer::start().await;
    let (alice, _, room_id) = crowd(&server, &[]).await;
    let bob = server.register("bob").await;
    let first = sync(&server, &bob, "").await;
    member(&server, &room_id, &bob, &bob, "join").await;
    say(&server, &room_id, &alice, "seen").await;
    member(&server, &room_id, &bob, &bob, "leave").await;
    say(&server, &room_id, &alice, "not seen").await;
    let second = sync_since(&server, &bob, &first, "").await;
    let left = &second["rooms"]["leave"][room_id.as_str()];
    assert_eq!(bodies(&left["timeline"]), ["seen"]);
    member(&server, &room_id, &bob, &bob, "join").await;
    let third = sync_since(&server, &bob, &first, "").await;
    assert!(third["rooms"]["leave"].is_null());
    assert!(joined(&third, &room_id).is_object());
}

#[tokio::test]
async fn an_own_leave_is_seen_whatever_the_history_visibility() {
    let server = TestServer::start().await;
    let (alice, others, room_id) = crowd(&server, &["bob"]).await;
    let visibility = json!({ "history_visibility": "joined" });
    set(&server, &room_id, &alice, ("m.room.history_visibility", ""), visibility).await;
    let first = sync(&server, &others[0], "").await;
    member(&server, &room_id, &others[0], &others[0], "leave").await;
    let second = sync_since(&server, &others[0], &first, "").await;
    let left = &second["rooms"]["leave"][room_id.as_str()];
    assert_eq!(members(&left["timeline"]), ["@bob:localhost"]);
    assert_eq!(events(&left["state"]), [] as [Value; 0]);
}

#[tokio::test]
async fn a_knock_is_told_to_the_one_who_knocks() {
    let server = TestServer::start().await;
    let (alice, _, room_id) = crowd(&server, &[]).await;
    set(&server, &room_id, &alice, ("m.room.join_rules", ""), json!({ "join_rule": "knock" }))
        .await;
    let bob = server.register("bob").await;
    let first = sync(&server, &bob, "").await;
    member(&server, &room_id, &bob, &bob, "knock").await;
    let second = sync_since(&server, &bob, &first, "").await;
    let told = &second["rooms"]["knock"][room_id.as_str()]["knock_state"];
    assert_eq!(members(told), ["@bob:localhost"]);
    assert!(types(told).contains(&"m.room.create"));
}
