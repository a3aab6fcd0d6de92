//! All use cases of one server, built top to bottom: each gets what was built before it.

use std::{sync::Arc, time::Duration};

use ruma::OwnedUserId;
use serde_json::Value;
use wick_account::{
    AccountData, Devices, Filters, OpenId, Proof, PushRules, Pushers, Session, Sessions, Uia,
    Upkeep, Users,
};
use wick_calls::{Calls, LiveKit};
use wick_core::{
    Clock, Config, Random, Result, ShortUserId, SigningKeys, TimerId, config, signing::KeyStore,
};
use wick_database::{Database, Durability, Options, schema::timer::Feature};
use wick_encryption::{Backups, CrossSigning, DehydratedDevices, DeviceKeys, ToDevice};
use wick_federation::Network;
use wick_media::{MediaRepository, Previews, Store};
use wick_notify::Notifications;
use wick_outbound::Outbound;
use wick_people::{Presence, Profiles, Receipts, Typing, UserDirectory};
use wick_push::Push;
use wick_room::Graph;
use wick_rooms::{Delayed, GuestRemoval, History, Memberships, Reports, Rooms, Spaces};
use wick_runtime::{Health, Limits, Supervisor};
use wick_sync::Sync;
use wick_timers::{Expiry, Timers};

use crate::{Federated, avatars::Avatars, federation, open, timers::Kinds};

/// How often unused guests are looked for.
const GUESTS_EVERY: Duration = Duration::from_secs(3600);

/// How many positions a start leaves out. Those that a power loss took back, of commits that did not wait for the disk, may be
/// in tokens of clients and must not be given to anything else.
const LEFT_OUT: u64 = 1 << 24;

/// The same for a copy, which lacks everything that was done since it was made. Other servers read positions as numbers up to
/// 2^53, so there can be thousands of these.
const LEFT_OUT_BY_COPY: u64 = 1 << 40;

/// The use cases with what they work on.
pub struct Services {
    /// The configuration.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Makes tokens and ids.
    pub random: Arc<dyn Random>,
    /// The database.
    pub database: Database,
    /// Owns every task.
    pub supervisor: Arc<Supervisor>,
    /// Rate limits.
    pub limits: Arc<Limits>,
    /// Whether writes work.
    pub health: Health,
    /// Requests to addresses that users or other servers name.
    pub outbound: Arc<Outbound>,
    /// Sessions and their tokens.
    pub sessions: Arc<Sessions>,
    /// The devices of local users.
    pub devices: Arc<Devices>,
    /// The accounts of this server.
    pub users: Arc<Users>,
    /// User-interactive authentication.
    pub uia: Uia,
    /// Removes what has expired.
    pub upkeep: Upkeep,
    /// Profiles.
    pub profiles: Arc<Profiles>,
    /// What becomes of memberships when accounts change.
    pub memberships: Arc<Memberships>,
    /// Removes guests from rooms that guests can no longer join.
    pub guest_removal: GuestRemoval,
    /// Account data.
    pub account_data: AccountData,
    /// Stored filters.
    pub filters: Filters,
    /// Push rules.
    pub push_rules: PushRules,
    /// Where notifications go.
    pub pushers: Arc<Pushers>,
    /// Sends them there.
    pub push: Push,
    /// The public keys of devices.
    pub device_keys: DeviceKeys,
    /// Cross-signing keys, and the signatures on keys.
    pub cross_signing: CrossSigning,
    /// Backups of room keys.
    pub backups: Arc<Backups>,
    /// To-device messages.
    pub to_device: Arc<ToDevice>,
    /// Dehydrated devices.
    pub dehydrated_devices: DehydratedDevices,
    /// OpenID tokens.
    pub openid: OpenId,
    /// The rooms as a graph of events: what everything that happens in rooms is built on.
    pub graph: Arc<Graph>,
    /// What users were notified of.
    pub notifications: Notifications,
    /// What administrators should look at.
    pub reports: Reports,
    /// The user directory.
    pub user_directory: UserDirectory,
    /// Space hierarchies.
    pub spaces: Spaces,
    /// Room history.
    pub history: History,
    /// Events that expire.
    pub expiry: Arc<Expiry>,
    /// Delayed events.
    pub delayed: Arc<Delayed>,
    /// What both wait for.
    pub timers: Arc<Timers>,
    /// Calls by LiveKit, where a server is configured.
    pub calls: Option<Arc<Calls>>,
    /// Uploaded files.
    pub media: Arc<MediaRepository>,
    /// Previews of pages.
    pub previews: Arc<Previews>,
    /// Presence.
    pub presence: Arc<Presence>,
    /// Read receipts.
    pub receipts: Receipts,
    /// Typing notifications.
    pub typing: Arc<Typing>,
    /// Other servers, where federation is on.
    pub(crate) federated: Option<Federated>,
    /// `/sync`.
    pub sync: Arc<Sync>,
    /// The rooms as their members use them.
    pub rooms: Arc<Rooms>,
}

