//! End-to-end encryption of users of two servers: keys, device lists, messages from device to device.

mod messages;

use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, routing::put};
use http::StatusCode;
use ruma::{ServerName, serde::Raw};
use ruma_federation_api::transactions::edu::Edu;
use serde_json::{Value, json};
use tokio::sync::Notify;
use wick_database::{
    Range, Read,
    schema::{
        device_keys::KEYS_BY_DEVICE,
        remote_devices::{
            ANNOUNCED_LIST_BY_USER, REFETCH_BY_TIME, REMOTE_LIST_BY_USER, RemoteList,
        },
    },
};
use wick_harness::{Gate, Options, Strike, TestNetwork, TestServer, User};

use super::waiting::until;
use crate::{
    encryption::signer::{
        ALGORITHM, CLAIM, QUERY, Signer, claim, keys, query, upload, upload_device_keys,
    },
    talk::{member, room},
};

const V3: &str = "/_matrix/client/v3";
const A: &str = "a.test";
const B: &str = "b.test";
const SEND: &str = "/_matrix/federation/v1/send/{transaction}";

/// EDUs in the order in which they were sent.
type Sent = Arc<Mutex<Vec<Value>>>;

/// Alice on one server, Bob on another.
struct Pair {
    network: TestNetwork,
    a: TestServer,
    b: TestServer,
    alice: User,
    bob: User,
    /// What is before Alice's server and before Bob's.
    gates: [Gate; 2],
    /// The EDUs that were sent to Alice's server and to Bob's, and have not been delivered.
    sent: [Sent; 2],
}

impl Pair {
    async fn start() -> Self {
        Self::with(None).await
    }

    /// `fault` strikes Bob's server.
    async fn with(fault: Option<Arc<Strike>>) -> Self {
        let network = TestNetwork::new();
        let gates = [Gate::default(), Gate::default()];
        let a = TestServer::start_from(network.options(A)).await;
        let fault = fault.map(|fault| fault as _);
        let b = TestServer::start_from(Options { fault, ..network.options(B) }).await;
        let sent = [Sent::default(), Sent::default()];
        for (at, name, server) in [(0, A, &a), (1, B, &b)] {
            gates[at].open(server);
            let routes = Router::new().route(SEND, put(held(&sent[at])));
            network.join(name, routes.fallback_service(gates[at].routes())).await;
        }
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        // Their devices are no news any more.
        until(|| announced(&a, &alice) == 1 && announced(&b, &bob) == 1).await;
        Self { network, gates, a, b, alice, bob, sent }
    }

    /// Has both servers count both users into a room.
    async fn share_a_room(&self) {
        share(&self.a, &self.alice, &self.bob).await;
        share(&self.b, &self.bob, &self.alice).await;
    }

    /// Waits for so many EDUs to Alice's server, and gives them to it.
    async fn deliver_to_a(&self, count: usize) -> Vec<Value> {
        let edus = self.taken(0, count).await;
        for edu in &edus {
            receive(&self.a, B, edu).await;
        }
        edus
    }

    /// Waits for so many EDUs to a server, and takes them off the way.
    async fn taken(&self, at: usize, count: usize) -> Vec<Value> {
        until(|| self.sent[at].lock().unwrap().len() >= count).await;
        std::mem::take(&mut *self.sent[at].lock().unwrap())
    }

    /// Uploads keys of a new device of Bob's, and waits until that is announced: first the device, then its keys.
    async fn new_device_of_bob(&self) -> User {
        let before = announced(&self.b, &self.bob);
        let device = self.b.log_in(&self.bob).await;
        until(|| announced(&self.b, &self.bob) == before + 1).await;
        upload_device_keys(&self.b, &device).await;
        until(|| announced(&self.b, &self.bob) == before + 2).await;
        device
    }

    /// The devices of Bob that Alice sees.
    async fn devices_of_bob(&self) -> Vec<String> {
        let answer = query(&self.a, &self.alice, &[&self.bob]).await;
        let devices = answer["device_keys"][self.bob.user_id.as_str()].as_object();
        devices.into_iter().flatten().map(|(id, _)| id.clone()).collect()
    }

    fn list_of_bob(&self) -> Option<RemoteList> {
        let database = &self.a.services().database;
        let latest = database.latest();
        let bob = database.intern().lookup_user(&latest, &self.bob.user_id).unwrap()?;
        latest.get(&REMOTE_LIST_BY_USER, &bob).unwrap()
    }
}

