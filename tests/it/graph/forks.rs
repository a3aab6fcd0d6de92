//! Forks and what joins them: extremities, resolved states, orders of arrival.

use proptest::prelude::*;

use wick_database::{Range, schema::state::DISORDER_BY_ROOM};

use super::*;

#[tokio::test]
async fn a_room_without_forks_ends_in_the_state_of_its_last_event_in_every_version() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        room.state(&room.tips(), BOB, "m.room.topic", json!({ "topic": "first" }));
        room.message(&room.tips(), BOB, "hello");
        room.state(&room.tips(), ALICE, "m.room.topic", json!({ "topic": "second" }));
        let server = Server::with(&room).await;
        assert_eq!(server.extremities(&room), room.tips().into_iter().collect());
        assert!(server.state(&room).contains_key(&tuple("m.room.topic", "")), "{version}");
        server.check(&room);
    }
}

#[tokio::test]
async fn the_branches_of_a_fork_are_both_extremities_until_an_event_joins_them() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let root = room.tips();
        let left = room.message(&root, ALICE, "left");
        let right = room.message(&root, BOB, "right");
        let server = Server::with(&room).await;
        assert_eq!(server.extremities(&room), set(&[&left, &right]));

        let merge = room.message(&[left, right], ALICE, "both");
        assert!(accepted(server.receive(&room, &merge).await));
        assert_eq!(server.extremities(&room), set(&[&merge]));
        server.check(&room);
    }
}

#[tokio::test]
async fn an_event_of_this_server_joins_the_branches() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB, DAVE]);
        let root = room.tips();
        let left = room.state(&root, ALICE, "m.room.topic", json!({ "topic": "left" }));
        let right = room.state(&root, BOB, "m.room.topic", json!({ "topic": "right" }));
        let server = Server::with(&room).await;
        let wanted = room.resolved(&[left.clone(), right.clone()]);
        assert_eq!(server.state(&room), wanted);

        let content = serde_json::from_value(json!({ "body": "hello" })).expect("it is an object");
        let sender = DAVE.try_into().expect("it is a user id");
        let draft = Draft::message(room.room_id(), sender, "m.room.message".into(), content);
        let sent = server.rooms.send(draft, Effects::default()).await.expect("dave is in the room");
        let prev: BTreeSet<_> = sent.pdu.prev_events.iter().cloned().collect();
        assert_eq!(prev, set(&[&left, &right]));
        assert_eq!(server.extremities(&room), set(&[&sent.pdu.event_id]));
        assert_eq!(server.state(&room), wanted);
    }
}

#[tokio::test]
async fn of_two_topics_set_at_once_the_later_one_is_current_in_whatever_order_they_come() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let root = room.tips();
        let early = room.state(&root, ALICE, "m.room.topic", json!({ "topic": "early" }));
        let late = room.state(&root, BOB, "m.room.topic", json!({ "topic": "late" }));
        let (first, rest) = room.order().split_at(room.order().len() - 2);
        for order in [[&rest[0], &rest[1]], [&rest[1], &rest[0]]] {
            let server = Server::start();
            for id in first.iter().chain(order) {
                server.receive(&room, id).await;
            }
            let state = server.state(&room);
            assert_eq!(state.get(&tuple("m.room.topic", "")), Some(&late), "{version} {early}");
            server.check(&room);
        }
    }
}

#[tokio::test]
async fn who_is_banned_on_one_branch_has_no_say_on_the_other() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let root = room.tips();
        let topic = room.state(&root, BOB, "m.room.topic", json!({ "topic": "bob was here" }));
        let ban = room.member(&root, ALICE, BOB, "ban");
        let server = Server::with(&room).await;
        assert_eq!(server.extremities(&room), set(&[&topic, &ban]));
        let state = server.state(&room);
        assert_eq!(state.get(&tuple("m.room.member", BOB)), Some(&ban), "{version}");
        assert_eq!(state.get(&tuple("m.room.topic", "")), None, "{version}");
        assert_eq!(server.head(&room).counts.joined, 1);
        assert_eq!(server.head(&room).counts.banned, 1);
        server.check(&room);
    }
}

#[tokio::test]
async fn a_soft_failed_event_never_becomes_an_extremity() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB, CAROL]);
        let root = room.tips();
        let ban = room.member(&root, ALICE, BOB, "ban");
        let server = Server::with(&room).await;

        let late = room.message(&root, BOB, "i know of no ban");
        assert!(soft_failed(server.receive(&room, &late).await), "{version}");
        assert_eq!(server.extremities(&room), set(&[&ban]));
        assert_eq!(server.place(&late).and_then(|place| place.position), None);

        let on_late = room.message(std::slice::from_ref(&late), CAROL, "i saw bob");
        assert!(accepted(server.receive(&room, &on_late).await), "{version}");
        assert_eq!(server.extremities(&room), set(&[&ban, &on_late]));
        server.check(&room);

        let merge = room.message(&[ban, on_late], CAROL, "both");
        assert!(accepted(server.receive(&room, &merge).await), "{version}");
        assert_eq!(server.extremities(&room), set(&[&merge]));
        server.check(&room);
    }
}

