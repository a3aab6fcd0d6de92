//! `changed` and `left` of device lists, in `/sync` and `/keys/changes`.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use http::StatusCode;
use serde_json::{Value, json};
use wick_database::Watch;
use wick_harness::{TestServer, User};
use wick_room::shared_rooms::FEW_ROOMS;

use super::signer::{Signer, keys, upload, upload_device_keys};

const V3: &str = "/_matrix/client/v3";

/// A client that syncs.
struct Client {
    user: User,
    since: String,
    filter: &'static str,
}

/// Users in the sync's and the other's answer: changed and left.
type Lists = (Vec<String>, Vec<String>);

fn lists(body: &Value) -> Lists {
    let users = |field: &str| {
        let users = body[field].as_array().unwrap_or_else(|| panic!("{field}: {body}"));
        let mut users: Vec<_> =
            users.iter().map(|user| user.as_str().unwrap().to_owned()).collect();
        users.sort();
        users
    };
    (users("changed"), users("left"))
}

fn of(changed: &[&User], left: &[&User]) -> Lists {
    let ids = |users: &[&User]| {
        let mut ids: Vec<_> = users.iter().map(|user| user.user_id.to_string()).collect();
        ids.sort();
        ids
    };
    (ids(changed), ids(left))
}

impl Client {
    async fn new(server: &TestServer, user: &User) -> Self {
        Self::with_filter(server, user, "{}").await
    }

    async fn with_filter(server: &TestServer, user: &User, filter: &'static str) -> Self {
        let mut client = Self { user: user.clone(), since: String::new(), filter };
        let body = client.sync(server, 0).await;
        assert_eq!(lists(&body["device_lists"]), of(&[], &[]), "without since");
        client
    }

    async fn sync(&mut self, server: &TestServer, timeout: u64) -> Value {
        let since = match &*self.since {
            "" => String::new(),
            since => format!("&since={since}"),
        };
        let encode =
            |text: String, sign: char| text.replace(sign, &format!("%{:02X}", u32::from(sign)));
        let filter = r#"{}[]""#.chars().fold(self.filter.to_owned(), encode);
        let path = format!("{V3}/sync?timeout={timeout}&filter={filter}{since}");
        let (status, body) = server.get(&path, &self.user.token).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        self.since = body["next_batch"].as_str().unwrap().to_owned();
        body
    }

    /// The lists of the next sync, which `/keys/changes` has too.
    async fn lists(&mut self, server: &TestServer) -> Lists {
        let from = self.since.clone();
        let body = self.sync(server, 0).await;
        let told = lists(&body["device_lists"]);
        let path = format!("{V3}/keys/changes?from={from}&to={}", self.since);
        let (status, body) = server.get(&path, &self.user.token).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(lists(&body), told, "/keys/changes differs from /sync");
        told
    }
}

