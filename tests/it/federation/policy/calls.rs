//! Calls in rooms with a policy server, and beside them.

use std::sync::Arc;

use serde_json::json;

use super::{Policed, Rooms};
use crate::{
    delayed::later::Later,
    expiry::call::{Call, seconds},
    federation::waiting::until,
    livekit::stage::{FakeLiveKit, Seat, Stage, configure},
};

#[tokio::test]
async fn a_policy_server_that_does_not_answer_holds_up_no_call_of_another_room() {
    let livekit = Arc::new(FakeLiveKit::default());
    let policed = Policed::start_with(|options| {
        configure(&mut options.config);
        options.livekit = Some(Arc::clone(&livekit) as _);
    })
    .await;
    let other_room = policed.rooms.public().await;
    let Policed { rooms, room, policy } = policed;
    let Rooms { server, alice, .. } = rooms;
    let mut stage = Stage { call: Call { server, alice, room: room.clone() }, livekit };
    let slots: Vec<_> = (0..9).map(|slot| slot.to_string()).collect();
    let mut seats = Vec::new();
    for slot in &slots {
        let mut body = stage.body(&stage.call.alice, "m").await;
        (body["slot_id"], body["delay_id"]) = (json!(slot), json!(stage.leave(slot).await));
        let seat = Seat::of(&stage.ask("/get_token", body).await);
        seats.push((stage.enters(&seat).await, seat));
    }
    stage.call.room = other_room;
    let leave = stage.call.put_off(&Later::message("stays").after(&seconds(30))).await;
    let stays = Seat::of(&stage.token(&stage.call.alice, "stays", Some(&leave)).await);
    stage.enters(&stays).await;
    let (leaves, sid, _) = stage.delegated().await;

    policy.asked();
    let door = policy.door.lock().await;
    for (sid, seat) in &seats {
        stage.leaves(seat, sid, "CLIENT_INITIATED").await;
    }
    until(|| policy.asked_times() > 0).await;
    stage.leaves(&leaves, &sid, "CLIENT_INITIATED").await;
    stage.call.until_said("gone").await;
    stage.pass(200).await;
    assert_eq!(stage.call.said(), ["gone"], "the one that stays is connected");

    drop(door);
    stage.call.room = room;
    let all_said = || slots.iter().all(|slot| stage.call.said().contains(slot));
    let passing = async {
        while !all_said() {
            stage.pass(2).await;
        }
    };
    tokio::time::timeout(crate::expiry::call::PATIENCE, passing).await.unwrap();
    assert_eq!(stage.call.running(), 1);
}
