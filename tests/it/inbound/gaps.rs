//! Events that refer to others which are not here.

use super::*;

fn say_many(count: usize) -> impl FnOnce(&mut RoomBuilder) {
    move |room| {
        for n in 0..count {
            if n % 7 == 0 {
                room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": n }));
            } else {
                room.message(&room.tips(), ALICE, &n.to_string());
            }
        }
    }
}

#[tokio::test]
async fn a_gap_is_filled_with_the_events_in_it() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), say_many(60)).await;
        let last = talk.json(59);
        talk.server.send(last).await;
        talk.check_all();
        let ids = talk.server.timeline();
        assert_eq!(ids[ids.len() - 60..], talk.said, "they are in order");
        assert_eq!(talk.others.world().asked, ["missing_events"; 3]);
    }
}

#[tokio::test]
async fn a_longer_gap_is_bridged_by_the_state_of_another_server() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), say_many(150)).await;
        let last = talk.json(149);
        talk.server.send(last).await;
        let (room, said) = (&talk.room, &talk.said);
        assert!(talk.server.is_in_timeline(&said[149]));
        assert!(talk.server.is_in_timeline(&said[60]));
        assert!(!talk.server.is_in_timeline(&said[30]));
        assert_eq!(talk.server.state(room), room.resolved(&said[149..]));
        assert_eq!(talk.server.queued(), 0);
        talk.server.sound();
        let asked = talk.others.world().asked.clone();
        assert!(asked.contains(&"state_ids") && asked.len() < 30, "{asked:?}");
    }
}

#[tokio::test]
async fn an_auth_chain_that_is_not_to_be_had_by_itself_comes_with_the_state() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), |room| {
            let user = |n| format!("@user{n}:three.example");
            for n in 0..40 {
                room.member(&room.tips(), &user(n), &user(n), "join");
            }
            for n in 0..110 {
                room.message(&room.tips(), &user(39), &n.to_string());
            }
        })
        .await;
        talk.others.world().chainless = true;
        let last = talk.json(149);
        talk.server.send(last).await;
        let (room, said) = (&talk.room, &talk.said);
        assert!(talk.server.is_in_timeline(&said[149]));
        assert!(!talk.server.is_in_timeline(&said[39]));
        assert_eq!(talk.server.state(room), room.resolved(&said[149..]));
        assert_eq!(talk.server.queued(), 0);
        talk.server.sound();
    }
}

#[tokio::test]
async fn a_state_stands_in_for_all_events_before_one_only_when_it_is_tried_again() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        room.message(&room.tips(), ALICE, "first");
        room.message(&room.tips(), ALICE, "second");
    })
    .await;
    talk.others.world().withheld = [talk.said[0].clone()].into();
    let last = talk.json(1);
    talk.server.send(last).await;
    assert!(talk.others.world().asked.iter().all(|asked| *asked == "missing_events"));
    assert_eq!(talk.server.queued(), 1);
    talk.server.wait(Duration::from_secs(120)).await;
    assert!(talk.server.is_in_timeline(&talk.said[1]));
    assert_eq!(talk.server.queued(), 0);
    talk.server.sound();
}

#[tokio::test]
async fn an_incomplete_state_is_not_passed_over_by_the_states_after_it() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), |room| {
            for _ in 0..5 {
                room.member(&room.tips(), BOB, BOB, "join");
            }
            for n in 0..3 {
                room.message(&room.tips(), BOB, &n.to_string());
            }
        })
        .await;
        let before = talk.server.state(&talk.room);
        talk.others.world().withheld = [talk.said[1].clone()].into();
        let last = talk.json(7);
        talk.server.send(last).await;
        let of_states = |asked: &&&str| **asked == "state_ids";
        let asked = talk.others.world().asked.iter().filter(of_states).count();
        assert!((1..=5).contains(&asked), "each server is asked for one state: {asked}");
        assert_eq!(talk.server.state(&talk.room), before);
        assert_eq!(talk.server.queued(), 1);
        talk.server.sound();
    }
}

#[tokio::test]
async fn an_event_whose_history_is_not_to_be_had_waits_and_is_received_when_it_is() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), say_many(3)).await;
        talk.others.world().withheld = talk.said[..2].iter().cloned().collect();
        talk.others.world().stateless = true;
        let last = talk.json(2);
        let results = talk.server.send(last).await;
        assert!(results[&talk.said[2]].is_ok(), "a state that is not to be had fails nothing");
        assert!(talk.server.place(&talk.said[2]).is_none());
        assert_eq!(talk.server.queued(), 1);

        // Too early.
        talk.others.world().withheld.clear();
        talk.server.wait(Duration::from_secs(30)).await;
        assert_eq!(talk.server.queued(), 1);
        talk.server.wait(Duration::from_secs(60)).await;
        talk.check_all();
    }
}

#[tokio::test]
async fn an_event_that_is_sent_again_is_tried_again_at_once() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), |room| {
            room.member(&room.tips(), "@erin:three.example", "@erin:three.example", "join");
            room.message(&room.tips(), "@erin:three.example", "hello");
        })
        .await;
        talk.others.world().withheld = [talk.said[0].clone()].into();
        talk.others.world().stateless = true;
        let (join, message) = (talk.json(0), talk.json(1));
        talk.server.send(message.clone()).await;
        assert!(talk.server.place(&talk.said[1]).is_none());
        talk.server.send(join).await;
        talk.server.send(message).await;
        talk.check_all();
    }
}

#[tokio::test]
async fn an_event_waits_for_its_whole_auth_chain() {
    for version in versions() {
        let mut talk = server_in(joined_room(version), |room| {
            let rules = json!({ "join_rule": "invite" });
            room.state(&room.tips(), ALICE, "m.room.join_rules", rules);
            room.member(&room.tips(), ALICE, "@erin:three.example", "invite");
            room.member(&room.tips(), "@erin:three.example", "@erin:three.example", "join");
            room.message(&room.tips(), "@erin:three.example", "hello");
        })
        .await;
        // All of the chain but one event can be had.
        talk.others.world().withheld = [talk.said[1].clone()].into();
        let message = talk.json(3);
        talk.server.send(message).await;
        assert!(talk.server.place(&talk.said[2]).is_none(), "the join rests on the invite");
        assert!(talk.server.place(&talk.said[3]).is_none());
        assert_eq!(talk.server.queued(), 1);
        talk.server.sound();
        talk.others.world().withheld.clear();
        talk.server.wait(Duration::from_secs(120)).await;
        talk.check_all();
    }
}

#[tokio::test]
async fn an_event_that_is_tried_in_vain_for_a_day_is_given_up() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), say_many(2)).await;
    talk.others.world().withheld = [talk.said[0].clone()].into();
    talk.others.world().stateless = true;
    let last = talk.json(1);
    talk.server.send(last).await;
    let mut waits = 0;
    while talk.server.queued() > 0 {
        talk.server.wait(Duration::from_secs(6 * 3600)).await;
        waits += 1;
        assert!(waits < 20, "it is tried for ever");
    }
    assert!(waits >= 3, "it was tried for less than a day");
    talk.server.sound();
}
