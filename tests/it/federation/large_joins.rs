//! Joins whose answers are large, broken or slow: what they hold up, and what becomes of them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};
use wick_harness::{TestNetwork, TestServer, User};

const V3: &str = "/_matrix/client/v3";

async fn join(server: TestServerRef, user: User, room: String) -> u16 {
    let path = format!("{V3}/join/{room}?via=a.test");
    server.post(&path, &user.token, json!({})).await.0.as_u16()
}

type TestServerRef = Arc<TestServer>;

fn is_send_join(request: &Request) -> bool {
    request.uri().path().contains("/v2/send_join/")
}

/// A server with a public room, whose endpoints for servers stand behind `layer`.
async fn host<F, R>(network: &TestNetwork, layer: F) -> (TestServer, User)
where
    F: Fn(Request, Next) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    let server = TestServer::start_from(network.options("a.test")).await;
    network.join("a.test", server.router().layer(from_fn(layer))).await;
    let alice = server.register("alice").await;
    (server, alice)
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_no_object_makes_no_room_and_a_repeated_join_does() {
    let network = TestNetwork::new();
    let (is_broken, is_foreign) =
        (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (breaks, foreign) = (Arc::clone(&is_broken), Arc::clone(&is_foreign));
    let (a, alice) = host(&network, move |request, next: Next| {
        let is_answer = is_send_join(&request);
        let (breaks, foreign) = (breaks.load(Ordering::SeqCst), foreign.load(Ordering::SeqCst));
        async move {
            let response = next.run(request).await;
            if !is_answer {
                return response;
            }
            let (head, body) = response.into_parts();
            let mut body = to_bytes(body, usize::MAX).await.unwrap();
            if breaks {
                body.truncate(body.len() / 2);
            }
            if foreign {
                body = "[[]]".into();
            }
            Response::from_parts(head, Body::from(body))
        }
    })
    .await;
    let b = Arc::new(network.start("b.test").await);
    let bob = b.register("bob").await;
    let room = a.room(&alice, "shared").await;
    for (breaks, is_other) in [(true, false), (false, true)] {
        is_broken.store(breaks, Ordering::SeqCst);
        is_foreign.store(is_other, Ordering::SeqCst);
        assert_eq!(join(Arc::clone(&b), bob.clone(), room.id.to_string()).await, 502);
        let members = b.get(&room.path("/joined_members"), &bob.token).await;
        assert_eq!(members.0, 403);
    }
    is_foreign.store(false, Ordering::SeqCst);
    assert_eq!(join(Arc::clone(&b), bob.clone(), room.id.to_string()).await, 200);
    let (status, members) = b.get(&room.path("/joined_members"), &bob.token).await;
    assert_eq!(status, 200);
    assert_eq!(members["joined"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_user_has_two_joins_under_way_and_holds_up_no_other() {
    let network = TestNetwork::new();
    let (arrive, mut arrived) = watch::channel(0);
    let (release, released) = watch::channel(false);
    let arrive = Arc::new(arrive);
    let (a, alice) = host(&network, move |request: Request, next: Next| {
        let (arrive, mut released) = (Arc::clone(&arrive), released.clone());
        async move {
            if is_send_join(&request) {
                arrive.send_modify(|count| *count += 1);
                // The third one is carol's.
                if *arrive.borrow() != 3 {
                    released.wait_for(|is_released| *is_released).await.unwrap();
                }
            }
            next.run(request).await
        }
    })
    .await;
    let b = Arc::new(network.start("b.test").await);
    let (bob, carol) = (b.register("bob").await, b.register("carol").await);
    let mut rooms = Vec::new();
    for _ in 0..4 {
        rooms.push(a.room(&alice, "shared").await.id.to_string());
    }
    let mut joins = JoinSet::new();
    for room in &rooms[..3] {
        joins.spawn(join(Arc::clone(&b), bob.clone(), room.clone()));
    }
    arrived.wait_for(|count| *count == 2).await.unwrap();
    assert_eq!(join(Arc::clone(&b), carol, rooms[3].clone()).await, 200);
    assert_eq!(*arrived.borrow(), 3, "bob's third join waits");
    release.send(true).unwrap();
    assert_eq!(joins.join_all().await, [200; 3]);
    assert_eq!(*arrived.borrow(), 4);
}
