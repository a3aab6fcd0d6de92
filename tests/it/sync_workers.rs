//! Which syncs are assembled on the worker threads, away from those that serve all requests.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use std::{pin::pin, sync::mpsc};

use tokio::{runtime, task};
use wick_harness::{TestServer, hang_up_after};

use crate::talk::{room, say, sync, sync_since};

/// Answers a sync at the first poll, if it waits for nothing: neither for news nor for a thread.
const AT_ONCE: usize = 1;

/// More rooms than there may be news in for a response that is assembled at once.
const MANY: usize = 101;

async fn many_rooms() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let mut rooms = Vec::new();
    for _ in 0..MANY {
        rooms.push(room(&server, &alice).await);
    }
    let offline = "&set_presence=offline";
    let first = sync(&server, &alice, "").await;
    let (release, gate) = mpsc::channel::<()>();
    let busy = task::spawn_blocking(move || gate.recv());

    say(&server, &rooms[0], &alice, "the only news").await;
    let small = sync_since(&server, &alice, &first, offline);
    let small = hang_up_after(AT_ONCE, small).await.expect("no thread is free, and none is needed");
    assert!(small.to_string().contains("the only news"), "{small}");

    for room in &rooms {
        say(&server, room, &alice, "more news").await;
    }
    let mut anew = pin!(sync(&server, &alice, "?set_presence=offline"));
    let mut later = pin!(sync_since(&server, &alice, &small, offline));
    assert!(hang_up_after(AT_ONCE, anew.as_mut()).await.is_none());
    assert!(hang_up_after(AT_ONCE, later.as_mut()).await.is_none());
    release.send(()).unwrap();
    busy.await.unwrap().unwrap();
    for response in [anew.await, later.await] {
        assert_eq!(response["rooms"]["join"].as_object().unwrap().len(), MANY);
    }
}

#[test]
fn a_first_sync_and_one_with_news_in_many_rooms_wait_for_a_worker_thread_and_others_do_not() {
    let one_thread = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    one_thread.block_on(many_rooms());
}