/// Has `other` join a new room of `user`, as if the other server had sent the join.
async fn share(server: &TestServer, user: &User, other: &User) {
    let room = room(server, user).await;
    member(server, &room, other, other, "join").await;
}

/// Gives an EDU of `origin` to a server.
async fn receive(server: &TestServer, origin: &str, edu: &Value) {
    let origin = ServerName::parse(origin).unwrap();
    let edu = Raw::<Edu>::from_json_string(edu.to_string()).unwrap();
    server.services().receive_edu(&origin, &edu).await.unwrap();
}

/// Takes transactions, but does not deliver what is in them.
fn held(sent: &Sent) -> impl Fn(Json<Value>) -> Ready<Json<Value>> + Clone + Send + Sync + use<> {
    let sent = Arc::clone(sent);
    move |Json(transaction)| {
        sent.lock().unwrap().extend(transaction["edus"].as_array().into_iter().flatten().cloned());
        ready(Json(json!({ "pdus": {} })))
    }
}

/// The number of the last update that `server` has queued of a user's list.
fn announced(server: &TestServer, user: &User) -> u64 {
    let database = &server.services().database;
    let latest = database.latest();
    let user = database.intern().lookup_user(&latest, &user.user_id).unwrap().unwrap();
    latest.get(&ANNOUNCED_LIST_BY_USER, &user).unwrap().unwrap_or_default().stream_id
}

/// The users whose device lists have changed for a client, and its next token.
async fn changed(server: &TestServer, user: &User, since: &str) -> (Vec<String>, String) {
    let (status, body) = server.get(&format!("{V3}/sync?since={since}"), &user.token).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let changed = body["device_lists"]["changed"].as_array().cloned().unwrap_or_default();
    let changed = changed.iter().map(|user| user.as_str().unwrap().to_owned()).collect();
    (changed, body["next_batch"].as_str().unwrap().to_owned())
}

async fn token(server: &TestServer, user: &User) -> String {
    let (_, body) = server.get(&format!("{V3}/sync"), &user.token).await;
    body["next_batch"].as_str().unwrap().to_owned()
}

