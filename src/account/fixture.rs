//! What the unit tests of use cases share: a database in a temporary folder, a clock that is moved
//! by hand, randomness that repeats.

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use wick_core::{
    Clock, Config, Monotonic, Random, Timestamp,
    clock::{Sleep, millis},
    config::Mode,
};
use wick_database::{Database, Options};
use wick_runtime::{ConflictLock, Limits, Resources, Supervisor, Workers};

use crate::{
    AccountData, Devices, PushRules, Pushers, Session, Sessions, Uia, Users,
    devices::NewDevice,
    proof::Proof,
    sessions::Tokens,
    users::{LogIn, LoggedIn, NewAccount},
};

/// A server's accounts, without a server.
pub(crate) struct Fixture {
    pub(crate) resources: Resources,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) devices: Arc<Devices>,
    pub(crate) users: Arc<Users>,
    pub(crate) account_data: AccountData,
    pub(crate) push_rules: PushRules,
    pub(crate) pushers: Pushers,
    pub(crate) uia: Uia,
    _folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.registration.mode = Mode::Open;
        config.limits.enabled = false;
        config.accounts.argon2_memory_kilobytes = 8;
        config.accounts.argon2_iterations = 1;
        configure(&mut config);
        let clock = Arc::new(HandClock(AtomicU64::new(1_000_000)));
        let supervisor = Supervisor::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let config = Arc::new(config);
        let limits = Arc::new(Limits::new(&config, &(Arc::clone(&clock) as _)));
        let resources = Resources {
            config,
            database: Database::open(folder.path(), Options::default()).unwrap(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(Counter::default()),
            limits: Arc::clone(&limits),
            workers: Arc::new(Workers::new(&supervisor)),
            conflicts: ConflictLock::default(),
        };
        let sessions = Arc::new(Sessions::new(resources.clone()));
        let devices = Arc::new(Devices::new(resources.clone(), Arc::clone(&sessions), Vec::new()));
        let users =
            Users::new(resources.clone(), Arc::clone(&limits), Arc::clone(&devices)).unwrap();
        let users = Arc::new(users);
        Self {
            clock,
            sessions,
            devices,
            account_data: AccountData::new(resources.clone()),
            push_rules: PushRules::new(resources.clone()),
            pushers: Pushers::new(resources.clone()).unwrap(),
            uia: Uia::new(resources.clone(), limits, Arc::clone(&users)),
            users,
            resources,
            _folder: folder,
        }
    }

    /// Makes an account with the password `password` and logs a device of it in.
    pub(crate) async fn register(&self, localpart: &str, device: NewDevice) -> Tokens {
        let new = NewAccount {
            localpart: Some(localpart.to_owned()),
            password: "password".to_owned(),
            admin: false,
            device: Some(device),
        };
        self.users.register(new, &Proof::not_needed()).await.unwrap().device.unwrap().1
    }

    pub(crate) async fn log_in(&self, localpart: &str, device_id: &str) -> LoggedIn {
        let device = NewDevice { device_id: Some(device_id.into()), ..NewDevice::default() };
        let log_in = LogIn {
            identifier: localpart.to_owned(),
            password: "password".to_owned(),
            device,
            address: None,
        };
        self.users.log_in(log_in).await.unwrap()
    }

    pub(crate) async fn session(&self, tokens: &Tokens) -> Arc<Session> {
        self.sessions.authenticate(&tokens.access).await.unwrap()
    }
}

/// A device that wants a refresh token.
pub(crate) fn refreshing() -> NewDevice {
    NewDevice { refresh_token: true, ..NewDevice::default() }
}

/// Stands still until it is moved.
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(millis(by), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(Duration::from_millis(self.0.load(Ordering::SeqCst)))
    }

    fn sleep_until(&self, _deadline: Monotonic) -> Sleep {
        Box::pin(future::pending())
    }
}

#[derive(Default)]
struct Counter(AtomicU64);

impl Random for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let number = self.0.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        bytes.iter_mut().zip(number.into_iter().cycle()).for_each(|(byte, value)| *byte = value);
    }
}
