//! Two servers, each of which asks the other: a join, a talk, what may be seen, a leave.

use std::sync::atomic::{AtomicUsize, Ordering};

use ruma::{events::room::member::MembershipState, signatures};
use wick_core::{Draft, rules};
use wick_database::schema::stream::EVENT_BY_STREAM;
use wick_inbound::{Answers, JoinState};
use wick_room::{Effects, NewRoom};

use super::*;

const ONE: &str = "one.example";
pub(super) const HERE: &str = "here.example";

/// Another server, asked by the one with this name. Begins without it.
#[derive(Clone)]
pub(super) struct Other {
    me: OwnedServerName,
    answers: Arc<Mutex<Option<Answers>>>,
    /// The most bytes of events that were verified at once.
    pub(super) largest: Arc<AtomicUsize>,
}

impl Other {
    pub(super) fn of(me: &str) -> Self {
        Self { me: name(me), answers: Arc::default(), largest: Arc::default() }
    }

    fn answers(&self) -> Result<Answers> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.clone().ok_or_else(unknown)
    }
}

fn name(server: &str) -> OwnedServerName {
    server.try_into().expect("it is a server name")
}

impl Peer for Other {
    fn is_in_reach(&self, _server: &ServerName) -> bool {
        true
    }

    async fn keys(
        &self,
        events: Vec<CanonicalJsonObject>,
        rules: &RoomVersionRules,
    ) -> Result<Vec<PublicKeyMap>> {
        let keys = |event| {
            let servers =
                signatures::required_server_signatures_to_verify_event(event, &rules.signatures);
            let key = |server: OwnedServerName| {
                let key = key_of(&server);
                let id = format!("ed25519:{}", key.version());
                let public = ruma::serde::Base64::new(key.public_key().to_vec());
                (server.to_string(), [(id, public)].into())
            };
            servers.unwrap_or_default().into_iter().map(key).collect()
        };
        let bytes = |event| serde_json::to_string(event).map_or(0, |text| text.len());
        self.largest.fetch_max(events.iter().map(bytes).sum(), Ordering::SeqCst);
        Ok(events.iter().map(keys).collect())
    }

    async fn event(&self, _server: &ServerName, event: OwnedEventId) -> Result<Box<RawValue>> {
        self.answers()?.event(&self.me, &event).await
    }

    async fn missing_events(
        &self,
        _server: &ServerName,
        wanted: MissingEvents,
    ) -> Result<Vec<Box<RawValue>>> {
        self.answers()?.missing_events(&self.me, wanted, 0).await
    }

    async fn state_ids(
        &self,
        _server: &ServerName,
        room: OwnedRoomId,
        event: OwnedEventId,
    ) -> Result<StateIds> {
        self.answers()?.state_ids(&self.me, &room, &event).await
    }

    async fn state(
        &self,
        _server: &ServerName,
        room: OwnedRoomId,
        event: OwnedEventId,
        events: &mut EventSpool,
    ) -> Result<()> {
        let answers = self.answers()?;
        let answer = answers.state(&self.me, &room, &event).await?;
        let state = answers.portion(&self.me, answer.state).await?;
        let auth_chain = answers.portion(&self.me, answer.auth_chain).await?;
        spool(events, state, auth_chain).await
    }

    async fn auth_chain(
        &self,
        _server: &ServerName,
        room: OwnedRoomId,
        event: OwnedEventId,
    ) -> Result<Vec<Box<RawValue>>> {
        let answers = self.answers()?;
        let chain = answers.event_auth(&self.me, &room, &event).await?;
        answers.portion(&self.me, chain).await
    }

    async fn backfill(
        &self,
        _server: &ServerName,
        room: OwnedRoomId,
        from: Vec<OwnedEventId>,
        limit: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        self.answers()?.backfill(&self.me, &room, from, limit).await
    }
}

fn content(value: serde_json::Value) -> CanonicalJsonObject {
    serde_json::from_value(value).expect("it is an object")
}

/// A server with a room of alice's, and another one that dave is on.
struct Pair {
    one: Server<Other>,
    here: Server<Other>,
    room: OwnedRoomId,
    version: RoomVersionId,
}

impl Pair {
    async fn start(version: RoomVersionId, visibility: &str) -> Self {
        let (to_here, to_one) = (Other::of(ONE), Other::of(HERE));
        let (one, here) = (Server::start(ONE, &to_here), Server::start(HERE, &to_one));
        for (other, server) in [(&to_here, &here), (&to_one, &one)] {
            let mut answers = other.answers.lock().unwrap_or_else(PoisonError::into_inner);
            *answers = Some(Answers::new(server.resources.clone(), Arc::clone(&server.graph)));
        }
        let room = make_room(&one, &version, visibility).await;
        Self { one, here, room, version }
    }

