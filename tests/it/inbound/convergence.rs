//! Three servers that receive the same events in different orders, twice, with gaps, and with forged ones between
//! them, end in the same room.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const USERS: [&str; 4] = [ALICE, BOB, CAROL, "@erin:four.example"];
const SERVERS: [&str; 3] = ["a.example", "b.example", "c.example"];
/// Members of the room on each of the servers, the first of which sends the last message.
const WATCHERS: [&str; 3] = ["@w:a.example", "@w:b.example", "@w:c.example"];

/// An event on a branch, which may merge another branch.
#[derive(Clone, Debug)]
struct Action {
    branch: usize,
    merge: Option<usize>,
    sender: usize,
    target: usize,
    kind: u8,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let merge = prop::option::weighted(0.2, 0..3_usize);
    let action = (0..3_usize, merge, 0..4_usize, 0..4_usize, 0..9_u8).prop_map(
        |(branch, merge, sender, target, kind)| Action { branch, merge, sender, target, kind },
    );
    prop::collection::vec(action, 1..16)
}

/// The room with everything that was done, where the servers come in, and the last message.
struct Scenario {
    room: Arc<RoomBuilder>,
    join: OwnedEventId,
    said: Vec<OwnedEventId>,
    last: OwnedEventId,
}

fn scenario(version: RoomVersionId, actions: &[Action]) -> Scenario {
    let mut room = RoomBuilder::public(version, ALICE, &[BOB, CAROL]);
    for watcher in WATCHERS {
        room.member(&room.tips(), watcher, watcher, "join");
    }
    let join = room.tips()[0].clone();
    let prefix = room.order().len();
    let mut branches = [room.tips(), room.tips(), room.tips()];
    for (n, action) in actions.iter().enumerate() {
        let mut on = branches[action.branch].clone();
        on.extend(action.merge.map(|other| branches[other].clone()).into_iter().flatten());
        on.sort_unstable();
        on.dedup();
        if let Some(said) = perform(&mut room, n, action, &on) {
            branches[action.branch] = vec![said];
        }
    }
    let said = room.order()[prefix..].to_vec();
    let mut tips = branches.concat();
    tips.sort_unstable();
    tips.dedup();
    let last = room.message(&tips, WATCHERS[0], "the last message");
    Scenario { room: Arc::new(room), join, said, last }
}

fn perform(
    room: &mut RoomBuilder,
    n: usize,
    action: &Action,
    on: &[OwnedEventId],
) -> Option<OwnedEventId> {
    let (sender, target) = (USERS[action.sender], USERS[action.target]);
    Some(match action.kind {
        0 => room.member(on, sender, sender, "join"),
        1 => room.member(on, sender, sender, "leave"),
        2 => room.member(on, sender, target, "ban"),
        3 => room.member(on, sender, target, "leave"),
        4 => room.state(on, sender, "m.room.join_rules", json!({ "join_rule": "invite" })),
        5 => room.state(on, sender, "m.room.topic", json!({ "topic": n.to_string() })),
        6 => {
            let levels = room.resolved(on).get(&tuple("m.room.power_levels", "")).cloned()?;
            let mut content: Value =
                room.event(&levels).pdu.content_as().expect("levels are an object");
            content["users"][target] = json!(n % 2 * 50);
            room.state(on, sender, "m.room.power_levels", content)
        }
        7 => {
            let redacted = room.order()[room.order().len() - 1].clone();
            room.redaction(on, sender, &redacted)
        }
        _ => room.message(on, sender, "hello"),
    })
}

/// How the events are delivered to one server.
#[derive(Clone, Debug)]
struct Delivery {
    /// The order.
    ranks: Vec<u16>,
    /// Which events are not sent, so that they have to be fetched.
    gaps: Vec<bool>,
    /// Which come once more.
    repeated: Vec<bool>,
    /// Which come forged as well.
    forged: Vec<bool>,
    /// How many make a transaction.
    portion: usize,
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let bools = |chance| prop::collection::vec(prop::bool::weighted(chance), 16);
    (prop::collection::vec(any::<u16>(), 16), bools(0.3), bools(0.3), bools(0.2), 1..8_usize)
        .prop_map(|(ranks, gaps, repeated, forged, portion)| Delivery {
            ranks,
            gaps,
            repeated,
            forged,
            portion,
        })
}

fn forge(json: &RawValue) -> Box<RawValue> {
    let mut event: Value = serde_json::from_str(json.get()).expect("it is JSON");
    event["origin_server_ts"] = json!(1);
    serde_json::value::to_raw_value(&event).expect("it is JSON")
}

async fn deliver(name: &str, scenario: &Scenario, delivery: &Delivery) -> Server {
    let others = Others::new(&scenario.room);
    let mut server = Server::start(name, &others);
    server.join(&scenario.room, &scenario.join).await;
    let mut events: Vec<(u16, Box<RawValue>)> = Vec::new();
    for (n, id) in scenario.said.iter().enumerate() {
        let (json, rank) = (scenario.room.event(id).json(), delivery.ranks[n]);
        if delivery.forged[n] {
            events.push((rank / 2, forge(json)));
        }
        if !delivery.gaps[n] {
            events.push((rank, json.to_owned()));
        }
        if delivery.repeated[n] {
            events.push((rank.wrapping_mul(7), json.to_owned()));
        }
    }
    events.sort_by_key(|(rank, _)| *rank);
    let events: Vec<_> = events.into_iter().map(|(_, json)| json).collect();
    for portion in events.chunks(delivery.portion) {
        server.send(portion.to_vec()).await;
    }
    server.send(json_of(&scenario.room, std::slice::from_ref(&scenario.last))).await;
    server
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn three_servers_end_in_the_same_room_however_its_events_come(
        actions in actions(),
        version in 0..3_usize,
        deliveries in prop::collection::vec(delivery(), 3),
    ) {
        let scenario = scenario(versions()[version].clone(), &actions);
        run(async move {
            let known: HashSet<_> = scenario.room.order().iter().cloned().collect();
            let wanted = scenario.room.resolved(std::slice::from_ref(&scenario.last));
            for (name, delivery) in SERVERS.iter().zip(&deliveries) {
                let server = deliver(name, &scenario, delivery).await;
                server.sound();
                assert_eq!(server.queued(), 0);
                assert!(server.is_in_timeline(&scenario.last));
                assert_eq!(server.extremities(&scenario.room), [scenario.last.clone()].into());
                assert_eq!(server.state(&scenario.room), wanted, "at {name}");
                assert!(server.timeline().iter().all(|id| known.contains(id)), "nothing forged");
            }
        });
    }
}