fn ids(devices: &[&User]) -> Vec<String> {
    let mut ids: Vec<_> = devices.iter().map(|user| user.device_id.to_string()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn keys_of_a_user_of_another_server_are_shown_as_they_were_uploaded() {
    let pair = Pair::start().await;
    let signer = upload_device_keys(&pair.b, &pair.bob).await;
    let answer = query(&pair.a, &pair.alice, &[&pair.bob, &pair.alice]).await;
    let shown = &answer["device_keys"][pair.bob.user_id.as_str()][pair.bob.device_id.as_str()];
    assert_eq!(shown["keys"], signer.device_keys(&pair.bob)["keys"], "{answer}");
    assert!(shown["signatures"][pair.bob.user_id.as_str()].is_object(), "{answer}");
    assert_eq!(answer["failures"], json!({}));
    assert!(answer["device_keys"][pair.alice.user_id.as_str()].is_object(), "{answer}");
    // They share no room, so nothing is stored.
    assert_eq!(pair.list_of_bob(), None);
}

#[tokio::test]
async fn a_one_time_key_of_another_server_is_claimed_once() {
    let pair = Pair::start().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    let body = json!({ "one_time_keys": keys([1, 2]), "fallback_keys": keys([9]) });
    upload(&pair.b, &pair.bob, body).await;
    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.push(claim(&pair.a, &pair.alice, &pair.bob).await);
    }
    assert_eq!(claimed, [keys([1]), keys([2]), keys([9])]);
}

#[tokio::test]
async fn a_server_without_an_answer_is_a_failure_and_the_others_are_answered() {
    let pair = Pair::start().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    let body = json!({ "one_time_keys": keys([1]) });
    upload(&pair.b, &pair.bob, body).await;
    let wanted = json!({ pair.bob.user_id.as_str(): [], "@eve:dead.test": [] });
    let body = json!({ "device_keys": wanted });
    let (status, body) = pair.a.post(QUERY, &pair.alice.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body["failures"]["dead.test"]["error"].is_string(), "{body}");
    assert!(body["device_keys"][pair.bob.user_id.as_str()].is_object(), "{body}");
    let wanted = json!({
        pair.bob.user_id.as_str(): { pair.bob.device_id.as_str(): ALGORITHM },
        "@eve:dead.test": { "DEVICE": ALGORITHM },
    });
    let body = json!({ "one_time_keys": wanted });
    let (status, body) = pair.a.post(CLAIM, &pair.alice.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body["failures"]["dead.test"]["error"].is_string(), "{body}");
    let claimed = &body["one_time_keys"][pair.bob.user_id.as_str()];
    assert_eq!(claimed[pair.bob.device_id.as_str()], keys([1]), "{body}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_the_time_that_the_client_gives_it() {
    let pair = Pair::start().await;
    let asked = Arc::new(Notify::new());
    let noted = Arc::clone(&asked);
    let router = Router::new().fallback(move || {
        noted.notify_one();
        std::future::pending::<StatusCode>()
    });
    pair.network.join("slow.test", router).await;
    upload_device_keys(&pair.a, &pair.alice).await;
    let wanted = json!({ pair.alice.user_id.as_str(): [], "@eve:slow.test": [] });
    let body = json!({ "device_keys": wanted, "timeout": 3_000 });
    let advance = async {
        asked.notified().await;
        pair.a.clock.advance(Duration::from_secs(3)).await;
    };
    let ((status, body), ()) = tokio::join!(pair.a.post(QUERY, &pair.alice.token, body), advance);
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body["failures"]["slow.test"].is_object(), "{body}");
    assert!(body["device_keys"][pair.alice.user_id.as_str()].is_object(), "{body}");
}

#[tokio::test]
async fn what_a_server_says_of_users_of_others_or_of_other_devices_is_left_out() {
    let pair = Pair::start().await;
    let (eve, keys) = ("@eve:evil.test", Signer::of_device(&pair.bob).device_keys(&pair.bob));
    let answer = json!({
        "device_keys": {
            eve: { pair.bob.device_id.as_str(): keys },
            pair.bob.user_id.as_str(): { pair.bob.device_id.as_str(): keys },
        },
        "one_time_keys": {
            eve: { "OTHER": { "signed_curve25519:1": "a key" } },
            pair.bob.user_id.as_str(): { "D": { "signed_curve25519:1": "a key" } },
        },
    });
    let router = Router::new().fallback(move || ready(Json(answer.clone())));
    pair.network.join("evil.test", router).await;
    let body = json!({ "device_keys": { eve: [] } });
    let (_, body) = pair.a.post(QUERY, &pair.alice.token, body).await;
    assert_eq!(body["device_keys"], json!({ eve: {} }), "{body}");
    let body = json!({ "one_time_keys": { eve: { "D": ALGORITHM } } });
    let (_, body) = pair.a.post(CLAIM, &pair.alice.token, body).await;
    assert_eq!(body["one_time_keys"], json!({}), "{body}");
}

#[tokio::test]
async fn a_new_device_on_another_server_is_seen_in_sync_and_in_queries() {
    let pair = Pair::start().await;
    pair.share_a_room().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    pair.deliver_to_a(1).await;
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob]));
    // From here on the list is stored and kept up to date.
    let since = token(&pair.a, &pair.alice).await;
    let second = pair.new_device_of_bob().await;
    pair.deliver_to_a(2).await;
    // A list that a client asked for has no number, so this one is fetched first.
    until(|| pair.list_of_bob().unwrap().stream_id == Some(4)).await;
    let (users, since) = changed(&pair.a, &pair.alice, &since).await;
    assert_eq!(users, [pair.bob.user_id.as_str()]);
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob, &second]));

    // The next update is put in directly: the other server is not needed.
    let third = pair.new_device_of_bob().await;
    pair.gates[1].close();
    pair.deliver_to_a(2).await;
    let (users, since) = changed(&pair.a, &pair.alice, &since).await;
    assert_eq!(users, [pair.bob.user_id.as_str()]);
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob, &second, &third]));

    // So is the end of a device.
    pair.b.post(&format!("{V3}/logout"), &third.token, json!({})).await;
    pair.deliver_to_a(1).await;
    assert_eq!(changed(&pair.a, &pair.alice, &since).await.0, [pair.bob.user_id.as_str()]);
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob, &second]));
}

#[tokio::test]
async fn an_update_that_the_fetched_list_holds_has_it_fetched_no_second_time() {
    let pair = Pair::start().await;
    pair.share_a_room().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    pair.deliver_to_a(1).await;
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob]));
    let second = pair.new_device_of_bob().await;
    let edus = pair.taken(0, 2).await;
    // The device without keys has the list fetched, which holds them already.
    receive(&pair.a, B, &edus[0]).await;
    until(|| pair.list_of_bob().unwrap().stream_id == Some(4)).await;
    let list = pair.list_of_bob();
    receive(&pair.a, B, &edus[1]).await;
    assert_eq!(pair.list_of_bob(), list);
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob, &second]));
}