    async fn say(
        server: &Server<Other>,
        room: &OwnedRoomId,
        sender: &str,
        body: &str,
    ) -> OwnedEventId {
        let sender = sender.try_into().expect("it is a user id");
        let content = content(json!({ "body": body }));
        let draft = Draft::message(room.clone(), sender, "m.room.message".into(), content);
        server.graph.send(draft, Effects::default()).await.expect("it may").pdu.event_id.clone()
    }

    fn signed(
        &self,
        mut event: CanonicalJsonObject,
        server: &str,
    ) -> (OwnedEventId, Box<RawValue>) {
        let rules = rules::version_rules(&self.version).expect("it is supported");
        let server = name(server);
        let id = rules::hash_and_sign(&mut event, &rules, &server, &key_of(&server));
        (id.expect("it can be signed"), rules::to_json(&event).expect("it is small"))
    }

    /// Dave joins over the first server.
    async fn join(&self) -> Result<()> {
        let (dave, origin) = (DAVE.try_into().expect("it is a user id"), name(HERE));
        let (one, join) = (&self.one.inbound, MembershipState::Join);
        let (version, event) =
            one.make_member_event(&origin, &self.room, dave, &join, &versions())?;
        let (id, event) = self.signed(event, HERE);
        let entering = self.here.inbound.joining(self.room.clone(), version.clone());
        let event = one.take_member_event(&origin, &self.room, &id, event, &join).await?;
        let answers = Answers::new(self.one.resources.clone(), Arc::clone(&self.one.graph));
        let JoinState { state, auth_chain, .. } =
            answers.join_state(&origin, &self.room, &id, false).await?;
        let state = answers.portion(&origin, state).await?;
        let auth_chain = answers.portion(&origin, auth_chain).await?;
        JoinAnswer { version, event, state, auth_chain }.enter(&entering).await?;
        drop(entering);
        self.here.inbound.idle().await;
        Ok(())
    }

    fn json(server: &Server<Other>, id: &OwnedEventId) -> Box<RawValue> {
        let read = server.graph.database().published();
        let event = server.graph.event_by_id(&read, id).expect("it can be read");
        event.expect("it is here").1.json.clone()
    }
}

async fn make_room(one: &Server<Other>, version: &RoomVersionId, visibility: &str) -> OwnedRoomId {
    let alice: ruma::OwnedUserId = ALICE.try_into().expect("it is a user id");
    let mut said = json!({ "room_version": version });
    if version.rules().is_some_and(|rules| !rules.authorization.use_room_create_sender) {
        said["creator"] = json!(alice);
    }
    let nowhere: OwnedRoomId = "!nowhere:one.example".try_into().expect("it is a room id");
    let create = Draft::state(nowhere, alice.clone(), "m.room.create".into(), "", content(said));
    let new_room = NewRoom { version: version.clone(), create };
    let (room, ()) = one
        .graph
        .create(new_room, |room| {
            let id = room.room_id().to_owned();
            for (event_type, key, said) in [
                ("m.room.member", alice.as_str(), json!({ "membership": "join" })),
                ("m.room.join_rules", "", json!({ "join_rule": "public" })),
                ("m.room.history_visibility", "", json!({ "history_visibility": visibility })),
            ] {
                let draft =
                    Draft::state(id.clone(), alice.clone(), event_type.into(), key, content(said));
                room.append(draft, Effects::default())?;
            }
            Ok(())
        })
        .await
        .expect("alice may make rooms");
    room
}

