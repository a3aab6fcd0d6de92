//! The process dies at any commit while events are taken in: what was acknowledged is received in the end.

use wick_database::FaultAction;
use wick_harness::Strike;

use super::*;

fn forked() -> RoomBuilder {
    let mut room = joined_room(RoomVersionId::V12);
    let root = room.tips();
    let left = room.state(&root, BOB, "m.room.topic", json!({ "topic": "left" }));
    let right = room.member(&root, ALICE, CAROL, "ban");
    let both = room.message(&[left, right], BOB, "both");
    room.message(&[both], ALICE, "the last message");
    room
}

#[tokio::test]
async fn what_was_acknowledged_is_received_whatever_commit_the_process_dies_at() {
    let room = Arc::new(forked());
    let join = room.order()[room.order().len() - 5].clone();
    let last = room.tips()[0].clone();
    let mut commits = 0;
    for fate in [FaultAction::StopBefore, FaultAction::StopAfter] {
        for number in 1.. {
            let others = Others::new(&room);
            let strike = Strike::new();
            let fault = Some(Arc::clone(&strike) as _);
            let folder = tempfile::tempdir().expect("there is a temporary folder");
            let options = Options { fault, ..Options::default() };
            let server = Server::open("here.example", &others, folder, options);
            server.join(&room, &join).await;
            strike.at(number, fate);
            // The last one alone: the others are missing.
            let origin = <&ServerName>::try_from("one.example").expect("it is a server name");
            let events = json_of(&room, std::slice::from_ref(&last));
            let answered = server.inbound.take_in(origin, "1", events.clone()).await.is_ok();
            server.inbound.idle().await;
            let struck = strike.has_struck();

            let server = server.killed("here.example", &others).await;
            if !answered {
                server.inbound.take_in(origin, "1", events).await.expect("it is asked again");
            }
            server.wait(Duration::from_secs(120)).await;
            let at = format!("{fate:?} at commit {number}");
            assert_eq!(server.extremities(&room), [last.clone()].into(), "{at}");
            assert_eq!(server.state(&room), room.resolved(std::slice::from_ref(&last)), "{at}");
            assert_eq!(server.queued(), 0, "{at}");
            assert_eq!(server.timeline().len(), 5, "{at}");
            server.sound();
            if !struck {
                commits = number - 1;
                break;
            }
        }
    }
    assert!(commits >= 6, "the queue, four events, the end of the queue: {commits}");
}