/// The server's secrets that are not in the database.
pub struct Keys {
    /// Signs events.
    pub signing: Arc<SigningKeys>,
    /// Where new signing keys go.
    pub store: Arc<dyn KeyStore>,
    /// What the handles of timers are derived from.
    pub timer: [u8; 32],
}

/// What the server reaches outside itself.
pub struct Remotes {
    /// Addresses that users or other servers name.
    pub outbound: Arc<Outbound>,
    /// What the names of other servers are resolved by.
    pub network: Network,
    /// The configured LiveKit server, if there is one.
    pub livekit: Option<Arc<dyn LiveKit>>,
    /// Where files are kept; the configured place if there is none.
    pub media_store: Option<Arc<dyn Store>>,
}

impl Services {
    /// Builds everything; no task runs yet.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn build(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        database: Database,
        keys: Keys,
        Remotes { outbound, network, livekit, media_store }: Remotes,
    ) -> Result<Arc<Self>> {
        let supervisor = Arc::new(Supervisor::new(Arc::clone(&clock)));
        let limits = Arc::new(Limits::new(&config, &clock));
        let resources =
            open::resources(&config, &clock, &random, &database, (&limits, &supervisor));
        let federation = federation::open(&resources, &keys, &network)?;
        let (sessions, devices, users) = open::accounts(&resources)?;
        let profiles = Arc::new(Profiles::new(resources.clone(), Arc::clone(&limits)));
        let presence = Arc::new(Presence::new(resources.clone()));
        let (graph, timers) =
            open::graph(&resources, &limits, &presence, (&keys, federation.as_ref()))?;
        let stopping = supervisor.stopping().clone();
        let (expiry, rooms, delayed) =
            open::rooms(&resources, (&graph, &timers), &profiles, &supervisor);
        let memberships =
            open::memberships(&resources, &graph, &users, &profiles, (&expiry, &delayed));
        let to_device = Arc::new(ToDevice::new(resources.clone()));
        let timed = (&timers, &delayed, &expiry);
        let calls = livekit
            .map(|livekit| open::calls(&resources, &graph, timed, (livekit, federation.clone())));
        let (media, previews) =
            open::media(&resources, &supervisor, &outbound, media_store, federation.as_ref())?;
        let (counts, pushers, push) = open::push(&resources, &graph, &outbound, &supervisor)?;
        let federated =
            Federated::open(federation.clone(), &resources, &graph, &supervisor, (&users, &rooms));
        let user_directory =
            UserDirectory::new(resources.clone(), Arc::clone(&graph), Arc::clone(&profiles));
        Ok(Arc::new(Self {
            config,
            clock,
            random,
            database,
            supervisor,
            health: Health::new(resources.clone()),
            outbound,
            sessions,
            dehydrated_devices: DehydratedDevices::new(resources.clone(), Arc::clone(&devices)),
            devices,
            uia: Uia::new(resources.clone(), Arc::clone(&limits), Arc::clone(&users)),
            upkeep: Upkeep::new(resources.clone(), Arc::clone(&users)),
            limits,
            users,
            user_directory,
            profiles,
            guest_removal: GuestRemoval::new(resources.clone(), Arc::clone(&graph), &memberships),
            memberships,
            account_data: AccountData::new(resources.clone()),
            filters: Filters::new(resources.clone()),
            push_rules: PushRules::new(resources.clone()),
            pushers,
            push,
            device_keys: DeviceKeys::new(resources.clone(), Arc::clone(&graph), federation),
            cross_signing: CrossSigning::new(resources.clone()),
            backups: Arc::new(Backups::new(resources.clone())),
            to_device: Arc::clone(&to_device),
            openid: OpenId::new(resources.clone()),
            notifications: Notifications::new(resources.clone(), Arc::clone(&graph)),
            reports: Reports::new(resources.clone(), Arc::clone(&graph)),
            spaces: Spaces::new(resources.clone(), Arc::clone(&graph)),
            history: History::new(resources.clone(), Arc::clone(&graph)),
            media,
            previews,
            presence: Arc::clone(&presence),
            receipts: Receipts::new(resources.clone(), Arc::clone(&graph)),
            typing: Arc::new(Typing::new(resources.clone(), Arc::clone(&graph))),
            federated,
            sync: Sync::new(resources, Arc::clone(&graph), presence, to_device, counts, stopping),
            graph,
            expiry,
            delayed,
            timers,
            calls,
            rooms,
        }))
    }

    /// Starts the tasks that run as long as the server. Call it once, in a runtime.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn start(self: &Arc<Self>) -> Result<()> {
        if self.database.is_copy()? {
            self.leave_out(LEFT_OUT_BY_COPY).await?;
            self.device_keys.drop_outdated().await?;
            self.database.adopt()?;
        } else {
            self.leave_out(LEFT_OUT).await?;
        }
        self.typing.start(&self.supervisor)?;
        self.presence.start(&self.supervisor)?;
        self.backups.start(&self.supervisor);
        self.to_device.start(&self.supervisor);
        self.device_keys.start(&self.supervisor).await?;
        self.timers.load()?;
        let kinds = Kinds { expiry: Arc::clone(&self.expiry), delayed: Arc::clone(&self.delayed) };
        self.timers.start(&self.supervisor, &(Arc::new(kinds) as _));
        self.expiry.start(&self.supervisor);
        self.upkeep.start(&self.supervisor);
        self.delayed.start(&self.supervisor);
        if let Some(calls) = &self.calls {
            calls.start(&self.supervisor).await?;
        }
        if let Some(federated) = &self.federated {
            federated.start().await?;
        }
        self.rooms.start();
        self.media.start(Arc::new(Avatars::new(self.database.clone(), Arc::clone(&self.graph))));
        self.memberships.start(&self.supervisor);
        if self.users.has_guests()? {
            self.guest_removal.start(&self.supervisor).await?;
            let memberships = Arc::clone(&self.memberships);
            self.supervisor.spawn_periodic("unused-guests", GUESTS_EVERY, move || {
                let memberships = Arc::clone(&memberships);
                async move { memberships.remove_unused_guests().await }
            });
        }
        self.push.start().await?;
        let services = Arc::clone(self);
        self.supervisor.spawn_once("memberships", async move {
            if let Err(error) = services.finish_departures().await {
                tracing::error!(%error, "cannot finish what an earlier run began");
            }
        });
        Ok(())
    }
}

