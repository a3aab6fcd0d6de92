//! Resolving the difference against resolving the whole states, on generated forks.

use std::sync::Arc;

use proptest::prelude::*;
use ruma::{OwnedRoomId, OwnedUserId, state_res::StateMap};
use serde_json::{Value, json, value::to_raw_value};
use wick_core::Pdu;

use super::*;

type State = StateMap<OwnedEventId>;

const USERS: [&str; 5] = ["@a:one", "@b:two", "@c:three", "@d:four", "@e:five"];

/// A room of unsigned events, with the states of its branches.
struct Room {
    rules: RoomVersionRules,
    id: OwnedRoomId,
    events: HashMap<OwnedEventId, SharedPdu>,
}

impl Room {
    fn new(rules: RoomVersionRules) -> Self {
        let id = if rules.authorization.room_create_event_id_as_room_id { "!0" } else { "!r:one" };
        Self { rules, id: id.try_into().unwrap(), events: HashMap::new() }
    }

    /// Adds a state event to a branch, if the auth rules allow it there.
    fn add(
        &mut self,
        state: &mut State,
        (sender, at): (&str, u64),
        (kind, key): (&str, &str),
        content: Value,
    ) {
        let sender: OwnedUserId = sender.try_into().unwrap();
        let content = to_raw_value(&content).unwrap();
        let rules = &self.rules.authorization;
        let asked =
            state_res::auth_types_for_event(&kind.into(), &sender, Some(key), &content, rules)
                .unwrap();
        let event = Arc::new(Pdu {
            event_id: format!("${}", self.events.len()).try_into().unwrap(),
            room_id: self.id.clone(),
            sender,
            event_type: kind.into(),
            state_key: Some(key.to_owned()),
            origin_server_ts: wick_core::Timestamp(at),
            depth: at,
            prev_events: (0..self.events.len().min(1)).map(|_| "$0".try_into().unwrap()).collect(),
            auth_events: asked.iter().filter_map(|key| state.get(key).cloned()).collect(),
            redacts: None,
            sticky_duration: None,
            content,
            json: to_raw_value(&()).unwrap(),
            rejected: false,
        });
        let allowed = state_res::check_state_dependent_auth_rules(rules, &event, |kind, key| {
            state.get(&(kind.clone(), key.to_owned())).map(|id| Arc::clone(&self.events[id]))
        });
        if allowed.is_ok() {
            state.insert(event.state_tuple().unwrap(), event.event_id.clone());
            self.events.insert(event.event_id.clone(), event);
        }
    }

    fn start(&mut self) -> State {
        let mut state = State::new();
        let mut create = json!({ "room_version": "11" });
        let mut users = json!({ "@b:two": 50, "@c:three": 50 });
        if !self.rules.authorization.room_create_event_id_as_room_id {
            users["@a:one"] = json!(100);
            create["creator"] = json!("@a:one");
        }
        self.add(&mut state, ("@a:one", 0), ("m.room.create", ""), create);
        self.member(&mut state, 1, "@a:one", "@a:one", "join");
        self.add(&mut state, ("@a:one", 2), ("m.room.power_levels", ""), json!({ "users": users }));
        self.add(
            &mut state,
            ("@a:one", 3),
            ("m.room.join_rules", ""),
            json!({ "join_rule": "public" }),
        );
        self.member(&mut state, 4, "@b:two", "@b:two", "join");
        self.member(&mut state, 5, "@c:three", "@c:three", "join");
        assert_eq!(state.len(), 6);
        state
    }

    fn member(&mut self, state: &mut State, at: u64, sender: &str, user: &str, membership: &str) {
        self.add(state, (sender, at), ("m.room.member", user), json!({ "membership": membership }));
    }

    fn act(&mut self, state: &mut State, act: &Act) {
        let (sender, at) = (USERS[act.sender], act.at);
        let target = USERS[act.target];
        match act.kind {
            0 | 1 => self.member(state, at, sender, sender, "join"),
            2 => self.member(state, at, sender, sender, "leave"),
            3 => self.member(state, at, sender, target, "ban"),
            4 => self.member(state, at, sender, target, "leave"),
            5 => self.member(state, at, sender, target, "invite"),
            6 => {
                let rule = if act.target.is_multiple_of(2) { "public" } else { "invite" };
                self.add(
                    state,
                    (sender, at),
                    ("m.room.join_rules", ""),
                    json!({ "join_rule": rule }),
                );
            }
            7 | 8 => {
                let key = (StateEventType::RoomPowerLevels, String::new());
                let Some(levels) = state.get(&key) else { return };
                let mut content = self.events[levels].content_as::<Value>().unwrap();
                content["users"][target] = json!(if act.at.is_multiple_of(2) { 50 } else { 0 });
                self.add(state, (sender, at), ("m.room.power_levels", ""), content);
            }
            _ => {
                let name = json!({ "name": at.to_string() });
                self.add(state, (sender, at), ("m.room.name", ""), name);
            }
        }
    }

