//! Media of rooms, as administrators see it.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use super::{download, must_upload};

/// A room of Alice's, in which she has sent content.
async fn room(server: &TestServer, alice: &User, state: Value, contents: &[Value]) -> String {
    let body = json!({ "preset": "public_chat", "initial_state": state });
    let (status, body) = server.post("/_matrix/client/v3/createRoom", &alice.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let room = body["room_id"].as_str().unwrap().to_owned();
    for (number, content) in contents.iter().enumerate() {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{number}");
        let (status, body) = server.put(&path, &alice.token, content.clone()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    room
}

fn ids(body: &Value) -> Vec<String> {
    let media = body["media"].as_array().unwrap().iter();
    let mut ids: Vec<_> =
        media.map(|media| format!("localhost/{}", media["media_id"].as_str().unwrap())).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn media_of_a_room_is_listed_quarantined_and_deleted_and_avatars_of_its_members_are_not() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let mut media = Vec::new();
    for name in ["picture", "thumbnail", "inline", "room", "person", "elsewhere"] {
        media.push(must_upload(&server, &alice, "a/b", name.as_bytes()).await);
    }
    let uri = |number: usize| format!("mxc://{}", media[number]);
    let avatar = format!("/_matrix/client/v3/profile/{}/avatar_url", alice.user_id);
    let (status, _) = server.put(&avatar, &alice.token, json!({ "avatar_url": uri(4) })).await;
    assert_eq!(status, StatusCode::OK);
    let state = json!([{ "type": "m.room.avatar", "state_key": "", "content": { "url": uri(3) } }]);
    let contents = [
        json!({ "msgtype": "m.image", "body": "a", "url": uri(0), "info": { "thumbnail_url": uri(1) } }),
        json!({
            "msgtype": "m.text", "body": "b", "format": "org.matrix.custom.html",
            "formatted_body": format!("<img src='{}'>", uri(2)),
        }),
        json!({ "msgtype": "m.image", "body": "gone", "url": "mxc://localhost/gone" }),
    ];
    let first = room(&server, &alice, state, &contents).await;
    let other = json!({ "msgtype": "m.image", "body": "a", "url": uri(5) });
    room(&server, &alice, json!([]), &[other]).await;

    let mut expected = media[..4].to_vec();
    expected.sort();
    let path = |action: &str| format!("/media{action}?room_id={first}");
    assert_eq!(ids(&server.ask_admin(&path("")).await), expected);
    for (action, status) in [
        ("/quarantine", StatusCode::NOT_FOUND),
        ("/release", StatusCode::OK),
        ("/delete", StatusCode::NOT_FOUND),
    ] {
        let answer = server.admin(Method::POST, &path(action)).await;
        assert_eq!((answer.status, &answer.body["done"]), (StatusCode::OK, &json!(4)), "{action}");
        for (number, media) in media.iter().enumerate() {
            let expected = if number < 4 { status } else { StatusCode::OK };
            assert_eq!(
                download(&server, &alice, media).await.status,
                expected,
                "{action} {number}"
            );
        }
    }
    assert_eq!(ids(&server.ask_admin(&path("")).await), [""; 0]);
}

#[tokio::test]
async fn a_long_room_is_listed_in_portions() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let old = must_upload(&server, &alice, "a/b", b"old").await;
    let new = must_upload(&server, &alice, "a/b", b"new").await;
    let message =
        |url: &str| json!({ "msgtype": "m.image", "body": "a", "url": format!("mxc://{url}") });
    let mut contents = vec![message(&old)];
    contents.resize(1_100, json!({ "msgtype": "m.text", "body": "text" }));
    contents.push(message(&new));
    let room = room(&server, &alice, json!([]), &contents).await;
    let first = server.ask_admin(&format!("/media?room_id={room}&limit=1")).await;
    assert_eq!(ids(&first), std::slice::from_ref(&old));
    let next = &first["next"];
    let rest = server.ask_admin(&format!("/media?room_id={room}&after={next}")).await;
    assert_eq!((ids(&rest), &rest["next"]), (vec![new.clone()], &Value::Null));
    let mut all = vec![old, new];
    all.sort();
    assert_eq!(ids(&server.ask_admin(&format!("/media?room_id={room}")).await), all);
}

#[tokio::test]
async fn what_is_no_selection_of_media_is_refused() {
    let server = TestServer::start().await;
    server.register("alice").await;
    for (path, status) in [
        ("/media/delete", StatusCode::BAD_REQUEST),
        ("/media/delete?server_name=localhost", StatusCode::BAD_REQUEST),
        ("/media/delete?user_id=@alice:localhost&room_id=!a:localhost", StatusCode::BAD_REQUEST),
        ("/media/delete?room_id=nonsense", StatusCode::BAD_REQUEST),
        ("/media/delete?room_id=!unknown:localhost", StatusCode::NOT_FOUND),
        ("/media/delete?user_id=@nobody:localhost", StatusCode::NOT_FOUND),
        ("/media/burn?user_id=@alice:localhost", StatusCode::NOT_FOUND),
        ("/media/unknown/delete", StatusCode::NOT_FOUND),
        ("/media/unknown/burn", StatusCode::NOT_FOUND),
        ("/media/a.test/unknown/delete", StatusCode::NOT_FOUND),
        ("/media/no%20name/unknown/delete", StatusCode::NOT_FOUND),
    ] {
        let answer = server.admin(Method::POST, path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
}
