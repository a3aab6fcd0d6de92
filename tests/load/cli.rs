//! The command line, and the plan it makes: every figure settled, with each scenario's own defaults.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Messages into one room (or several).
    Send,
    /// State events with distinct state keys.
    State,
    /// Users join one public room.
    Join,
    /// From sending a message to its arrival in every member's long poll.
    SyncFanout,
    /// The first sync of a user with some history.
    SyncInitial,
    /// Sending events with a duration.
    ExpireArm,
    /// Keeping them alive, round-robin.
    ExpireRefresh,
    /// How late the terminal events come: all due at once, and at a steady rate.
    ExpireFire,
    /// Sending events with a delay; they are cancelled afterwards.
    DelayedSchedule,
    /// Restarting their delays, round-robin.
    DelayedRestart,
    /// How late delayed events come: all due at once, and at a steady rate.
    DelayedFire,
    /// Incremental syncs with one changed room, of a user in 5, in 500 and in 5000 rooms.
    SyncRooms,
    /// Claiming one-time keys of several devices at once.
    KeysClaim,
    /// Looking up the keys of all devices of many users.
    KeysQuery,
    /// Messages to many devices, and the syncs that deliver them.
    ToDevice,
    /// Calls: keeping delegated leaves alive, and how late they are sent after a disconnect. Needs --spawn.
    Calls,
    /// Notifications: from sending a message to its arrival at a push gateway, and through a kill. Needs --spawn.
    Push,
    /// A million timers: memory, restart, refreshing and lateness beside them. Needs --spawn.
    Scale,
    /// Refreshing beside a thousand timers and beside a million.
    RefreshScale,
    /// Keys beside a thousand devices and beside a hundred thousand: upload, claim, query, sync, memory.
    ScaleDevices,
    /// Uploads of a hundred keys to a backup beside a thousand keys in it and beside a million.
    ScaleBackup,
    /// Another user's waiting times while one user does what costs most, and the memory it takes. Needs --spawn.
    Victims,
}

impl Scenario {
    /// The sub-command's name.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// When the wick that --spawn starts answers a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// After an fsync.
    Synced,
    /// Once written to the log.
    Flushed,
}

impl Durability {
    /// The word of the configuration file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Flushed => "flushed",
        }
    }
}

/// The load and scale benchmark of a Matrix homeserver.
#[derive(Clone, Debug, Parser)]
#[command(name = "wick-load")]
pub struct Options {
    /// The scenario
    #[arg(required_unless_present = "compare")]
    pub scenario: Option<Scenario>,
    /// Run nothing: print the figures of two files of --json reports side by side, with their quotients
    #[arg(long, num_args = 2, value_names = ["A", "B"], exclusive = true)]
    pub compare: Vec<PathBuf>,
    /// A running homeserver, http://host:port
    #[arg(long, conflicts_with = "spawn", required_unless_present_any = ["spawn", "compare"])]
    pub url: Option<String>,
    /// Start this wick binary with a fresh folder and a configuration without limits
    #[arg(long)]
    pub spawn: Option<PathBuf>,
    /// Where the folder of --spawn is made [default: the system's temporary folder]
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Durability of the server that --spawn starts
    #[arg(long, default_value = "synced")]
    pub durability: Durability,
    /// Processes whose CPU time and memory are reported, with all below them (known already with --spawn)
    #[arg(long, value_name = "PID", value_delimiter = ',', conflicts_with = "spawn")]
    pub cpu_of: Vec<u32>,
    /// Token for servers that ask for one at registration
    #[arg(long)]
    pub registration_token: Option<String>,
    /// Users: senders, joiners or watchers
    #[arg(long, visible_alias = "senders")]
    pub users: Option<usize>,
    /// Connections, each with one request at a time [default: one for each user, at most 16 for join]
    #[arg(long)]
    pub connections: Option<usize>,
    /// Measure for so long [default: 10]
    #[arg(long, conflicts_with = "count")]
    pub seconds: Option<u64>,
    /// Measure so many operations
    #[arg(long)]
    pub count: Option<u64>,
    /// Seconds before measuring
    #[arg(long)]
    pub warmup: Option<u64>,
    /// Rooms
    #[arg(long)]
    pub rooms: Option<usize>,
    /// Messages in each room before a first sync [default: 50], what victims has to read [default: 1000], and for
    /// scale-backup the keys in the backup [default: 1000000]
    #[arg(long)]
    pub messages: Option<u64>,
    /// Timers
    #[arg(long)]
    pub timers: Option<u64>,
    /// Devices of a user, for keys-claim of a request, for scale-devices of all, for victims that log in
    #[arg(long)]
    pub devices: Option<usize>,
    /// Seconds until an event expires, or is sent
    #[arg(long)]
    pub duration: Option<u64>,
    /// Operations a second instead of as many as possible
    #[arg(long)]
    pub rate: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// When a measure ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// After so much time.
    Time(Duration),
    /// After so many operations.
    Count(u64),
}