#[tokio::test]
async fn a_lost_update_is_made_good_once_the_server_is_back_also_after_a_crash() {
    let mut pair = Pair::start().await;
    pair.share_a_room().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    until(|| announced(&pair.b, &pair.bob) == 2).await;
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob]));
    let lost = pair.new_device_of_bob().await;
    assert_eq!(pair.taken(0, 3).await.len(), 3);
    let third = pair.new_device_of_bob().await;
    pair.gates[1].close();
    let since = token(&pair.a, &pair.alice).await;
    // Only the newest updates arrive.
    pair.deliver_to_a(2).await;
    let (users, since) = changed(&pair.a, &pair.alice, &since).await;
    assert_eq!(users, [pair.bob.user_id.as_str()]);
    until(|| pair.list_of_bob().unwrap().failures > 0).await;
    let answer = query(&pair.a, &pair.alice, &[&pair.bob]).await;
    assert!(answer["failures"][B].is_object(), "{answer}");

    pair.gates[0].close();
    pair.a.crash().await;
    pair.gates[0].open(&pair.a);
    pair.gates[1].open(&pair.b);
    pair.a.clock.advance(Duration::from_secs(3_600)).await;
    until(|| pair.list_of_bob().unwrap().refetch_at.is_none()).await;
    let (users, _) = changed(&pair.a, &pair.alice, &since).await;
    assert_eq!(users, [pair.bob.user_id.as_str()]);
    pair.gates[1].close();
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob, &lost, &third]));
    let latest = pair.a.services().database.latest();
    assert_eq!(latest.first(&REFETCH_BY_TIME, Range::all()).unwrap(), None);
}

#[tokio::test]
async fn cross_signing_keys_of_another_server_and_their_changes_are_seen() {
    let pair = Pair::start().await;
    pair.share_a_room().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    pair.deliver_to_a(1).await;
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob]));
    let since = token(&pair.a, &pair.alice).await;
    let (master, self_signing) = (Signer::of_user(), Signer::of_user());
    let key = self_signing.cross_signing_key(&pair.bob, "self_signing");
    let body = json!({
        "master_key": master.cross_signing_key(&pair.bob, "master"),
        "self_signing_key": master.sign(&pair.bob, &key),
    });
    let path = format!("{V3}/keys/device_signing/upload");
    let (status, body) = pair.b.post(&path, &pair.bob.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let edus = pair.deliver_to_a(1).await;
    assert_eq!(edus[0]["edu_type"], "m.signing_key_update", "{edus:?}");
    assert_eq!(changed(&pair.a, &pair.alice, &since).await.0, [pair.bob.user_id.as_str()]);
    pair.gates[1].close();
    let answer = query(&pair.a, &pair.alice, &[&pair.bob]).await;
    let bob = pair.bob.user_id.as_str();
    let id = format!("ed25519:{}", master.public_key);
    assert_eq!(answer["master_keys"][bob]["keys"][&id], master.public_key, "{answer}");
    let id = format!("ed25519:{}", self_signing.public_key);
    let keys = &answer["self_signing_keys"][bob]["keys"];
    assert_eq!(keys[&id], self_signing.public_key, "{answer}");
}

#[tokio::test]
async fn devices_without_keys_and_names_of_devices_reach_other_servers_where_names_are_shown() {
    for shows_names in [false, true] {
        let network = TestNetwork::new();
        let mut options = network.options(A);
        options.config.federation.device_names = shows_names;
        let a = TestServer::start_from(options).await;
        network.join(A, a.router()).await;
        let b = network.start(B).await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        share(&a, &alice, &bob).await;
        share(&b, &bob, &alice).await;
        let signer = upload_device_keys(&a, &alice).await;
        let path = format!("{V3}/devices/{}", alice.device_id);
        a.put(&path, &alice.token, json!({ "display_name": "a phone" })).await;
        let answer = query(&b, &bob, &[&alice]).await;
        let shown = &answer["device_keys"][alice.user_id.as_str()][alice.device_id.as_str()];
        assert_eq!(shown["keys"], signer.device_keys(&alice)["keys"], "{answer}");
        let name = if shows_names { json!("a phone") } else { json!(null) };
        assert_eq!(shown["unsigned"]["device_display_name"], name, "{answer}");
        // What is stored is shown alike.
        let again = query(&b, &bob, &[&alice]).await;
        let shown = &again["device_keys"][alice.user_id.as_str()][alice.device_id.as_str()];
        assert_eq!(shown["unsigned"]["device_display_name"], name, "{again}");
    }
}