#[tokio::test]
async fn a_reference_to_an_event_before_it_comes_changes_no_resolution() {
    for version in versions() {
        let mut room = RoomBuilder::public(version.clone(), ALICE, &[BOB]);
        let root = room.tips();
        let prefix = room.order().len();
        let rules = room.state(&root, ALICE, "m.room.join_rules", json!({ "join_rule": "invite" }));
        let invite = room.member(std::slice::from_ref(&rules), ALICE, CAROL, "invite");
        let join = room.member(std::slice::from_ref(&invite), CAROL, CAROL, "join");
        let relation = json!({ "rel_type": "m.reference", "event_id": join });
        let content = json!({ "body": "i saw it", "m.relates_to": relation });
        let event_type = "m.room.message";
        let new_event =
            NewEvent { sender: BOB, event_type, state_key: None, content, auth_events: None };
        let early = room.add(&root, new_event);
        let left = room.member(&[join.clone(), early.clone()], CAROL, CAROL, "join");
        let right = room.state(&[join.clone(), early.clone()], BOB, "m.room.topic", json!({}));
        let order = [early, rules, invite, join, left, right];
        let server = deliver(&room, prefix, order.to_vec()).await;
        let read = server.rooms.database().published();
        let rooms = read.scan(&DISORDER_BY_ROOM, Range::all()).count();
        assert_eq!(rooms, 1, "{version}: the join is named before what allows it");
        server.check(&room);
    }
}

/// An event on a branch; `merge` has it also follow another branch.
#[derive(Clone, Debug)]
struct Act {
    branch: usize,
    merge: Option<usize>,
    sender: usize,
    target: usize,
    kind: u8,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let merge = prop::option::weighted(0.2, 0..3_usize);
    let act = (0..3_usize, merge, 0..4_usize, 0..4_usize, 0..8_u8).prop_map(
        |(branch, merge, sender, target, kind)| Act { branch, merge, sender, target, kind },
    );
    prop::collection::vec(act, 1..16)
}

fn acted(version: RoomVersionId, acts: &[Act]) -> (RoomBuilder, usize) {
    const USERS: [&str; 4] = [ALICE, BOB, CAROL, DAVE];
    let mut room = RoomBuilder::public(version, ALICE, &[BOB, CAROL]);
    let prefix = room.order().len();
    let mut branches = [room.tips(), room.tips(), room.tips()];
    for (n, act) in acts.iter().enumerate() {
        let mut on = branches[act.branch].clone();
        on.extend(act.merge.map(|other| branches[other].clone()).into_iter().flatten());
        on.sort_unstable();
        on.dedup();
        let (sender, target) = (USERS[act.sender], USERS[act.target]);
        let said = match act.kind {
            0 => room.member(&on, sender, sender, "join"),
            1 => room.member(&on, sender, sender, "leave"),
            2 => room.member(&on, sender, target, "ban"),
            3 => room.member(&on, sender, target, "leave"),
            4 => room.state(&on, sender, "m.room.join_rules", json!({ "join_rule": "invite" })),
            5 => room.state(&on, sender, "m.room.topic", json!({ "topic": n.to_string() })),
            6 => {
                let levels = room.resolved(&on).get(&tuple("m.room.power_levels", "")).cloned();
                let Some(levels) = levels else { continue };
                let mut content: Value =
                    room.event(&levels).pdu.content_as().expect("levels are an object");
                content["users"][target] = json!(n % 2 * 50);
                room.state(&on, sender, "m.room.power_levels", content)
            }
            _ => room.message(&on, sender, "hello"),
        };
        branches[act.branch] = vec![said];
    }
    (room, prefix)
}

/// Delivers events in this order, each again after what it misses has come.
async fn deliver(room: &RoomBuilder, prefix: usize, mut waiting: Vec<OwnedEventId>) -> Server {
    let server = Server::start();
    for id in &room.order()[..prefix] {
        server.receive(room, id).await;
    }
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut missing = Vec::new();
        for id in waiting {
            match server.receive(room, &id).await {
                Some(Received::Missing(_)) => missing.push(id),
                Some(Received::Rejected(..)) => assert!(!room.event(&id).allowed),
                Some(Received::SoftFailed(_) | Received::Accepted(_)) => {
                    assert!(room.event(&id).allowed);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(missing.len() < before, "nothing comes on");
        waiting = missing;
    }
    server
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn two_orders_of_arrival_end_in_the_same_state(
        acts in acts(),
        version in 0..7_usize,
        ranks in prop::collection::vec(any::<u16>(), 16),
    ) {
        let (room, prefix) = acted(versions()[version].clone(), &acts);
        let in_order = room.order()[prefix..].to_vec();
        let mut ranked: Vec<_> = ranks.iter().zip(&in_order).collect();
        ranked.sort_unstable();
        let shuffled: Vec<_> = ranked.into_iter().map(|(_, id)| id.clone()).collect();
        let comparable = run(async move {
            let (one, two) =
                (deliver(&room, prefix, in_order).await, deliver(&room, prefix, shuffled).await);
            one.check(&room);
            two.check(&room);
            // What is soft-failed depends on what was there first; without that nothing does.
            let comparable = one.extremities(&room) == two.extremities(&room);
            if comparable {
                assert_eq!(one.state(&room), two.state(&room));
            }
            comparable
        });
        // Cases that compare nothing do not count as cases.
        prop_assume!(comparable);
    }
}