/// Where the homeserver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Running already, at `host:port`.
    Running(String),
    /// To be started from this binary.
    Spawn(PathBuf),
}

/// A run with every figure settled.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of `Options`")]
pub struct Plan {
    pub scenario: Scenario,
    pub target: Target,
    pub folder: PathBuf,
    pub durability: Durability,
    pub cpu_of: Vec<u32>,
    pub registration_token: Option<String>,
    pub users: usize,
    pub connections: usize,
    pub span: Span,
    pub warmup: Duration,
    pub rooms: usize,
    pub messages: u64,
    pub timers: u64,
    pub devices: usize,
    pub duration: u64,
    pub rate: Option<u64>,
    /// Whether rooms, timers or rate were given: `expire-fire` and `delayed-fire` then run that instead of
    /// their two own settings.
    pub shaped: bool,
}

/// Users, rooms, timers, duration in seconds, warm-up in seconds.
type Defaults = (usize, usize, u64, u64, u64);

fn defaults(scenario: Scenario) -> Defaults {
    match scenario {
        Scenario::Send | Scenario::State => (10, 1, 0, 0, 2),
        Scenario::Join => (200, 1, 0, 0, 0),
        Scenario::SyncFanout => (100, 1, 0, 0, 1),
        Scenario::SyncInitial => (1, 20, 0, 0, 1),
        Scenario::ExpireArm | Scenario::DelayedSchedule => (16, 16, 0, 3600, 2),
        Scenario::ExpireRefresh | Scenario::DelayedRestart => (16, 16, 1000, 3600, 2),
        Scenario::ExpireFire | Scenario::DelayedFire => (16, 1, 500, 20, 0),
        Scenario::SyncRooms => (1, 5_000, 0, 0, 1),
        Scenario::KeysClaim => (100, 1, 0, 0, 0),
        Scenario::KeysQuery => (100, 1, 0, 0, 1),
        Scenario::ToDevice => (50, 1, 0, 0, 0),
        Scenario::Calls => (2_000, 200, 0, 20, 0),
        Scenario::Push => (1_000, 1_000, 0, 0, 0),
        Scenario::Scale => (16, 1024, 1_000_000, 86_400, 1),
        Scenario::RefreshScale => (16, 16, 1_000_000, 86_400, 1),
        Scenario::ScaleDevices => (16, 1, 0, 0, 1),
        Scenario::ScaleBackup => (16, 1, 0, 0, 0),
        Scenario::Victims => (30, 2_000, 0, 0, 0),
    }
}

fn default_devices(scenario: Scenario) -> usize {
    match scenario {
        Scenario::KeysClaim => 10,
        Scenario::KeysQuery | Scenario::ToDevice => 4,
        Scenario::ScaleDevices => 100_000,
        Scenario::Victims => 128,
        _ => 1,
    }
}

fn default_messages(scenario: Scenario) -> u64 {
    match scenario {
        Scenario::Victims => 1_000,
        Scenario::ScaleBackup => 1_000_000,
        _ => 50,
    }
}

