//! The parts of the composition that take more than one step.

use std::sync::Arc;

use wick_account::{DeviceListener, Devices, Pushers, Sessions, Users};
use wick_calls::{Calls, LiveKit};
use wick_core::{Clock, Config, Random, Result};
use wick_database::Database;
use wick_encryption::DeviceEvents;
use wick_federation::Federation;
use wick_media::{MediaRepository, Previews, Store};
use wick_notify::Counts;
use wick_outbound::Outbound;
use wick_people::{Presence, Profiles};
use wick_push::Push;
use wick_remote::RemotePolicyServers;
use wick_room::{Graph, Hooks};
use wick_rooms::{Delayed, Memberships, Rooms, search};
use wick_runtime::{ConflictLock, Limits, Resources, Supervisor, Workers};
use wick_timers::{Expiry, Timers, timers};

use crate::Keys;

/// How much memory parsed events and state nodes may take.
const GRAPH_CACHE_BYTES: u64 = 24 << 20;

/// What every use case works with.
pub(crate) fn resources(
    config: &Arc<Config>,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
    database: &Database,
    (limits, supervisor): (&Arc<Limits>, &Supervisor),
) -> Resources {
    Resources {
        config: Arc::clone(config),
        database: database.clone(),
        clock: Arc::clone(clock),
        random: Arc::clone(random),
        limits: Arc::clone(limits),
        workers: Arc::new(Workers::new(supervisor)),
        conflicts: ConflictLock::default(),
    }
}

/// The accounts with their devices and sessions.
pub(crate) fn accounts(resources: &Resources) -> Result<(Arc<Sessions>, Arc<Devices>, Arc<Users>)> {
    let sessions = Arc::new(Sessions::new(resources.clone()));
    let listeners: Vec<Box<dyn DeviceListener>> = vec![Box::new(DeviceEvents)];
    let devices = Devices::new(resources.clone(), Arc::clone(&sessions), listeners);
    let (devices, limits) = (Arc::new(devices), Arc::clone(&resources.limits));
    let users = Users::new(resources.clone(), limits, Arc::clone(&devices))?;
    Ok((sessions, devices, Arc::new(users)))
}

/// The rooms, with what other layers do when something happens in them, and the timers.
pub(crate) fn graph(
    resources: &Resources,
    limits: &Arc<Limits>,
    presence: &Arc<Presence>,
    (keys, federation): (&Keys, Option<&Arc<Federation>>),
) -> Result<(Arc<Graph>, Arc<Timers>)> {
    let Resources { config, database, clock, random, .. } = resources.clone();
    let queue = Arc::new(timers::Queue::default());
    let hooks = Hooks {
        projections: vec![Box::new(Arc::clone(presence)), search::index()],
        timers: Some(timers::listener(resources, Arc::clone(&queue))),
        cancel_superseded: config.delayed_events.cancel_superseded,
        policy_servers: federation.map(|federation| {
            Arc::new(RemotePolicyServers::new(Arc::clone(federation), Arc::clone(&clock))) as _
        }),
    };
    let identity = (config.server.name.clone(), Arc::clone(&keys.signing));
    let graph = Graph::open(database, clock, random, identity, hooks, GRAPH_CACHE_BYTES);
    let (graph, limits) = (Arc::new(graph), Arc::clone(limits));
    let timers = Timers::new(resources.clone(), Arc::clone(&graph), queue, limits, keys.timer);
    Ok((graph, Arc::new(timers)))
}

/// The use cases that send events: at once, later, and when others expire.
pub(crate) fn rooms(
    resources: &Resources,
    (graph, timers): (&Arc<Graph>, &Arc<Timers>),
    profiles: &Arc<Profiles>,
    supervisor: &Arc<Supervisor>,
) -> (Arc<Expiry>, Arc<Rooms>, Arc<Delayed>) {
    let expiry = Expiry::new(resources.clone(), Arc::clone(graph), Arc::clone(timers));
    let expiry = Arc::new(expiry);
    let rooms = Arc::new(Rooms::new(
        resources.clone(),
        Arc::clone(graph),
        Arc::clone(profiles),
        Arc::clone(&expiry),
        Arc::clone(supervisor),
    ));
    let delayed = Arc::new(Delayed::new(
        resources.clone(),
        Arc::clone(graph),
        Arc::clone(timers),
        Arc::clone(&resources.limits),
        Arc::clone(&rooms),
    ));
    (expiry, rooms, delayed)
}

/// What becomes of the memberships of accounts.
pub(crate) fn memberships(
    resources: &Resources,
    graph: &Arc<Graph>,
    users: &Arc<Users>,
    profiles: &Arc<Profiles>,
    (expiry, delayed): (&Arc<Expiry>, &Arc<Delayed>),
) -> Arc<Memberships> {
    Arc::new(Memberships::new(
        resources.clone(),
        Arc::clone(graph),
        Arc::clone(users),
        Arc::clone(profiles),
        Arc::clone(expiry),
        Arc::clone(delayed),
    ))
}

/// Calls by a LiveKit server.
pub(crate) fn calls(
    resources: &Resources,
    graph: &Arc<Graph>,
    (timers, delayed, expiry): (&Arc<Timers>, &Arc<Delayed>, &Arc<Expiry>),
    peers: (Arc<dyn LiveKit>, Option<Arc<Federation>>),
) -> Arc<Calls> {
    let (graph, timers) = (Arc::clone(graph), Arc::clone(timers));
    let ends = (Arc::clone(delayed), Arc::clone(expiry));
    Arc::new(Calls::new(resources.clone(), graph, timers, ends, peers))
}

pub(crate) fn media(
    resources: &Resources,
    supervisor: &Arc<Supervisor>,
    outbound: &Arc<Outbound>,
    store: Option<Arc<dyn Store>>,
    federation: Option<&Arc<Federation>>,
) -> Result<(Arc<MediaRepository>, Arc<Previews>)> {
    let media = MediaRepository::new(
        resources.clone(),
        Arc::clone(supervisor),
        store,
        federation.cloned(),
    )?;
    let media = Arc::new(media);
    let previews = Previews::new(Arc::clone(&media), Arc::clone(outbound));
    Ok((media, Arc::new(previews)))
}

/// What counts the unread, and what sends notifications with it.
pub(crate) fn push(
    resources: &Resources,
    graph: &Arc<Graph>,
    outbound: &Arc<Outbound>,
    supervisor: &Arc<Supervisor>,
) -> Result<(Arc<Counts>, Arc<Pushers>, Push)> {
    let counts = Arc::new(Counts::new(Arc::clone(graph)));
    let pushers = Arc::new(Pushers::new(resources.clone())?);
    let push = Push::new(
        resources.clone(),
        Arc::clone(graph),
        Arc::clone(&pushers),
        Arc::clone(&counts),
        Arc::clone(outbound),
        Arc::clone(supervisor),
    );
    Ok((counts, pushers, push))
}