#[tokio::test]
async fn a_new_device_is_announced_before_it_has_keys_and_so_is_its_end() {
    let pair = Pair::start().await;
    pair.share_a_room().await;
    let before = announced(&pair.b, &pair.bob);
    let second = pair.b.log_in(&pair.bob).await;
    until(|| announced(&pair.b, &pair.bob) > before).await;
    let since = token(&pair.a, &pair.alice).await;
    let of_second = |edus: &[Value]| {
        let of_second = |edu: &&Value| edu["content"]["device_id"] == second.device_id.as_str();
        edus.iter().find(of_second).expect("it is announced")["content"].clone()
    };
    let update = of_second(&pair.deliver_to_a(1).await);
    assert!(update["keys"].is_null() && update["deleted"].is_null(), "{update}");
    // Clients see no device without keys, so nothing has changed for them.
    assert_eq!(changed(&pair.a, &pair.alice, &since).await.0, Vec::<String>::new());
    pair.b.post(&format!("{V3}/logout"), &second.token, json!({})).await;
    let update = of_second(&pair.deliver_to_a(1).await);
    assert_eq!(update["deleted"], true, "{update}");
}

#[tokio::test]
async fn cross_signing_keys_are_taken_under_their_unstable_name_too() {
    let pair = Pair::start().await;
    pair.share_a_room().await;
    let since = token(&pair.a, &pair.alice).await;
    let key = Signer::of_user().cross_signing_key(&pair.bob, "master");
    let content = json!({ "user_id": pair.bob.user_id, "master_key": key });
    let update = json!({ "edu_type": "org.matrix.signing_key_update", "content": content });
    receive(&pair.a, B, &update).await;
    assert_eq!(changed(&pair.a, &pair.alice, &since).await.0, [pair.bob.user_id.as_str()]);
}

#[tokio::test]
async fn an_update_by_another_server_than_the_users_changes_nothing() {
    let pair = Pair::start().await;
    pair.share_a_room().await;
    let since = token(&pair.a, &pair.alice).await;
    pair.new_device_of_bob().await;
    // The one before is of the device without keys.
    let update = pair.taken(0, 2).await.remove(1);
    receive(&pair.a, "evil.test", &update).await;
    assert_eq!(changed(&pair.a, &pair.alice, &since).await.0, Vec::<String>::new());
    receive(&pair.a, B, &update).await;
    assert_eq!(changed(&pair.a, &pair.alice, &since).await.0, [pair.bob.user_id.as_str()]);
}

#[tokio::test]
async fn nothing_is_kept_of_a_user_with_whom_no_room_is_shared_any_more() {
    let pair = Pair::start().await;
    pair.share_a_room().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    pair.deliver_to_a(1).await;
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob]));
    assert!(pair.list_of_bob().is_some());
    let (_, rooms) = pair.a.get(&format!("{V3}/joined_rooms"), &pair.alice.token).await;
    let room = rooms["joined_rooms"][0].as_str().unwrap();
    let path = format!("{V3}/rooms/{room}/leave");
    let (status, body) = pair.a.post(&path, &pair.alice.token, json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    // What is stored is not used from now on, and deleted later.
    pair.new_device_of_bob().await;
    assert_eq!(pair.devices_of_bob().await.len(), 2);
    pair.a.clock.advance(Duration::from_secs(6 * 3_600)).await;
    until(|| pair.list_of_bob().is_none()).await;
    let database = &pair.a.services().database;
    let latest = database.latest();
    let bob = database.intern().lookup_user(&latest, &pair.bob.user_id).unwrap().unwrap();
    assert_eq!(latest.scan(&KEYS_BY_DEVICE, Range::prefix((bob,))).count(), 0);
}

#[tokio::test]
async fn a_server_started_from_a_backup_asks_for_lists_again() {
    let mut pair = Pair::start().await;
    pair.share_a_room().await;
    upload_device_keys(&pair.b, &pair.bob).await;
    pair.deliver_to_a(1).await;
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob]));
    let copy = pair.a.folder().join("copy");
    pair.a.services().database.backup(&copy).unwrap();
    // This device is not in the copy.
    let second = pair.new_device_of_bob().await;
    pair.deliver_to_a(2).await;
    pair.gates[0].close();
    pair.a.stop().await;
    let store = pair.a.folder().join("data").join("db");
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&copy, &store).unwrap();
    pair.a.restart().await;
    assert_eq!(pair.list_of_bob(), None);
    assert_eq!(pair.devices_of_bob().await, ids(&[&pair.bob, &second]));
}
