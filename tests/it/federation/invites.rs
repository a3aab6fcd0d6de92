//! Invites that users do not want, and notifications of those that come from other servers.

use serde_json::{Value, json};
use wick_harness::{TestNetwork, TestServer, User};

use crate::push::gateway::Gateway;

const V3: &str = "/_matrix/client/v3";

/// Two servers: Alice and Carol on the first one, Bob on the second.
struct Three {
    _network: TestNetwork,
    a: TestServer,
    b: TestServer,
    alice: User,
    carol: User,
    bob: User,
}

async fn three() -> Three {
    let network = TestNetwork::new();
    let mut options = network.options("a.test");
    options.config.push.allow_http = true;
    let a = TestServer::start_from(options).await;
    network.join("a.test", a.router()).await;
    let b = network.start("b.test").await;
    let (alice, carol) = (a.register("alice").await, a.register("carol").await);
    let bob = b.register("bob").await;
    Three { _network: network, a, b, alice, carol, bob }
}

impl Three {
    /// Sets account data of Alice's.
    async fn configure(&self, event_type: &str, content: Value) {
        let path = format!("{V3}/user/{}/account_data/{event_type}", self.alice.user_id);
        let (status, body) = self.a.put(&path, &self.alice.token, content).await;
        assert_eq!(status, 200, "{body}");
    }

    /// The rooms that Alice is shown invites of.
    async fn invites(&self) -> Vec<String> {
        let (_, body) = self.a.get(&format!("{V3}/sync"), &self.alice.token).await;
        let invites = body["rooms"]["invite"].as_object();
        invites.into_iter().flatten().map(|(room, _)| room.clone()).collect()
    }

    /// Has a user invite Alice to a new room. Returns the room, and status and errcode.
    async fn invite(&self, server: &TestServer, inviter: &User) -> (String, u16, Value) {
        let room = new_room(server, inviter, json!({})).await;
        let path = format!("{V3}/rooms/{room}/invite");
        let body = json!({ "user_id": self.alice.user_id });
        let (status, body) = server.post(&path, &inviter.token, body).await;
        (room, status.as_u16(), body["errcode"].clone())
    }
}

async fn new_room(server: &TestServer, creator: &User, body: Value) -> String {
    let (status, body) = server.post(&format!("{V3}/createRoom"), &creator.token, body).await;
    assert_eq!(status, 200, "{body}");
    body["room_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_invite_that_a_user_blocks_is_refused_whichever_way_it_comes() {
    let three = three().await;
    let Three { a, b, alice, carol, bob, .. } = &three;
    let (before, ..) = three.invite(a, carol).await;
    assert_eq!(three.invites().await, [before.as_str()]);
    let config = "m.invite_permission_config";
    three.configure(config, json!({ "default_action": "block" })).await;
    let blocked = json!("M_INVITE_BLOCKED");
    for (server, inviter) in [(a, carol), (b, bob)] {
        let (_, status, errcode) = three.invite(server, inviter).await;
        assert_eq!((status, &errcode), (403, &blocked), "{}", inviter.user_id);
    }
    let room = new_room(a, carol, json!({})).await;
    let path = format!("{V3}/rooms/{room}/state/m.room.member/{}", alice.user_id);
    let (status, body) = a.put(&path, &carol.token, json!({ "membership": "invite" })).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (403, &blocked), "{body}");
    let create = json!({ "invite": [alice.user_id] });
    let (status, body) = a.post(&format!("{V3}/createRoom"), &carol.token, create).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (403, &blocked), "{body}");
    assert_eq!(three.invites().await, Vec::<String>::new(), "the one before is hidden, too");
    three.configure(config, json!({})).await;
    assert_eq!(three.invite(b, bob).await.1, 200);
    assert_eq!(three.invites().await.len(), 2);
}

#[tokio::test]
async fn an_invite_that_a_user_ignores_is_taken_and_not_shown() {
    let three = three().await;
    let Three { a, b, carol, bob, .. } = &three;
    let config = "org.matrix.msc4155.invite_permission_config";
    let lists = json!({ "ignored_servers": ["b.*"], "ignored_users": ["@car?l:*"] });
    three.configure(config, lists).await;
    for (server, inviter) in [(a, carol), (b, bob)] {
        assert_eq!(three.invite(server, inviter).await.1, 200);
    }
    assert_eq!(three.invites().await, Vec::<String>::new());
    three.configure(config, json!({})).await;
    assert_eq!(three.invites().await.len(), 2);
}

#[tokio::test]
async fn an_invite_to_a_room_of_another_server_is_pushed_with_what_it_shows_of_the_room() {
    let three = three().await;
    let Three { a, b, alice, bob, .. } = &three;
    let gateway = Gateway::start().await;
    gateway.set(a, alice, "key").await;
    let room = new_room(b, bob, json!({ "name": "Tea" })).await;
    let path = format!("{V3}/rooms/{room}/invite");
    let body = json!({ "user_id": alice.user_id });
    let (status, body) = b.post(&path, &bob.token, body).await;
    assert_eq!(status, 200, "{body}");
    let pushed = gateway.next().await;
    assert_eq!(pushed["room_id"], json!(room), "{pushed}");
    assert_eq!(
        (&pushed["type"], &pushed["sender"]),
        (&json!("m.room.member"), &json!(bob.user_id))
    );
    assert_eq!((&pushed["room_name"], &pushed["user_is_target"]), (&json!("Tea"), &json!(true)));
    assert_eq!(pushed["content"]["membership"], "invite");
    assert_eq!(pushed["sender_display_name"], "bob");
    assert_eq!(
        (&pushed["prio"], &pushed["devices"][0]["tweaks"]["sound"]),
        (&Value::Null, &json!("default"))
    );
    // One that is not wanted is not pushed.
    let lists = json!({ "ignored_users": [bob.user_id] });
    three.configure("org.matrix.msc4155.invite_permission_config", lists).await;
    assert_eq!(three.invite(b, bob).await.1, 200);
    let dave = b.register("dave").await;
    let (last, ..) = three.invite(b, &dave).await;
    assert_eq!(gateway.next().await["room_id"], json!(last));
}
