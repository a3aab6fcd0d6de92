//! Requests and firings at the same time: the first counts, and the other is answered accordingly.

use std::{sync::mpsc, time::Duration};

use ruma::OwnedRoomId;
use serde_json::json;
use tokio::{sync::oneshot, task::JoinHandle};
use wick_core::{Error, Result};
use wick_harness::hang_up_after;
use wick_room::invariants;

use super::later::{By, FORMS, Later, Told, WAYS, Way, delay_id, ok};
use crate::expiry::call::{Call, PATIENCE, errcode, seconds};

/// A room whose lock is held by a slow change.
struct Held {
    release: mpsc::Sender<()>,
    holder: JoinHandle<Result<()>>,
}

impl Held {
    async fn take(call: &Call, room: &OwnedRoomId) -> Self {
        let (graph, room) = (call.server.services().graph.clone(), room.clone());
        let (release, released) = mpsc::channel();
        let (begun, has_begun) = oneshot::channel();
        let mut begun = Some(begun);
        let runtime = tokio::runtime::Handle::current();
        let holder = tokio::task::spawn_blocking(move || {
            runtime.block_on(graph.transact(&room, |_| {
                begun.take().expect("it runs once").send(()).expect("it is waited for");
                released.recv().expect("it is released");
                Err(Error::forbidden("changed their mind"))
            }))
        });
        has_begun.await.expect("it begins");
        Self { release, holder }
    }

    async fn release(self) {
        self.release.send(()).expect("it is held");
        let ended = tokio::time::timeout(PATIENCE, self.holder).await.expect("it ends");
        assert!(ended.expect("it does not panic").is_err());
    }
}

fn sound(call: &Call) {
    let read = call.server.services().database.published();
    assert_eq!(invariants::check(&read).expect("everything can be read"), []);
}

#[tokio::test]
async fn a_room_that_takes_its_time_delays_no_other() {
    let mut call = Call::new().await;
    call.delay("slow").await;
    let slow = call.room.clone();
    let body = json!({ "preset": "public_chat" });
    let path = "/_matrix/client/v3/createRoom";
    let made = call.server.post(path, &call.alice.token, body).await.1;
    call.room = made["room_id"].as_str().unwrap().try_into().unwrap();
    call.delay("quick").await;
    let held = Held::take(&call, &slow).await;
    call.server.clock.advance(seconds(10)).await;
    call.until_said("quick").await;
    call.room = slow;
    assert_eq!(call.running(), 1);
    assert!(call.said().is_empty());
    held.release().await;
    call.until_said("slow").await;
    assert_eq!(call.running(), 0);
}

#[tokio::test]
async fn a_restart_that_is_answered_while_it_is_about_to_be_sent_counts() {
    let call = Call::new().await;
    for way in WAYS {
        let (name, other) = (format!("{way:?}"), format!("{way:?}-other"));
        let id = call.delay(&name).await;
        call.delay(&other).await;
        let held = Held::take(&call, &call.room).await;
        // It is due, was decided to be sent, and waits for the room.
        call.server.clock.advance(seconds(10)).await;
        ok(&call.manage(way, "", &id, "restart").await);
        held.release().await;
        // The other in the same batch goes all the same.
        call.until_said(&other).await;
        call.server.clock.advance(Duration::from_millis(9_999)).await;
        assert!(call.saying(&name).is_empty());
        assert_eq!(call.running(), 1);
        call.server.clock.advance(Duration::from_millis(1)).await;
        call.until_said(&name).await;
        sound(&call);
    }
}

/// Asks for something just before or just after it is decided that the event is due, and before it can be
/// sent; the delay id and the answer.
async fn in_between(
    call: &Call,
    (way, action): (Way, &str),
    name: &str,
    is_first: bool,
) -> (String, Told) {
    let id = call.delay(name).await;
    let held = Held::take(call, &call.room).await;
    let clock = &call.server.clock;
    let asking = call.manage(way, "", &id, action);
    let (told, ()) = if is_first {
        tokio::join!(biased; asking, async {
            clock.advance(seconds(10)).await;
            held.release().await;
        })
    } else {
        clock.advance(seconds(10)).await;
        tokio::join!(biased; asking, held.release())
    };
    let seen = call.until_over(&id).await;
    assert_eq!(seen.get("event_id").is_some(), call.saying(name).len() == 1);
    assert_eq!(call.running(), 0);
    sound(call);
    (id, told)
}

