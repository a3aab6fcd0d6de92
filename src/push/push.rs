//! What all of it works with, and which pushers are at work.
//!
//! Invariant: a pusher is at work once at most; one that has something to send is at work, or will be once the follower
//! has come to it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wick_account::{Pushers, pushers::PusherKey};
use wick_core::{Position, Result, ShortUserId};
use wick_database::{Range, Read, schema::push::PENDING_PUSH_BY_POSITION};
use wick_notify::{Badges, Counts};
use wick_outbound::Outbound;
use wick_room::Graph;
use wick_runtime::{Follower, Resources, Supervisor};

use crate::{delivery::Delivery, due::Due, gateways::Gateways};

/// Sends notifications to push gateways.
#[derive(Clone)]
pub struct Push(Arc<Shared>);

/// What the follower and all deliveries work with.
pub(crate) struct Shared {
    pub(crate) resources: Resources,
    pub(crate) graph: Arc<Graph>,
    pub(crate) pushers: Arc<Pushers>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) badges: Badges,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) gateways: Gateways,
    pub(crate) supervisor: Arc<Supervisor>,
    /// The pushers at work; `true` if there is more than they have looked at.
    at_work: Mutex<HashMap<PusherKey, bool>>,
}

impl Push {
    /// For what happens in `graph`.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        pushers: Arc<Pushers>,
        counts: Arc<Counts>,
        outbound: Arc<Outbound>,
        supervisor: Arc<Supervisor>,
    ) -> Self {
        let database = resources.database.clone();
        Self(Arc::new(Shared {
            badges: Badges::new(database, Arc::clone(&graph), Arc::clone(&counts)),
            gateways: Gateways::new(&resources.config.push),
            resources,
            graph,
            pushers,
            counts,
            outbound,
            supervisor,
            at_work: Mutex::default(),
        }))
    }

    /// Resumes what was not sent yet, and follows the stream until the server stops.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn start(&self) -> Result<()> {
        for user in self.0.users_with_pending()? {
            self.0.wake(user)?;
        }
        let due = Due(Arc::clone(&self.0));
        let follower = Follower::new(self.0.resources.clone(), "push".to_owned(), due);
        follower.start(&self.0.supervisor, "push").await
    }
}

impl Shared {
    fn users_with_pending(&self) -> Result<Vec<ShortUserId>> {
        let read = self.resources.database.latest();
        let (mut users, mut rest) = (Vec::new(), Range::all());
        while let Some(((user, _), _)) = read.first(&PENDING_PUSH_BY_POSITION, rest)? {
            users.push(user);
            rest = Range::from(&(user.next(), Position::MIN));
        }
        Ok(users)
    }

    /// Sets the pushers of a user to work.
    pub(crate) fn wake(self: &Arc<Self>, user: ShortUserId) -> Result<()> {
        for key in self.pushers.keys(&self.resources.database.latest(), user)? {
            match self.at_work().entry(key.clone()) {
                Entry::Occupied(mut more) => drop(more.insert(true)),
                Entry::Vacant(at_work) => {
                    at_work.insert(false);
                    let shared = Arc::clone(self);
                    self.supervisor.spawn("pusher", move || Delivery::new(&shared, &key).run());
                }
            }
        }
        Ok(())
    }

    /// Whether a pusher that has found nothing to send has to look again. If not, it is not at work any more.
    pub(crate) fn has_more(&self, key: &PusherKey) -> bool {
        let mut at_work = self.at_work();
        match at_work.get_mut(key) {
            Some(more @ true) => {
                *more = false;
                true
            }
            _ => {
                at_work.remove(key);
                false
            }
        }
    }

    fn at_work(&self) -> MutexGuard<'_, HashMap<PusherKey, bool>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