impl Services {
    /// Leaves out positions, so that none is given out again to which a client may be ahead: it would never see what gets it.
    async fn leave_out(&self, positions: u64) -> Result<()> {
        let mut batch = self.database.batch();
        batch.reserve_position_after(positions);
        self.database.commit(batch, Durability::Synced).await?;
        Ok(())
    }

    /// Deactivates an account and ends what it left running. With `erase` its media is deleted, and its messages are shown
    /// redacted to those who were not in the room by then. Continues if the client hangs up.
    ///
    /// # Errors
    /// As [`Users::deactivate`].
    pub async fn deactivate(
        self: &Arc<Self>,
        user: ShortUserId,
        proof: Proof,
        erase: bool,
    ) -> Result<()> {
        let services = Arc::clone(self);
        let change = async move {
            services.users.deactivate(user, &proof, erase).await?;
            services.delete_media_if_erased(user).await?;
            services.leave_remote_rooms(user).await?;
            services.memberships.depart(user).await
        };
        self.supervisor.complete("deactivation", change).await
    }

    /// Finishes what a crash has interrupted when accounts were deactivated or changed their profile.
    async fn finish_departures(&self) -> Result<()> {
        for user in self.users.departing()? {
            self.delete_media_if_erased(user).await?;
            self.leave_remote_rooms(user).await?;
        }
        self.memberships.resume().await
    }

    async fn delete_media_if_erased(&self, user: ShortUserId) -> Result<()> {
        if self.users.is_erased(user)? {
            self.media.delete_all_of(user).await?;
        }
        Ok(())
    }

    /// Sets or removes a profile field, and puts it into the user's member events. Continues if
    /// the request is dropped.
    ///
    /// # Errors
    /// As [`Profiles::set`].
    pub async fn set_profile_field(
        self: &Arc<Self>,
        session: &Arc<Session>,
        user_id: OwnedUserId,
        key: String,
        value: Option<Value>,
    ) -> Result<()> {
        let (services, session) = (Arc::clone(self), Arc::clone(session));
        let change = async move {
            services.profiles.set(&session, &user_id, &key, value.as_ref()).await?;
            services.memberships.spread_profile(session.user).await
        };
        self.supervisor.complete("profile", change).await
    }

    /// Ends a timer for an administrator: an event that expires ends, a delayed event is cancelled.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it does not run.
    pub async fn end_timer(&self, timer: TimerId) -> Result<()> {
        match self.timers.feature_of(timer)? {
            Feature::Expiry => self.expiry.end_by_id(timer).await,
            Feature::Delay => self.delayed.cancel(timer).await,
        }
    }
}

/// How the configuration wants the database opened.
#[must_use]
pub fn database_options(config: &config::Database) -> Options {
    let bytes =
        |megabytes| usize::try_from(megabytes).unwrap_or(usize::MAX).saturating_mul(1 << 20);
    Options {
        durability: match config.durability {
            config::Durability::Synced => None,
            config::Durability::Flushed => Some(Durability::Flushed),
        },
        cache_bytes: bytes(config.cache_megabytes),
        write_buffer_bytes: bytes(config.write_buffer_megabytes),
        max_open_files: i32::try_from(config.max_open_files).unwrap_or(i32::MAX),
        fault: None,
    }
}