#[tokio::test]
async fn one_that_is_sent_by_hand_while_it_is_about_to_be_sent_is_sent_once() {
    let call = Call::new().await;
    for way in WAYS {
        for is_first in [true, false] {
            let name = format!("{way:?}-{is_first}");
            let (id, told) = in_between(&call, (way, "send"), &name, is_first).await;
            ok(&told);
            ok(&call.manage(way, "", &id, "send").await);
            call.server.clock.advance(seconds(60)).await;
            assert_eq!(call.saying(&name).len(), 1);
        }
    }
}

#[tokio::test]
async fn a_cancellation_while_it_is_about_to_be_sent_is_told_the_truth() {
    let call = Call::new().await;
    for way in WAYS {
        for is_first in [true, false] {
            let name = format!("{way:?}-{is_first}");
            let (_, told) = in_between(&call, (way, "cancel"), &name, is_first).await;
            // The first request is served first.
            let expected = if is_first { (200, "") } else { way.conflict() };
            assert_eq!(errcode(&told), expected, "{name}");
            call.server.clock.advance(seconds(60)).await;
            assert_eq!(call.saying(&name).len(), usize::from(!is_first));
        }
    }
}

#[tokio::test]
async fn of_sending_cancelling_and_restarting_at_once_each_is_told_the_truth() {
    let call = Call::new().await;
    for (number, way) in WAYS.into_iter().enumerate() {
        let name = format!("t{number}");
        let id = call.delay(&name).await;
        call.server.clock.advance(Duration::from_millis(9_999)).await;
        let act = |action| call.manage(way, "", &id, action);
        let (sent, cancelled, sent_too, cancelled_too, ()) = tokio::join!(
            act("send"),
            act("cancel"),
            act("send"),
            act("cancel"),
            call.server.clock.advance(Duration::from_millis(1))
        );
        let is_sent = call.saying(&name).len() == 1;
        let (fine, conflict) = ((200, ""), way.conflict());
        let (sending, cancelling) = if is_sent { (fine, conflict) } else { (conflict, fine) };
        assert_eq!((errcode(&sent), errcode(&sent_too)), (sending, sending));
        assert_eq!((errcode(&cancelled), errcode(&cancelled_too)), (cancelling, cancelling));
        call.server.clock.advance(seconds(60)).await;
        assert_eq!(call.saying(&name).len(), usize::from(is_sent));
        sound(&call);
    }
}

#[tokio::test]
async fn restarts_at_once_all_count() {
    let call = Call::new().await;
    let id = call.delay("t").await;
    for _ in 0..5 {
        call.server.clock.advance(seconds(9)).await;
        let act = || call.act(&id, "restart");
        let (a, b, c, d) = tokio::join!(act(), act(), act(), act());
        [a, b, c, d].iter().for_each(ok);
    }
    assert_eq!(call.running(), 1);
    call.server.clock.advance(seconds(10)).await;
    call.until_said("t").await;
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_schedules_leaves_one_event_or_none() {
    let call = Call::with(|config| config.delayed_events.max_scheduled = 3).await;
    for by in FORMS {
        // After as many steps of the request as it has.
        for steps in 0.. {
            let name = format!("{by:?}-{steps}");
            let (message, state) = (Later::message(&name), Later::state("seat", &name));
            let mut answered = false;
            for later in [&message, &state] {
                let request = call.later(&call.alice, by, later);
                answered |= hang_up_after(steps, request).await.is_some();
            }
            sound(&call);
            // A repeated request schedules it once.
            let id = delay_id(&call.later(&call.alice, by, &message).await);
            assert_eq!(delay_id(&call.later(&call.alice, by, &message).await), id);
            call.server.clock.advance(seconds(10)).await;
            call.until_over(&id).await;
            while call.running() > 0 {
                tokio::task::yield_now().await;
            }
            let mut said = call.saying(&name);
            said.retain(|event| event.get("state_key").is_none());
            assert_eq!(said.len(), 1, "{name}");
            if answered {
                break;
            }
        }
    }
    // None of them has kept a place.
    for name in ["a", "b", "c"] {
        call.delay(name).await;
    }
    assert_eq!(errcode(&call.later(&call.alice, By::Path, &Later::message("d")).await).0, 429);
}
