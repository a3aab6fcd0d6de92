//! Joins over another server.

use super::*;

struct Joined {
    server: Server,
    others: Others,
    room: Arc<RoomBuilder>,
    join: OwnedEventId,
    answer: JoinAnswer,
}

fn joining(version: RoomVersionId, say: impl FnOnce(&mut RoomBuilder)) -> Joined {
    let mut room = joined_room(version);
    let join = room.tips()[0].clone();
    say(&mut room);
    let room = Arc::new(room);
    let others = Others::new(&room);
    let server = Server::start("here.example", &others);
    let state: Vec<_> = room.before(&join).values().cloned().collect();
    let answer = JoinAnswer {
        event: room.event(&join).json().to_owned(),
        state: json_of(&room, &state),
        auth_chain: json_of(&room, &room.auth_chain(&state)),
    };
    Joined { server, others, room, join, answer }
}

#[tokio::test]
async fn a_join_makes_the_room_and_its_events_that_came_meanwhile_follow() {
    for version in versions() {
        let Joined { mut server, room, join, answer, .. } = joining(version, |room| {
            room.message(&room.tips(), BOB, "welcome");
        });
        let entering = server.inbound.joining(room.room_id(), room.version());
        let welcome = room.tips();
        server.send(json_of(&room, &welcome)).await;
        assert_eq!(server.queued(), 1);
        let appended = entering.enter(answer).await.expect("the answer is sound");
        assert_eq!(appended.expect("it is new").pdu.event_id, join);
        drop(entering);
        server.inbound.idle().await;
        assert_eq!(server.timeline(), [join, welcome[0].clone()]);
        assert_eq!(server.state(&room), room.resolved(&welcome));
        assert_eq!(server.queued(), 0);
        server.sound();
    }
}

#[tokio::test]
async fn what_of_the_state_is_forged_or_cannot_be_verified_is_left_out_and_blocks_no_join() {
    for version in versions() {
        let Joined { server, others, room, join, mut answer } = joining(version, |_| ());
        others.world().keyless = ["three.example".to_owned()].into();
        let forge = |json: &RawValue| {
            let mut event: serde_json::Value =
                serde_json::from_str(json.get()).expect("it is JSON");
            if event["type"] == "m.room.topic" {
                event["signatures"]["two.example"]["ed25519:1"] = json!("AAAA");
            }
            serde_json::value::to_raw_value(&event).expect("it is JSON")
        };
        answer.state = answer.state.iter().map(|json| forge(json)).collect();
        answer.auth_chain = answer.auth_chain.iter().map(|json| forge(json)).collect();
        let entering = server.inbound.joining(room.room_id(), room.version());
        entering.enter(answer).await.expect("the rest is enough");
        let mut wanted = room.resolved(&[join]);
        wanted.remove(&tuple("m.room.topic", ""));
        wanted.remove(&tuple("m.room.member", CAROL));
        assert_eq!(server.state(&room), wanted);
        server.sound();
    }
}

#[tokio::test]
async fn an_answer_without_what_the_join_rests_on_makes_no_room() {
    let forgeries: [fn(&mut JoinAnswer); 3] = [
        |answer| answer.state.clear(),
        |answer| answer.state.retain(|json| !json.get().contains("m.room.join_rules")),
        |answer| answer.event = answer.state[0].clone(),
    ];
    for forge in forgeries {
        let Joined { server, room, mut answer, .. } = joining(RoomVersionId::V12, |_| ());
        forge(&mut answer);
        let entering = server.inbound.joining(room.room_id(), room.version());
        let error = entering.enter(answer).await.expect_err("it is no answer to a join");
        assert!(error.kind().is_some(), "{error}");
        assert!(server.timeline().is_empty());
        server.sound();
    }
}