#[tokio::test]
async fn two_servers_talk_in_a_room_from_a_join_to_a_leave() {
    for version in versions() {
        let mut pair = Pair::start(version, "shared").await;
        Pair::say(&pair.one, &pair.room, ALICE, "before").await;
        pair.join().await.expect("the room is public");
        let room = pair.room.clone();
        assert!(pair.one.inbound.take_in(&name(HERE), "0", Vec::new()).await.is_ok());

        // A gap of thirty events is filled by asking.
        let mut last = None;
        for n in 0..30 {
            last = Some(Pair::say(&pair.one, &room, ALICE, &n.to_string()).await);
        }
        let last = last.expect("something was said");
        pair.here.send(vec![Pair::json(&pair.one, &last)]).await;
        assert!(pair.here.is_in_timeline(&last));
        let answer = Pair::say(&pair.here, &room, DAVE, "i heard").await;
        pair.one.send(vec![Pair::json(&pair.here, &answer)]).await;
        assert!(pair.one.is_in_timeline(&answer));

        // All of the history can be had.
        let mut fetched = 0;
        while let came @ 1.. =
            pair.here.inbound.backfill(&room, None, 3).await.expect("it can be asked")
        {
            fetched += came;
        }
        assert_eq!(fetched, 5);
        assert_eq!(pair.here.timeline(), pair.one.timeline());

        let (dave, origin) = (DAVE.try_into().expect("it is a user id"), name(HERE));
        let (one, leave) = (&pair.one.inbound, MembershipState::Leave);
        let (_, event) =
            one.make_member_event(&origin, &room, dave, &leave, &versions()).expect("he may leave");
        let (id, event) = pair.signed(event, HERE);
        one.take_member_event(&origin, &room, &id, event, &leave).await.expect("he may leave");
        assert!(pair.one.is_in_timeline(&id));
        let refused = Answers::new(pair.one.resources.clone(), Arc::clone(&pair.one.graph));
        assert!(refused.event(&origin, &last).await.is_err(), "he is not in the room any more");
        for server in [&pair.one, &pair.here] {
            let read = server.graph.database().published();
            assert_eq!(invariants::check(&read).expect("everything can be read"), []);
            assert!(read.scan(&EVENT_BY_STREAM, Range::all()).count() > 0);
        }
    }
}

#[tokio::test]
async fn a_server_gets_events_redacted_that_its_users_may_not_see() {
    for (visibility, is_shown) in [("shared", true), ("joined", false), ("invited", false)] {
        let pair = Pair::start(RoomVersionId::V12, visibility).await;
        let before = Pair::say(&pair.one, &pair.room, ALICE, "a secret").await;
        let answers = Answers::new(pair.one.resources.clone(), Arc::clone(&pair.one.graph));
        let here = name(HERE);
        assert!(answers.event(&here, &before).await.is_err(), "no user of that server is in it");
        pair.join().await.expect("the room is public");
        let after = Pair::say(&pair.one, &pair.room, ALICE, "a secret").await;
        let shown = |json: Box<RawValue>| json.get().contains("a secret");
        let event = answers.event(&here, &before).await.expect("it is here");
        assert_eq!(shown(event), is_shown, "{visibility}");
        assert!(shown(answers.event(&here, &after).await.expect("it is here")));
        let from = vec![after.clone()];
        let events = answers.backfill(&here, &pair.room, from, 100).await.expect("it may");
        let count = events.into_iter().filter(|json| shown(json.clone())).count();
        assert_eq!(count, 1 + usize::from(is_shown), "{visibility}");
        let wanted = MissingEvents {
            room_id: pair.room.clone(),
            earliest: Vec::new(),
            latest: vec![after],
            limit: 100,
        };
        let events = answers.missing_events(&here, wanted, 0).await.expect("it may");
        let count = events.into_iter().filter(|json| shown(json.clone())).count();
        assert_eq!(count, usize::from(is_shown), "{visibility}");
    }
}

#[tokio::test]
async fn a_join_is_refused_for_others_users_for_unknown_versions_and_where_the_rules_do_not_allow_it()
 {
    let pair = Pair::start(RoomVersionId::V12, "shared").await;
    let (dave, origin) = (DAVE.try_into().expect("it is a user id"), name(HERE));
    let (one, join) = (&pair.one.inbound, MembershipState::Join);
    let made = |origin: &str, versions: &[RoomVersionId]| {
        one.make_member_event(&name(origin), &pair.room, dave, &join, versions)
    };
    assert!(made("other.example", &versions()).is_err());
    assert!(made(HERE, &[RoomVersionId::V10]).is_err());
    let (_, event) = made(HERE, &versions()).expect("the room is public");
    let (id, event) = pair.signed(event, HERE);
    let leave = MembershipState::Leave;
    let wrong = one.take_member_event(&origin, &pair.room, &id, event.clone(), &leave).await;
    assert!(wrong.is_err(), "it is no leave");
    let wrong = one.take_member_event(&name("x.y"), &pair.room, &id, event.clone(), &join).await;
    assert!(wrong.is_err(), "it is of another server");
    let ban = Draft::state(
        pair.room.clone(),
        ALICE.try_into().expect("it is a user id"),
        "m.room.member".into(),
        DAVE,
        content(json!({ "membership": "ban" })),
    );
    pair.one.graph.send(ban, Effects::default()).await.expect("alice may");
    let refused = one.take_member_event(&origin, &pair.room, &id, event, &join).await;
    assert!(refused.is_err(), "he was banned meanwhile");
    assert!(made(HERE, &versions()).is_err());
}