/// Where the users do not make the requests themselves, a few connections make them.
fn default_connections(scenario: Scenario, users: usize) -> usize {
    match scenario {
        Scenario::Join | Scenario::Push | Scenario::Calls => users.min(16),
        Scenario::KeysClaim | Scenario::KeysQuery | Scenario::ToDevice | Scenario::Victims => {
            users.min(8)
        }
        // The uploads of one user wait for each other.
        Scenario::ScaleBackup => 1,
        _ => users,
    }
}

impl Plan {
    /// Settles what the command line left open.
    ///
    /// # Errors
    /// What is wrong with the options, in words.
    pub fn new(options: Options) -> Result<Self, String> {
        let scenario = options.scenario.ok_or("a scenario is needed")?;
        let (users, rooms, timers, duration, warmup) = defaults(scenario);
        let shaped = options.rooms.is_some() || options.timers.is_some() || options.rate.is_some();
        let target = match (options.spawn, options.url) {
            (Some(binary), _) => Target::Spawn(binary),
            (None, Some(url)) => Target::Running(authority(&url)?),
            (None, None) => return Err("one of --url and --spawn is needed".to_owned()),
        };
        let users = options.users.unwrap_or(users);
        let span = match options.count {
            Some(count) => Span::Count(count),
            None => Span::Time(Duration::from_secs(options.seconds.unwrap_or(10))),
        };
        let plan = Self {
            scenario,
            folder: options.folder.unwrap_or_else(std::env::temp_dir),
            durability: options.durability,
            cpu_of: options.cpu_of,
            registration_token: options.registration_token,
            users,
            connections: options.connections.unwrap_or(default_connections(scenario, users)),
            span,
            warmup: Duration::from_secs(options.warmup.unwrap_or(warmup)),
            rooms: options.rooms.unwrap_or(rooms),
            messages: options.messages.unwrap_or(default_messages(scenario)),
            timers: options.timers.unwrap_or(timers),
            devices: options.devices.unwrap_or(default_devices(scenario)),
            duration: options.duration.unwrap_or(duration),
            rate: options.rate,
            shaped,
            target,
        };
        plan.check().map(|()| plan)
    }

    /// The circumstances in a report.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let mut note = |key: &str, value: String| out.insert(key.to_owned(), value);
        match &self.target {
            Target::Running(authority) => note("server", authority.clone()),
            Target::Spawn(_) => note("durability", self.durability.name().to_owned()),
        };
        note("users", self.users.to_string());
        note("connections", self.connections.to_string());
        note("rooms", self.rooms.to_string());
        if self.timers > 0 {
            note("timers", self.timers.to_string());
        }
        if self.devices > 1 {
            note("devices", self.devices.to_string());
        }
        if self.duration > 0 {
            note("duration", self.duration.to_string());
        }
        if let Some(rate) = self.rate {
            note("rate", rate.to_string());
        }
        if matches!(
            self.scenario,
            Scenario::SyncInitial | Scenario::Victims | Scenario::ScaleBackup
        ) {
            note("messages", self.messages.to_string());
        }
        out
    }

    fn check(&self) -> Result<(), String> {
        if [self.users, self.connections, self.rooms, self.devices].contains(&0) {
            return Err("users, connections, rooms and devices must be at least 1".to_owned());
        }
        if self.rate == Some(0) {
            return Err("the rate must be at least 1".to_owned());
        }
        if matches!(self.scenario, Scenario::Scale | Scenario::Victims)
            && !matches!(self.target, Target::Spawn(_))
        {
            return Err(
                "this scenario kills and restarts the server, so it needs --spawn".to_owned()
            );
        }
        if self.scenario == Scenario::Calls && !matches!(self.target, Target::Spawn(_)) {
            return Err("calls configures a LiveKit server, so it needs --spawn".to_owned());
        }
        let needs_timers = matches!(
            self.scenario,
            Scenario::ExpireRefresh
                | Scenario::RefreshScale
                | Scenario::ExpireFire
                | Scenario::DelayedRestart
                | Scenario::DelayedFire
        );
        if self.timers == 0 && needs_timers {
            return Err("this scenario needs timers".to_owned());
        }
        Ok(())
    }
}

