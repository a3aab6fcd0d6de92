//! Whose devices are announced to whom, and what users see of it, as users of several servers join and leave rooms.

use serde_json::{Value, json};
use wick_harness::{TestNetwork, TestServer, User};

use super::receiver::{Receiver, shared_room};
use crate::{
    encryption::signer::upload_device_keys,
    talk::{member, room, sync, sync_since},
};

/// The users whose lists a sync names as changed.
fn changed(sync: &Value) -> Vec<&str> {
    let changed = sync["device_lists"]["changed"].as_array();
    changed.into_iter().flatten().map(|user| user.as_str().unwrap()).collect()
}

async fn join(server: &TestServer, user: &User, room: &str) {
    let path = format!("/_matrix/client/v3/join/{room}");
    assert_eq!(server.post(&path, &user.token, json!({})).await.0, 200);
}

#[tokio::test]
async fn a_user_who_joins_is_announced_to_the_servers_that_were_in_none_of_their_rooms() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let (alice, carol) = (server.register("alice").await, server.register("carol").await);
    upload_device_keys(&server, &carol).await;
    let without_keys = server.log_in(&carol).await;
    let shared = shared_room(&server, &alice, &[&b]).await;
    join(&server, &carol, shared.as_str()).await;
    let mut devices = Vec::new();
    while devices.len() < 2 {
        let update = b.edu("m.device_list_update").await;
        assert_eq!(update["user_id"], json!(carol.user_id), "{update}");
        if update["prev_id"].as_array().is_some_and(|before| !before.is_empty()) {
            // A change from before the join that was not announced by then.
            continue;
        }
        let has_keys = update["keys"].is_object();
        assert_eq!(has_keys, update["device_id"] == json!(carol.device_id), "{update}");
        devices.push(update["device_id"].clone());
    }
    assert!(devices.contains(&json!(without_keys.device_id)), "{devices:?}");
    // The server is in one of carol's rooms already: the next update it gets is the next change.
    let second = shared_room(&server, &alice, &[&b]).await;
    join(&server, &carol, second.as_str()).await;
    server.log_in(&carol).await;
    let update = b.edu("m.device_list_update").await;
    assert_eq!(update["prev_id"].as_array().map_or(0, Vec::len), 1, "{update}");
}

#[tokio::test]
async fn a_user_of_another_server_who_was_away_between_two_syncs_has_changed() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let shared = shared_room(&server, &alice, &[&b]).await;
    let first = sync(&server, &alice, "").await;
    member(&server, &shared, &b.user, &b.user, "leave").await;
    member(&server, &shared, &b.user, &b.user, "join").await;
    let second = sync_since(&server, &alice, &first, "").await;
    assert_eq!(changed(&second), [b.user.user_id.as_str()]);
    // A new name alone is no news of devices.
    let content = json!({ "membership": "join", "displayname": "another name" });
    let key = ("m.room.member", b.user.user_id.as_str());
    crate::talk::set(&server, &shared, &b.user, key, content).await;
    let third = sync_since(&server, &alice, &second, "").await;
    assert_eq!(changed(&third), Vec::<&str>::new());
}

#[tokio::test]
async fn a_user_who_joins_their_first_room_shares_it_with_themselves() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let first = room(&server, &alice).await;
    let before = sync(&server, &bob, "").await;
    join(&server, &bob, first.as_str()).await;
    let joined = sync_since(&server, &bob, &before, "").await;
    assert_eq!(changed(&joined), [alice.user_id.as_str(), bob.user_id.as_str()]);
    let second = room(&server, &alice).await;
    join(&server, &bob, second.as_str()).await;
    let joined = sync_since(&server, &bob, &joined, "").await;
    assert_eq!(changed(&joined), Vec::<&str>::new(), "they share another room already");
}
