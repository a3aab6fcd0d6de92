//! Joins over another server.

use wick_harness::Strike;

use super::{
    answers::{HERE, Other},
    *,
};

/// What a server answers to `send_join`.
#[derive(Clone)]
pub(super) struct JoinAnswer {
    pub(super) version: RoomVersionId,
    pub(super) event: Box<RawValue>,
    pub(super) state: Vec<Box<RawValue>>,
    pub(super) auth_chain: Vec<Box<RawValue>>,
}

impl JoinAnswer {
    pub(super) async fn enter<P: Peer>(self, joining: &Joining<P>) -> Result<Option<Appended>> {
        let mut events = joining.spool();
        spool(&mut events, self.state, self.auth_chain).await?;
        let rules = wick_core::rules::version_rules(&self.version)?;
        let event = serde_json::from_str(self.event.get()).expect("it is an object");
        let id = wick_core::rules::event_id(&event, &rules)?;
        joining.enter((&id, self.event), events).await
    }
}

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
        version: room.version(),
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
        let appended = answer.enter(&entering).await.expect("the answer is sound");
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
        answer.enter(&entering).await.expect("the rest is enough");
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
        let error = answer.enter(&entering).await.expect_err("it is no answer to a join");
        assert!(error.kind().is_some(), "{error}");
        assert!(server.timeline().is_empty());
        server.sound();
    }
}

/// Joins of `count` users with a name of this length to a room, one after another, and that of dave after them.
fn crowd(room: &RoomBuilder, count: usize, length: usize) -> (Vec<Box<RawValue>>, Box<RawValue>) {
    let rules = wick_core::rules::version_rules(&room.version()).expect("it is supported");
    let mut prev = room.tips()[0].clone();
    let auth: Vec<_> = ["m.room.power_levels", "m.room.join_rules"]
        .iter()
        .map(|kind| room.resolved(&room.tips())[&tuple(kind, "")].clone())
        .collect();
    let mut join = |user: &str, depth: usize| {
        let event = json!({
            "type": "m.room.member",
            "sender": user,
            "state_key": user,
            "content": { "membership": "join", "displayname": "n".repeat(length) },
            "origin_server_ts": 1_700_000_000_000_u64,
            "depth": depth,
            "prev_events": [prev],
            "auth_events": auth,
            "room_id": room.room_id(),
        });
        let mut event: CanonicalJsonObject =
            serde_json::from_value(event).expect("it is an object");
        let server = user.split_once(':').expect("it is a user id").1;
        let server = <&ServerName>::try_from(server).expect("it is a server name");
        let id = wick_core::rules::hash_and_sign(&mut event, &rules, server, &key_of(server));
        prev = id.expect("it can be signed");
        wick_core::rules::to_json(&event).expect("it is small")
    };
    let joins = (0..count).map(|n| join(&format!("@u{n}:one.example"), 10 + n)).collect();
    (joins, join(DAVE, 10 + count))
}

#[tokio::test]
async fn a_room_of_many_members_is_joined_in_batches_of_which_the_last_one_makes_it_visible() {
    let count = 1_000;
    let room = RoomBuilder::public(RoomVersionId::V12, ALICE, &[]);
    let (members, join) = crowd(&room, count, 10);
    let (version, state) = (room.version(), json_of(&room, room.order()));
    let mut answer = JoinAnswer { version, event: join, state, auth_chain: Vec::new() };
    answer.state.extend(members);
    let strike = Strike::new();
    let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::default() };
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let server = Server::open(HERE, &Other::of(HERE), folder, options);
    let before = strike.commits();
    let entering = server.inbound.joining(room.room_id(), room.version());
    answer.enter(&entering).await.expect("the answer is sound");
    // 200 outliers each, the state, the room.
    assert_eq!(strike.commits() - before, 6 + 2);
    let read = server.graph.database().published();
    let short = server.graph.short(&read, &room.room_id()).expect("names can be read");
    let head = server.graph.head(&read, short.expect("the room is here"));
    let head = head.expect("heads can be read").expect("the room has a head");
    assert_eq!(head.counts.joined, 1_002);
    assert_eq!(server.timeline().len(), 1);
    server.sound();
}

#[tokio::test]
async fn of_a_large_answer_a_portion_is_looked_at_at_once_in_whatever_order_it_comes() {
    let room = RoomBuilder::public(RoomVersionId::V12, ALICE, &[]);
    // In all 18 MiB.
    let (members, join) = crowd(&room, 300, 60_000);
    let version = room.version();
    let mut answer = JoinAnswer { version, event: join, state: members, auth_chain: Vec::new() };
    answer.state.extend(json_of(&room, room.order()));
    // Each before what it rests on, and twice.
    answer.state.reverse();
    answer.state.rotate_left(room.order().len());
    answer.auth_chain = json_of(&room, room.order());
    answer.auth_chain.reverse();
    let other = Other::of(HERE);
    let server = Server::start(HERE, &other);
    let entering = server.inbound.joining(room.room_id(), room.version());
    answer.enter(&entering).await.expect("the answer is sound");
    let largest = other.largest.load(std::sync::atomic::Ordering::SeqCst);
    assert!(largest <= 512 << 10, "{largest} bytes were looked at at once");
    assert_eq!(server.state(&room).len(), room.resolved(&room.tips()).len() + 301);
    server.sound();
}

#[tokio::test]
async fn a_room_that_is_here_goes_on_while_another_user_joins_it_over_another_server() {
    let mut talk = server_in(joined_room(RoomVersionId::V12), |room| {
        room.message(&room.tips(), BOB, "hello");
    })
    .await;
    let entering = talk.server.inbound.joining(talk.room.room_id(), talk.room.version());
    let message = talk.json(0);
    talk.server.send(message).await;
    talk.check_all();
    drop(entering);
}
