//! Changes of devices and keys of users of other servers, and lists that are kept up to date with them.

use wick_database::{
    Range,
    schema::{device_keys::KEYS_BY_DEVICE, remote_devices::REFETCH_BY_TIME},
};

use super::*;

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
