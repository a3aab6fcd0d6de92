//! State resolution over what differs between states, as a pure function of event ids.
//!
//! Gives what resolving the whole states would give: besides the differing pieces only those common pieces
//! are looked up that the auth rules can ask for, and only those events of the common pieces' auth chains
//! that decide whether an event belongs to the auth difference.
//!
//! Spec: <https://spec.matrix.org/v1.19/rooms/v2/#state-resolution>, and for the subgraph of version 12
//! <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    room_version_rules::RoomVersionRules,
    state_res::{self, StateMap, utils::event_id_set::EventIdSet},
};
use wick_core::{Error, Result, StateKeyTuple, event::pdu::SharedPdu};

/// Where resolution finds events, and the state that is common to all sides.
pub(crate) trait Source {
    /// An event of the room. One that is not there is an error: to leave it out would be another state than
    /// that of all other servers.
    fn event(&self, id: &EventId) -> Result<SharedPdu>;
    /// The event that sets a piece of state which does not differ.
    fn common(&self, key: &StateKeyTuple) -> Result<Option<OwnedEventId>>;
    /// The events that set the pieces of state which do not differ; those can be left out whose auth chains surely have
    /// none of `wanted`.
    fn common_resting_on(&self, wanted: &HashSet<OwnedEventId>) -> Result<Vec<OwnedEventId>>;
}

/// For each piece of state that differs: the event that sets it on each side, in the order of the sides.
pub(crate) type Differing = HashMap<StateKeyTuple, Vec<Option<OwnedEventId>>>;

/// The event that sets each differing piece after resolution, and pieces that no side had. A differing piece
/// that is not in the answer is set by no event any more.
pub(crate) fn resolve(
    rules: &RoomVersionRules,
    sides: usize,
    differing: &Differing,
    source: &impl Source,
) -> Result<StateMap<OwnedEventId>> {
    let v2 = rules
        .state_res
        .v2_rules()
        .ok_or_else(|| Error::corrupt("the room version has no state resolution that is known"))?;
    let graph = Graph::new(source);
    let mut states = vec![StateMap::new(); sides];
    let mut conflicted = HashSet::new();
    for (key, events) in differing {
        for (state, event) in states.iter_mut().zip(events) {
            if let Some(event) = event {
                state.insert(key.clone(), event.clone());
                conflicted.insert(event.clone());
            }
        }
    }
    let subgraph = if v2.consider_conflicted_state_subgraph {
        subgraph(&graph, &conflicted)
    } else {
        HashSet::new()
    };
    let difference = auth_difference(&graph, &states, &conflicted)?;
    let full: HashSet<&OwnedEventId> =
        conflicted.iter().chain(&subgraph).chain(&difference).collect();
    let asked = asked_keys(&graph, rules, full.iter().copied());
    for key in asked.iter().filter(|key| !differing.contains_key(*key)) {
        if let Some(event) = source.common(key)? {
            states.iter_mut().for_each(|state| drop(state.insert(key.clone(), event.clone())));
        }
    }
    // Everything in the first and nothing in the second is in the difference.
    let chains = vec![difference.into_iter().collect(), EventIdSet::new()];
    let subgraph: EventIdSet<_> = subgraph.into_iter().collect();
    let resolved = state_res::resolve(
        &rules.authorization,
        v2,
        &states,
        chains,
        |id| graph.event(id),
        |_| Some(subgraph.clone()),
    );
    graph.finish()?;
    let mut resolved = resolved.map_err(|e| Error::internal("state resolution failed", e))?;
    // Common pieces stay as they are and need no answer.
    let mut common = Vec::new();
    for key in resolved.keys().filter(|key| !differing.contains_key(*key)) {
        if source.common(key)?.is_some() {
            common.push(key.clone());
        }
    }
    common.iter().for_each(|key| drop(resolved.remove(key)));
    Ok(resolved)
}

/// Events with their auth events, loaded once.
struct Graph<'a, S> {
    source: &'a S,
    loaded: RefCell<HashMap<OwnedEventId, Option<SharedPdu>>>,
    failure: RefCell<Option<Error>>,
}

impl<'a, S: Source> Graph<'a, S> {
    fn new(source: &'a S) -> Self {
        Self { source, loaded: RefCell::default(), failure: RefCell::default() }
    }

