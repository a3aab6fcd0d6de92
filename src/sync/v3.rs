//! `GET /_matrix/client/v3/sync`: waits for news and assembles the response.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#get_matrixclientv3sync>

mod response;
mod response_builder;
mod room;

use std::{sync::Arc, time::Duration};

use ruma::api::client::filter::FilterDefinition;
use tokio_util::sync::CancellationToken;
use wick_account::Session;
use wick_core::{Position, Result, SyncToken, clock::Sleep};
use wick_database::{Snapshot, Topic};
use wick_encryption::ToDevice;
use wick_notify::Counts;
use wick_people::{Presence, presence::Kind};
use wick_room::Graph;
use wick_rooms::History;
use wick_runtime::Resources;

pub use self::response::Response;
use self::response_builder::ResponseBuilder;
use crate::{Context, Lazy, joined::Joined};

/// In how many rooms there may be news for a response that is assembled on the async threads.
const MANY_ROOMS: usize = 100;

/// The parameters of a sync request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Up to where it knows everything; `None` for nothing.
    pub since: Option<SyncToken>,
    /// What it wants.
    pub filter: FilterDefinition,
    /// The whole state of every room.
    pub full_state: bool,
    /// How long to wait for news.
    pub timeout: Duration,
    /// The presence of its user while it waits.
    pub presence: Kind,
    /// Which state, under which names.
    pub state: StateAs,
}

/// Where the state of a room goes in the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateAs {
    /// As `state_after` (MSC4222).
    pub after: bool,
    /// The same by its unstable name.
    pub after_unstable: bool,
}

/// Answers syncs.
pub struct Sync {
    pub(crate) resources: Resources,
    pub(crate) graph: Arc<Graph>,
    pub(crate) history: History,
    presence: Arc<Presence>,
    pub(crate) stopping: CancellationToken,
    to_device: Arc<ToDevice>,
    lazy: Lazy,
    counts: Arc<Counts>,
    joined: Joined,
}

impl Sync {
    /// Syncs of what happens in `graph`. When `stopping` is cancelled, none waits any longer.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        presence: Arc<Presence>,
        to_device: Arc<ToDevice>,
        counts: Arc<Counts>,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let (joined, lazy) = (Joined::new(resources.database.clone()), Lazy::default());
        let history = History::new(resources.clone(), Arc::clone(&graph));
        Arc::new(Self {
            resources,
            graph,
            history,
            presence,
            stopping,
            to_device,
            lazy,
            counts,
            joined,
        })
    }

    /// What is new. Waits for news if there is none.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN` if the access token was revoked while it waited; `M_LIMIT_EXCEEDED` if too many large
    /// responses of the user wait for worker threads; if the database cannot be read.
    pub async fn sync(
        self: &Arc<Self>,
        session: Arc<Session>,
        request: Request,
    ) -> Result<Response> {
        let request = Arc::new(request);
        let timeout = request.timeout.min(self.resources.config.sync.max_timeout.0);
        let _connected = self.presence.connect(&session, request.presence, timeout).await?;
        let clock = &self.resources.clock;
        let mut deadline = clock.sleep_until(clock.monotonic() + timeout);
        if let Some(since) = request.since
            && !self.reach(since.position, timeout, &mut deadline).await
        {
            // Nothing is new to a token from the future, which the response repeats.
            return self.respond(&session, &request, self.resources.database.published());
        }
        self.acknowledge(&session, &request).await;
        let at_once = request.since.is_none() || request.full_state || timeout.is_zero();
        let mut news = self.joined.listen(session.user);
        let mut waited = false;
        loop {
            if !at_once {
                self.joined.register(&news)?;
            }
            let read = self.resources.database.published();
            if waited {
                session.ensure_live(&read)?;
            }
            let response = if self.is_large(&session, &request, &read)? {
                self.respond_on_workers(&session, &request, read).await?
            } else {
                self.respond(&session, &request, read)?
            };
            if at_once || !response.is_empty() {
                return Ok(response);
            }
            tokio::select! {
                () = news.changed() => waited = true,
                () = &mut deadline => return Ok(response),
                () = self.stopping.cancelled() => return Ok(response),
            }
        }
    }

    /// Deletes the messages that the device has come back with the token of. A request for everything anew
    /// acknowledges nothing: its device may have lost what it had.
    async fn acknowledge(&self, session: &Session, request: &Request) {
        let Some(since) = request.since.filter(|_| !request.full_state) else { return };
        let device = (session.user, &*session.device_id);
        if let Err(error) = self.to_device.acknowledge(device, since.to_device).await {
            // They are deleted with the next token; what is new can be read all the same.
            tracing::warn!(%error, "cannot delete delivered to-device messages");
        }
    }

    /// Waits until the stream has reached the position of a token, which can come from another node, or
    /// from before a restore. `false` if it was not reached in time.
    async fn reach(&self, since: Position, timeout: Duration, deadline: &mut Sleep) -> bool {
        let database = &self.resources.database;
        if since <= database.position() || timeout.is_zero() {
            return since <= database.position();
        }
        let mut stream = database.watch().topic(Topic::Stream);
        while since > database.position() {
            tokio::select! {
                () = stream.changed() => {}
                () = &mut *deadline => return false,
                () = self.stopping.cancelled() => return false,
            }
        }
        true
    }

    /// Whether a response may take so long that it does not belong on the async threads: a client that begins
    /// anew, or news in many rooms.
    fn is_large(&self, session: &Session, request: &Request, read: &Snapshot) -> Result<bool> {
        let Some(since) = request.since.filter(|_| !request.full_state) else { return Ok(true) };
        let joined = self.joined.rooms(read, session.user)?;
        if joined.len() <= MANY_ROOMS {
            return Ok(false);
        }
        let busy = self.resources.database.busy_since(since.position, joined.len());
        let news = busy.map(|busy| busy.iter().filter(|room| joined.contains(room)).count());
        Ok(news.is_none_or(|news| news > MANY_ROOMS))
    }

    async fn respond_on_workers(
        self: &Arc<Self>,
        session: &Arc<Session>,
        request: &Arc<Request>,
        read: Snapshot,
    ) -> Result<Response> {
        let (sync, user) = (Arc::clone(self), &session.user_id);
        let (session, request) = (Arc::clone(session), Arc::clone(request));
        let job = move || sync.respond(&session, &request, read);
        self.resources.workers.run(user, job).await
    }

    fn respond(&self, session: &Session, request: &Request, read: Snapshot) -> Result<Response> {
        let context = Context::new(&self.graph, session, read)?;
        ResponseBuilder::new(self, &context, request).build()
    }
}