fn authority(url: &str) -> Result<String, String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("bad url: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err("the url must begin with http://".to_owned());
    }
    let authority = uri.authority().ok_or("the url names no host")?;
    Ok(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &str) -> Result<Plan, String> {
        let words = std::iter::once("wick-load").chain(arguments.split_whitespace());
        let options = Options::try_parse_from(words).map_err(|error| error.to_string())?;
        Plan::new(options)
    }

    #[test]
    fn a_bare_send_is_ten_senders_in_one_room_for_ten_seconds() {
        let plan = plan("send --url http://localhost:8008/").unwrap();
        assert_eq!(plan.target, Target::Running("localhost:8008".to_owned()));
        assert_eq!((plan.users, plan.connections, plan.rooms), (10, 10, 1));
        assert_eq!(plan.span, Span::Time(Duration::from_secs(10)));
    }

    #[test]
    fn senders_is_another_word_for_users_and_sets_the_connections() {
        let plan = plan("send --url http://a --senders 3 --count 7").unwrap();
        assert_eq!((plan.users, plan.connections), (3, 3));
        assert_eq!(plan.span, Span::Count(7));
        assert_eq!(plan.target, Target::Running("a:80".to_owned()));
    }

    #[test]
    fn joiners_share_sixteen_connections() {
        assert_eq!(plan("join --url http://a").unwrap().connections, 16);
        assert_eq!(plan("join --url http://a --users 4").unwrap().connections, 4);
    }

    #[test]
    fn url_and_spawn_exclude_each_other_and_one_is_needed() {
        assert!(plan("send").is_err());
        assert!(plan("send --url http://a --spawn wick").is_err());
        assert_eq!(plan("send --spawn wick").unwrap().target, Target::Spawn("wick".into()));
    }

    #[test]
    fn a_count_and_a_time_exclude_each_other() {
        assert!(plan("send --url http://a --count 1 --seconds 1").is_err());
    }

    #[test]
    fn a_url_without_plain_http_or_host_is_refused() {
        assert!(plan("send --url https://a").is_err());
        assert!(plan("send --url a:8008").is_err());
        assert!(plan("send --url /path").is_err());
    }

    #[test]
    fn scale_needs_a_server_it_may_kill() {
        assert!(plan("scale --url http://a").is_err());
        assert_eq!(plan("scale --spawn wick").unwrap().timers, 1_000_000);
    }

    #[test]
    fn nothing_can_be_done_with_no_users_rooms_timers_or_rate() {
        assert!(plan("send --url http://a --users 0").is_err());
        assert!(plan("send --url http://a --rooms 0").is_err());
        assert!(plan("keys-query --url http://a --devices 0").is_err());
        assert!(plan("send --url http://a --rate 0").is_err());
        assert!(plan("expire-fire --url http://a --timers 0").is_err());
        assert!(plan("delayed-restart --url http://a --timers 0").is_err());
    }

    #[test]
    fn processes_are_a_list_and_only_of_a_server_that_runs_already() {
        assert_eq!(plan("send --url http://a --cpu-of 1,22").unwrap().cpu_of, [1, 22]);
        assert!(plan("send --spawn wick --cpu-of 1").is_err());
        assert!(plan("send --url http://a --cpu-of all").is_err());
    }

    #[test]
    fn comparing_takes_two_files_and_nothing_else() {
        let parse = |arguments: &str| {
            let words = std::iter::once("wick-load").chain(arguments.split_whitespace());
            Options::try_parse_from(words)
        };
        assert_eq!(parse("--compare a b").unwrap().compare, [PathBuf::from("a"), "b".into()]);
        assert!(parse("--compare a").is_err());
        assert!(parse("send --url http://a --compare a b").is_err());
    }

    #[test]
    fn a_fire_run_knows_whether_it_was_shaped_by_hand() {
        assert!(!plan("expire-fire --url http://a").unwrap().shaped);
        assert!(plan("expire-fire --url http://a --rate 500").unwrap().shaped);
    }
}