    /// An event, without an error if it cannot be read; [`Self::finish`] returns it.
    fn event(&self, id: &EventId) -> Option<SharedPdu> {
        if let Some(known) = self.loaded.borrow().get(id) {
            return known.clone();
        }
        let event = match self.source.event(id) {
            Ok(event) => Some(event),
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                None
            }
        };
        self.loaded.borrow_mut().insert(id.to_owned(), event.clone());
        event
    }

    fn auth_events(&self, id: &EventId) -> Vec<OwnedEventId> {
        self.event(id).map_or_else(Vec::new, |event| event.auth_events.clone())
    }

    /// The error of the first read that failed.
    fn finish(&self) -> Result<()> {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }
}

/// Events with their auth chains, themselves included.
fn chain<S: Source>(
    graph: &Graph<'_, S>,
    from: impl IntoIterator<Item = OwnedEventId>,
) -> HashSet<OwnedEventId> {
    let mut seen = HashSet::new();
    let mut open: Vec<_> = from.into_iter().collect();
    while let Some(id) = open.pop() {
        if !seen.contains(&id) {
            open.extend(graph.auth_events(&id));
            seen.insert(id);
        }
    }
    seen
}

/// The events that are in the auth chain of some sides but not of all, without the conflicted ones.
///
/// A state's chain counts its own events too, as deployed servers have it.
fn auth_difference<S: Source>(
    graph: &Graph<'_, S>,
    states: &[StateMap<OwnedEventId>],
    conflicted: &HashSet<OwnedEventId>,
) -> Result<HashSet<OwnedEventId>> {
    let mut chains: HashMap<OwnedEventId, usize> = HashMap::new();
    for state in states {
        for id in chain(graph, state.values().cloned()) {
            *chains.entry(id).or_default() += 1;
        }
    }
    let mut difference: HashSet<_> = chains
        .into_iter()
        .filter(|(id, count)| *count < states.len() && !conflicted.contains(id))
        .map(|(id, _)| id)
        .collect();
    if difference.is_empty() {
        return Ok(difference);
    }
    // The auth chains of the common pieces are in the chains of all sides.
    let mut seen = HashSet::new();
    let mut open = graph.source.common_resting_on(&difference)?;
    while let Some(id) = open.pop() {
        if seen.contains(&id) {
            continue;
        }
        if difference.remove(&id) && difference.is_empty() {
            break;
        }
        open.extend(graph.auth_events(&id));
        seen.insert(id);
    }
    Ok(difference)
}

/// The events on the ways from one conflicted event to another along auth events, ends included.
fn subgraph<S: Source>(
    graph: &Graph<'_, S>,
    conflicted: &HashSet<OwnedEventId>,
) -> HashSet<OwnedEventId> {
    enum Step {
        Enter(OwnedEventId),
        Leave(OwnedEventId),
    }
    // Whether an event is conflicted or has a conflicted one in its auth chain; known once that is known of its auth events.
    let mut leads: HashMap<OwnedEventId, bool> = HashMap::new();
    let mut steps: Vec<_> = conflicted.iter().cloned().map(Step::Enter).collect();
    while let Some(step) = steps.pop() {
        match step {
            Step::Enter(id) if leads.contains_key(&id) => {}
            Step::Enter(id) => {
                leads.insert(id.clone(), false);
                let below = graph.auth_events(&id);
                steps.push(Step::Leave(id));
                steps.extend(below.into_iter().map(Step::Enter));
            }
            Step::Leave(id) => {
                let leading = conflicted.contains(&id)
                    || graph.auth_events(&id).iter().any(|auth| leads.get(auth) == Some(&true));
                leads.insert(id, leading);
            }
        }
    }
    leads.into_iter().filter_map(|(id, leading)| leading.then_some(id)).collect()
}

/// The pieces of state that the auth rules can ask for when they check these events, and the events' own.
fn asked_keys<'a, S: Source>(
    graph: &Graph<'_, S>,
    rules: &RoomVersionRules,
    events: impl Iterator<Item = &'a OwnedEventId>,
) -> HashSet<StateKeyTuple> {
    let mut keys = HashSet::from([
        (StateEventType::RoomCreate, String::new()),
        (StateEventType::RoomPowerLevels, String::new()),
    ]);
    for event in events.filter_map(|id| graph.event(id)) {
        keys.extend(event.state_tuple());
        let asked = state_res::auth_types_for_event(
            &event.event_type,
            &event.sender,
            event.state_key.as_deref(),
            &event.content,
            &rules.authorization,
        );
        // A malformed event is passed over by the auth checks as well.
        keys.extend(asked.into_iter().flatten());
    }
    keys
}

#[cfg(test)]
mod tests;