async fn room(server: &TestServer, creator: &User, body: Value) -> String {
    let (status, body) = server.post(&format!("{V3}/createRoom"), &creator.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["room_id"].as_str().unwrap().to_owned()
}

async fn public_room(server: &TestServer, creator: &User) -> String {
    room(server, creator, json!({ "preset": "public_chat" })).await
}

async fn act(server: &TestServer, user: &User, action: &str, room: &str) {
    let path = format!("{V3}/rooms/{room}/{action}");
    let (status, body) = server.post(&path, &user.token, json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

async fn users<const COUNT: usize>(server: &TestServer, names: [&str; COUNT]) -> [User; COUNT] {
    let mut users = Vec::new();
    for name in names {
        users.push(server.register(name).await);
    }
    users.try_into().unwrap()
}

#[tokio::test]
async fn a_change_is_told_to_those_who_share_a_room_and_to_the_user_and_to_nobody_else() {
    let server = TestServer::start().await;
    let [alice, bob, carol] = users(&server, ["alice", "bob", "carol"]).await;
    let room = public_room(&server, &alice).await;
    act(&server, &bob, "join", &room).await;
    let mut clients = Vec::new();
    for user in [&alice, &bob, &carol] {
        clients.push(Client::new(&server, user).await);
    }
    let signer = upload_device_keys(&server, &bob).await;
    for (client, changed) in clients.iter_mut().zip([vec![&bob], vec![&bob], vec![]]) {
        assert_eq!(client.lists(&server).await, of(&changed, &[]));
        assert_eq!(client.lists(&server).await, of(&[], &[]), "once");
    }
    // The same keys again, and one-time keys, change nothing that others see.
    let keys = json!({ "device_keys": signer.device_keys(&bob), "one_time_keys": keys(0..3) });
    upload(&server, &bob, keys).await;
    let name = format!("{V3}/devices/{}", bob.device_id);
    for client in &mut clients {
        assert_eq!(client.lists(&server).await, of(&[], &[]));
    }
    server.put(&name, &bob.token, json!({ "display_name": "a phone" })).await;
    for (client, changed) in clients.iter_mut().zip([vec![&bob], vec![&bob], vec![]]) {
        assert_eq!(client.lists(&server).await, of(&changed, &[]));
    }
}

#[tokio::test]
async fn the_end_of_a_device_is_told_however_it_ends() {
    let server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    let room = public_room(&server, &alice).await;
    act(&server, &bob, "join", &room).await;
    let mut client = Client::new(&server, &alice).await;
    let auth = json!({
        "type": "m.login.password", "password": "correct horse battery staple",
        "identifier": { "type": "m.id.user", "user": "bob" },
    });
    for end in ["logout", "delete_devices", "account/password", "logout/all"] {
        let other = server.log_in(&bob).await;
        let without_keys = server.log_in(&bob).await;
        upload_device_keys(&server, &other).await;
        client.lists(&server).await;
        server.post(&format!("{V3}/logout"), &without_keys.token, json!({})).await;
        assert_eq!(client.lists(&server).await, of(&[], &[]), "it had no keys");
        let token = if end == "logout" { &other.token } else { &bob.token };
        let body = json!({
            "devices": [other.device_id], "auth": auth,
            "new_password": "correct horse battery staple",
        });
        let (status, body) = server.post(&format!("{V3}/{end}"), token, body).await;
        assert_eq!(status, StatusCode::OK, "{end}: {body}");
        assert_eq!(client.lists(&server).await, of(&[&bob], &[]), "{end}");
    }
}

#[tokio::test]
async fn who_joins_is_new_and_who_leaves_the_last_shared_room_is_left() {
    for filter in [
        "{}",
        r#"{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":1}}}"#,
        r#"{"room":{"rooms":[]}}"#,
    ] {
        let server = TestServer::start().await;
        let [alice, bob] = users(&server, ["alice", "bob"]).await;
        upload_device_keys(&server, &bob).await;
        let (one, two) = (public_room(&server, &alice).await, public_room(&server, &alice).await);
        let mut client = Client::with_filter(&server, &alice, filter).await;
        act(&server, &bob, "join", &one).await;
        assert_eq!(client.lists(&server).await, of(&[&bob], &[]), "{filter}");
        act(&server, &bob, "join", &two).await;
        assert_eq!(client.lists(&server).await, of(&[], &[]), "{filter}: known already");
        act(&server, &bob, "leave", &one).await;
        assert_eq!(client.lists(&server).await, of(&[], &[]), "{filter}: one room is left");
        upload_device_keys(&server, &bob).await;
        assert_eq!(client.lists(&server).await, of(&[&bob], &[]), "{filter}");
        act(&server, &bob, "leave", &two).await;
        assert_eq!(client.lists(&server).await, of(&[], &[&bob]), "{filter}");
        upload_device_keys(&server, &bob).await;
        assert_eq!(client.lists(&server).await, of(&[], &[]), "{filter}: a stranger by now");
        act(&server, &bob, "join", &two).await;
        assert_eq!(client.lists(&server).await, of(&[&bob], &[]), "{filter}: again");
    }
}

#[tokio::test]
async fn who_joins_a_room_meets_its_members_and_who_leaves_it_loses_them() {
    let server = TestServer::start().await;
    let [alice, bob, carol, dave] = users(&server, ["alice", "bob", "carol", "dave"]).await;
    let one = public_room(&server, &bob).await;
    act(&server, &carol, "join", &one).await;
    let two = public_room(&server, &carol).await;
    act(&server, &alice, "join", &two).await;
    let mut client = Client::new(&server, &alice).await;
    act(&server, &alice, "join", &one).await;
    assert_eq!(client.lists(&server).await, of(&[&bob], &[]), "carol is known already");
    act(&server, &alice, "leave", &one).await;
    // A user who joins afterwards is not in her lists.
    act(&server, &dave, "join", &one).await;
    assert_eq!(client.lists(&server).await, of(&[], &[&bob]));
    act(&server, &alice, "leave", &two).await;
    assert_eq!(client.lists(&server).await, of(&[], &[&carol]));
}

#[tokio::test]
async fn between_two_syncs_only_the_outcome_counts() {
    let server = TestServer::start().await;
    let [alice, bob, carol] = users(&server, ["alice", "bob", "carol"]).await;
    let room = public_room(&server, &alice).await;
    act(&server, &bob, "join", &room).await;
    let mut client = Client::new(&server, &alice).await;
    // He is gone when his keys change, and back again.
    act(&server, &bob, "leave", &room).await;
    upload_device_keys(&server, &bob).await;
    act(&server, &bob, "join", &room).await;
    assert_eq!(client.lists(&server).await, of(&[&bob], &[]));
    // The same while she is gone.
    act(&server, &alice, "leave", &room).await;
    upload_device_keys(&server, &bob).await;
    act(&server, &alice, "join", &room).await;
    assert_eq!(client.lists(&server).await, of(&[&bob], &[]));
    // A user joins and leaves.
    act(&server, &carol, "join", &room).await;
    act(&server, &carol, "leave", &room).await;
    assert_eq!(client.lists(&server).await, of(&[], &[]));
    // Both leave, he first: he is in no list of the room's members any more.
    act(&server, &bob, "leave", &room).await;
    act(&server, &alice, "leave", &room).await;
    assert_eq!(client.lists(&server).await, of(&[], &[&bob]));
    // She comes and goes, and shares nothing in the end.
    act(&server, &bob, "join", &room).await;
    act(&server, &alice, "join", &room).await;
    act(&server, &alice, "leave", &room).await;
    assert_eq!(client.lists(&server).await, of(&[], &[]));
    // He has another room with her before she has left the first.
    act(&server, &alice, "join", &room).await;
    client.lists(&server).await;
    let other = public_room(&server, &alice).await;
    act(&server, &bob, "join", &other).await;
    act(&server, &alice, "leave", &room).await;
    assert_eq!(client.lists(&server).await.1, of(&[], &[]).1);
}

#[tokio::test]
async fn an_invitation_and_its_rejection_tell_nothing_of_the_members() {
    let server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    let encryption = json!([{
        "type": "m.room.encryption", "state_key": "",
        "content": { "algorithm": "m.megolm.v1.aes-sha2" },
    }]);
    let body = json!({ "invite": [alice.user_id], "initial_state": encryption });
    let mut client = Client::new(&server, &alice).await;
    let room = room(&server, &bob, body).await;
    upload_device_keys(&server, &bob).await;
    assert_eq!(client.lists(&server).await, of(&[], &[]));
    act(&server, &alice, "leave", &room).await;
    upload_device_keys(&server, &bob).await;
    assert_eq!(client.lists(&server).await, of(&[], &[]));
}

#[tokio::test]
async fn who_is_banned_or_kicked_is_left_and_learns_nothing_more() {
    let server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    for action in ["kick", "ban"] {
        let room = public_room(&server, &alice).await;
        act(&server, &bob, "join", &room).await;
        let (mut hers, mut his) =
            (Client::new(&server, &alice).await, Client::new(&server, &bob).await);
        let path = format!("{V3}/rooms/{room}/{action}");
        let body = json!({ "user_id": bob.user_id });
        assert_eq!(server.post(&path, &alice.token, body).await.0, StatusCode::OK);
        upload_device_keys(&server, &alice).await;
        upload_device_keys(&server, &bob).await;
        assert_eq!(hers.lists(&server).await, of(&[&alice], &[&bob]), "{action}");
        assert_eq!(his.lists(&server).await, of(&[&bob], &[&alice]), "{action}");
    }
}

#[tokio::test]
async fn nothing_is_missed_when_encryption_is_switched_on_later() {
    let server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    let room = public_room(&server, &alice).await;
    let mut client = Client::new(&server, &alice).await;
    act(&server, &bob, "join", &room).await;
    assert_eq!(client.lists(&server).await, of(&[&bob], &[]));
    upload_device_keys(&server, &bob).await;
    assert_eq!(client.lists(&server).await, of(&[&bob], &[]));
    let path = format!("{V3}/rooms/{room}/state/m.room.encryption");
    let content = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    assert_eq!(server.put(&path, &alice.token, content).await.0, StatusCode::OK);
    assert_eq!(client.lists(&server).await, of(&[], &[]));
    upload_device_keys(&server, &bob).await;
    assert_eq!(client.lists(&server).await, of(&[&bob], &[]));
}

#[tokio::test]
async fn a_new_display_name_in_a_room_is_no_news_of_devices() {
    let server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    let room = public_room(&server, &alice).await;
    act(&server, &bob, "join", &room).await;
    let mut client = Client::new(&server, &alice).await;
    let path = format!("{V3}/rooms/{room}/state/m.room.member/{}", bob.user_id);
    let content = json!({ "membership": "join", "displayname": "Bobby" });
    assert_eq!(server.put(&path, &bob.token, content).await.0, StatusCode::OK);
    assert_eq!(client.lists(&server).await, of(&[], &[]));
}

#[tokio::test]
async fn a_waiting_sync_is_told_of_changed_keys_at_once() {
    let server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    let room = public_room(&server, &alice).await;
    act(&server, &bob, "join", &room).await;
    let mut client = Client::new(&server, &alice).await;
    let waiting = client.sync(&server, 30_000);
    let change = upload_device_keys(&server, &bob);
    let both = async { tokio::join!(waiting, change) };
    let (body, _) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(lists(&body["device_lists"]), of(&[&bob], &[]));
}

/// Whether the wait for a topic is over.
fn is_woken(watch: &mut Watch) -> bool {
    pin!(watch.changed()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[tokio::test]
async fn a_change_of_devices_wakes_the_rooms_of_its_user_and_writes_in_none() {
    let server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    let room_id = server.room(&bob, "shared").await.id.clone();
    act(&server, &alice, "join", room_id.as_str()).await;
    let (database, graph) = (&server.services().database, &server.services().graph);
    let room = graph.short(&database.published(), &room_id).unwrap().unwrap();
    let (mut watch, since) = (database.watch().room(room), database.position());
    upload_device_keys(&server, &bob).await;
    assert!(is_woken(&mut watch));
    assert!(!database.is_busy_since(room, since), "syncs would look into the room");
}

#[tokio::test]
async fn a_change_of_devices_is_told_whether_its_user_is_in_few_or_in_very_many_rooms() {
    let server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    let room_id = server.room(&bob, "shared").await.id.clone();
    act(&server, &alice, "join", room_id.as_str()).await;
    for _ in 1..FEW_ROOMS {
        server.room(&bob, "shared").await;
    }
    let (database, graph) = (&server.services().database, &server.services().graph);
    let room = graph.short(&database.published(), &room_id).unwrap().unwrap();
    for in_many in [false, true] {
        if in_many {
            server.room(&bob, "shared").await;
        }
        let mut client = Client::new(&server, &alice).await;
        let mut watch = database.watch().room(room);
        let waiting = client.sync(&server, 30_000);
        let change = upload_device_keys(&server, &bob);
        let both = async { tokio::join!(waiting, change) };
        let (body, _) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        assert_eq!(lists(&body["device_lists"]), of(&[&bob], &[]));
        assert_eq!(is_woken(&mut watch), !in_many, "each room is woken");
    }
}

#[tokio::test]
async fn a_verification_of_another_is_told_to_the_other_devices_of_the_signer_alone() {
    let server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    let room = public_room(&server, &alice).await;
    act(&server, &bob, "join", &room).await;
    let other = server.log_in(&alice).await;
    let (mut hers, mut his) =
        (Client::new(&server, &other).await, Client::new(&server, &bob).await);
    let [master, user_signing, bobs] = [(); 3].map(|()| Signer::of_user());
    let path = format!("{V3}/keys/device_signing/upload");
    let bobs_key = bobs.cross_signing_key(&bob, "master");
    let body = json!({ "master_key": bobs_key });
    assert_eq!(server.post(&path, &bob.token, body).await.0, StatusCode::OK);
    let body = json!({ "master_key": master.cross_signing_key(&alice, "master") });
    assert_eq!(server.post(&path, &alice.token, body).await.0, StatusCode::OK);
    assert_eq!(hers.lists(&server).await, of(&[&alice, &bob], &[]));
    assert_eq!(his.lists(&server).await, of(&[&alice, &bob], &[]));
    let key = master.sign(&alice, &user_signing.cross_signing_key(&alice, "user_signing"));
    let auth = json!({
        "type": "m.login.password", "password": "correct horse battery staple",
        "identifier": { "type": "m.id.user", "user": "alice" },
    });
    let body = json!({ "user_signing_key": key, "auth": auth });
    assert_eq!(server.post(&path, &alice.token, body).await.0, StatusCode::OK);
    assert_eq!(hers.lists(&server).await, of(&[&alice], &[]), "a user-signing key is private");
    assert_eq!(his.lists(&server).await, of(&[], &[]));
    let signed = json!({ bobs.public_key.as_str(): user_signing.sign(&alice, &bobs_key) });
    let path = format!("{V3}/keys/signatures/upload");
    let answer = server.post(&path, &alice.token, json!({ bob.user_id.as_str(): signed })).await;
    assert_eq!(answer, (StatusCode::OK, json!({ "failures": {} })));
    assert_eq!(hers.lists(&server).await, of(&[&bob], &[]));
    assert_eq!(his.lists(&server).await, of(&[], &[]));
}

#[tokio::test]
async fn a_sync_says_how_many_keys_there_are_and_which_fallback_keys_are_unused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let mut client = Client { user: alice.clone(), since: String::new(), filter: "{}" };
    let mut counts = async |server: &TestServer| {
        let body = client.sync(server, 0).await;
        (
            body["device_one_time_keys_count"].clone(),
            body["device_unused_fallback_key_types"].clone(),
        )
    };
    let count = |count: u64| json!({ "signed_curve25519": count });
    let unused = json!(["signed_curve25519"]);
    assert_eq!(counts(&server).await, (count(0), json!([])));
    let body = json!({ "one_time_keys": keys(0..2), "fallback_keys": keys([9]) });
    upload(&server, &alice, body).await;
    assert_eq!(counts(&server).await, (count(2), unused.clone()));
    for left in [1, 0] {
        super::signer::claim(&server, &alice, &alice).await;
        assert_eq!(counts(&server).await, (count(left), unused.clone()));
    }
    super::signer::claim(&server, &alice, &alice).await;
    assert_eq!(counts(&server).await, (count(0), json!([])));
    // The key that was used stays used, however often it is uploaded.
    upload(&server, &alice, json!({ "fallback_keys": keys([9]) })).await;
    assert_eq!(counts(&server).await, (count(0), json!([])));
    upload(&server, &alice, json!({ "fallback_keys": keys([10]) })).await;
    assert_eq!(counts(&server).await, (count(0), unused));
}

#[tokio::test]
async fn a_token_that_is_none_is_refused_and_one_from_the_future_has_nothing_above_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    upload_device_keys(&server, &alice).await;
    for query in ["from=x&to=s1", "from=s1&to=x", "from=s1", "to=s1", ""] {
        let path = format!("{V3}/keys/changes?{query}");
        let (status, body) = server.get(&path, &alice.token).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
    }
    let path = format!("{V3}/keys/changes?from=s999999999&to=s999999999");
    let (_, body) = server.get(&path, &alice.token).await;
    assert_eq!(lists(&body), of(&[], &[]));
}

#[tokio::test]
async fn the_lists_are_the_same_after_a_restart() {
    let mut server = TestServer::start().await;
    let [alice, bob] = users(&server, ["alice", "bob"]).await;
    let room = public_room(&server, &alice).await;
    act(&server, &bob, "join", &room).await;
    let mut client = Client::new(&server, &alice).await;
    upload_device_keys(&server, &bob).await;
    server.restart().await;
    assert_eq!(client.lists(&server).await, of(&[&bob], &[]));
}
