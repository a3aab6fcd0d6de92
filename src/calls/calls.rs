//! The token service: access to calls at LiveKit, under identities that belong to users.

use std::{sync::Arc, time::Duration};

use ruma::{UserId, api::error::ErrorKind};
use serde_json::json;
use wick_account::OpenId;
use wick_core::{Error, Result};
use wick_federation::Federation;
use wick_room::Graph;
use wick_rooms::Delayed;
use wick_runtime::{Limit, Resources, Supervisor};
use wick_timers::{Expiry, Timers};

use crate::{
    Failure, Handed, LiveKit, Seat, agenda::Agenda, diagnosis::HookTrace, ending::Ending,
    jwt::Signer, participants::Place, removal, watch::Watch,
};

/// How long a client may take from the token to the connection. LiveKit renews the tokens of those who are
/// connected.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

/// The calls of one LiveKit server.
pub struct Calls {
    pub(crate) resources: Resources,
    pub(crate) graph: Arc<Graph>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) delayed: Arc<Delayed>,
    pub(crate) expiry: Arc<Expiry>,
    pub(crate) livekit: Arc<dyn LiveKit>,
    pub(crate) signer: Signer,
    pub(crate) watch: Arc<Watch>,
    pub(crate) ending: Ending,
    /// The LiveKit rooms from which participants are to be removed.
    pub(crate) removals: Arc<Agenda<String>>,
    pub(crate) hooks: HookTrace,
    pub(crate) openid: OpenId,
    pub(crate) federation: Option<Arc<Federation>>,
}

/// What a client needs to enter a call.
pub struct Token {
    /// LiveKit's WebSocket URL.
    pub url: String,
    /// The token.
    pub jwt: String,
}

impl Calls {
    /// The calls of the LiveKit server that `livekit` reaches, with the key in the configuration.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        timers: Arc<Timers>,
        (delayed, expiry): (Arc<Delayed>, Arc<Expiry>),
        (livekit, federation): (Arc<dyn LiveKit>, Option<Arc<Federation>>),
    ) -> Self {
        let config = &resources.config.calls;
        Self {
            signer: Signer::new(config.livekit_key.clone(), config.livekit_secret.clone()),
            openid: OpenId::new(resources.clone()),
            watch: Arc::default(),
            ending: Ending::default(),
            removals: Arc::default(),
            hooks: HookTrace::default(),
            resources,
            graph,
            timers,
            delayed,
            expiry,
            livekit,
            federation,
        }
    }

    /// Starts the tasks: those that follow participants, those that end their timers, those that remove former members,
    /// and one that deletes old rows.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn start(self: &Arc<Self>, supervisor: &Supervisor) -> Result<()> {
        self.load()?;
        self.follow(supervisor);
        self.end_regularly(supervisor);
        self.ask_the_silent(supervisor);
        self.remove_regularly(supervisor)?;
        removal::follower(self).start(supervisor, "former members in calls").await?;
        self.sweep_regularly(supervisor);
        let calls = Arc::clone(self);
        supervisor.spawn_once("calls", async move {
            for problem in calls.diagnose().await {
                tracing::warn!(problem, "calls do not work yet");
            }
        });
        Ok(())
    }

    /// LiveKit's WebSocket URL, as it is announced to clients.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.resources.config.calls.livekit_url
    }

    /// A token for a seat, if the user is joined to its room. What is handed over is taken over as by
    /// [`Calls::delegate`]. Makes the room at LiveKit for a user of this server; clients may not, and users of other
    /// servers come to rooms that are there.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user is not joined, `M_INVALID_PARAM` for unusable ids, `M_LIMIT_EXCEEDED`; 502 if
    /// LiveKit does not answer.
    pub async fn token(&self, user_id: &UserId, seat: &Seat, handed: Handed<'_>) -> Result<Token> {
        self.resources.limits.ensure(Limit::Requests, &("calls", user_id))?;
        let place = Place::of(user_id, seat)?;
        let joined = self.joined(user_id, &seat.room_id)?;
        let timers = self.timers_of(joined, handed)?;
        // Before LiveKit is asked: what is handed over is kept although it does not answer.
        self.note(&place, joined, &timers).await?;
        if user_id.server_name() == self.resources.config.server.name {
            self.livekit.create_room(&place.room).await.map_err(unavailable)?;
        }
        let grants = json!({
            "room": place.room,
            "roomCreate": false,
            "roomJoin": true,
            "canPublish": true,
            "canSubscribe": true,
            "canUpdateOwnMetadata": false,
            "hidden": false,
        });
        let validity = (self.resources.clock.now(), TOKEN_LIFETIME);
        let jwt = self.signer.sign(&place.identity, &grants, validity)?;
        Ok(Token { url: self.url().to_owned(), jwt })
    }

    /// Takes timers over: each is kept alive while the participant is connected to LiveKit; when it is gone, a delayed
    /// event is sent and an event that expires has ended. A delayed event takes the place of one that was delegated
    /// for the same seat, which is cancelled; and so does an event that expires, and the other one has ended. A timer that
    /// was delegated for another seat moves to this one.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user is not joined to the room; `M_INVALID_PARAM` if a timer is not the user's, not in this
    /// room or does not run any more; `M_LIMIT_EXCEEDED`.
    pub async fn delegate(&self, user_id: &UserId, seat: &Seat, handed: Handed<'_>) -> Result<()> {
        self.resources.limits.ensure(Limit::Requests, &("calls", user_id))?;
        let place = Place::of(user_id, seat)?;
        let joined = self.joined(user_id, &seat.room_id)?;
        let timers = self.timers_of(joined, handed)?;
        self.note(&place, joined, &timers).await
    }
}

/// 502: LiveKit did not do what a request needs.
pub(crate) fn unavailable(failure: Failure) -> Error {
    tracing::warn!(%failure, "a request of a call failed");
    Error::refused_with(502, ErrorKind::Unknown, "the media server does not answer")
}