    fn chain(&self, id: &OwnedEventId) -> HashSet<OwnedEventId> {
        let mut chain = HashSet::from([id.clone()]);
        chain.extend(self.events[id].auth_events.iter().flat_map(|auth| self.chain(auth)));
        chain
    }

    /// Resolution of the whole states, word for word.
    fn resolve_whole(&self, states: &[State]) -> State {
        let chains = states
            .iter()
            .map(|state| state.values().flat_map(|id| self.chain(id)).collect::<EventIdSet<_>>());
        let fetch = |id: &EventId| self.events.get(id).cloned();
        let v2 = self.rules.state_res.v2_rules().unwrap();
        state_res::resolve(&self.rules.authorization, v2, states, chains.collect(), fetch, |set| {
            let conflicted: HashSet<_> = set.values().flatten().cloned().collect();
            let below = conflicted.iter().flat_map(|id| self.chain(id));
            let between =
                below.filter(|id| self.chain(id).iter().any(|id| conflicted.contains(id)));
            Some(between.collect())
        })
        .unwrap()
    }

    /// Resolution of the difference.
    fn resolve(&self, states: &[State]) -> State {
        let keys: HashSet<_> = states.iter().flat_map(State::keys).cloned().collect();
        let (mut differing, mut common) = (Differing::new(), State::new());
        for key in keys {
            let events: Vec<_> = states.iter().map(|state| state.get(&key).cloned()).collect();
            match &events[0] {
                Some(event) if events.iter().all(|e| e.as_ref() == Some(event)) => {
                    common.insert(key, event.clone());
                }
                _ => drop(differing.insert(key, events)),
            }
        }
        let source = Side { room: self, common: &common };
        let resolved = resolve(&self.rules, states.len(), &differing, &source).unwrap();
        common.extend(resolved);
        common
    }
}

struct Side<'a> {
    room: &'a Room,
    common: &'a State,
}

impl Source for Side<'_> {
    fn event(&self, id: &EventId) -> Result<SharedPdu> {
        Ok(Arc::clone(&self.room.events[id]))
    }

    fn common(&self, key: &StateKeyTuple) -> Result<Option<OwnedEventId>> {
        Ok(self.common.get(key).cloned())
    }

    fn common_resting_on(&self, _: &HashSet<OwnedEventId>) -> Result<Vec<OwnedEventId>> {
        Ok(self.common.values().cloned().collect())
    }
}

/// An event on a branch; `merge` first resolves that branch with another.
#[derive(Clone, Debug)]
struct Act {
    branch: usize,
    merge: Option<usize>,
    sender: usize,
    target: usize,
    kind: u8,
    at: u64,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let merge = prop::option::weighted(0.1, 0..3_usize);
    let act = (0..3_usize, merge, 0..USERS.len(), 0..USERS.len(), 0..11_u8, 6..30_u64).prop_map(
        |(branch, merge, sender, target, kind, at)| Act { branch, merge, sender, target, kind, at },
    );
    prop::collection::vec(act, 0..60)
}

fn check(rules: RoomVersionRules, acts: &[Act]) {
    let mut room = Room::new(rules);
    let start = room.start();
    let mut branches = [start.clone(), start.clone(), start];
    for act in acts {
        if let Some(other) = act.merge {
            let sides = [branches[act.branch].clone(), branches[other].clone()];
            branches[act.branch] = room.resolve_whole(&sides);
            assert_eq!(branches[act.branch], room.resolve(&sides));
        }
        let mut state = std::mem::take(&mut branches[act.branch]);
        room.act(&mut state, act);
        branches[act.branch] = state;
    }
    assert_eq!(room.resolve_whole(&branches), room.resolve(&branches));
    assert_eq!(room.resolve_whole(&branches[1..]), room.resolve(&branches[1..]));
    branches.rotate_left(1);
    assert_eq!(room.resolve_whole(&branches), room.resolve(&branches));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn resolving_the_difference_resolves_the_whole_up_to_version_11(acts in acts()) {
        check(RoomVersionRules::V6, &acts);
        check(RoomVersionRules::V11, &acts);
    }

    #[test]
    fn resolving_the_difference_resolves_the_whole_in_version_12(acts in acts()) {
        check(RoomVersionRules::V12, &acts);
    }
}

#[test]
fn a_failing_read_fails_the_resolution() {
    struct Broken;
    impl Source for Broken {
        fn event(&self, _: &EventId) -> Result<SharedPdu> {
            Err(Error::corrupt("broken"))
        }
        fn common(&self, _: &StateKeyTuple) -> Result<Option<OwnedEventId>> {
            Ok(None)
        }
        fn common_resting_on(&self, _: &HashSet<OwnedEventId>) -> Result<Vec<OwnedEventId>> {
            Ok(Vec::new())
        }
    }
    let sides = vec![Some("$1".try_into().unwrap()), None];
    let differing = Differing::from([((StateEventType::RoomName, String::new()), sides)]);
    assert!(resolve(&RoomVersionRules::V11, 2, &differing, &Broken).is_err());
}
