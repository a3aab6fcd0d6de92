//! Checks of a configuration whose values all have the right types.
//!
//! Invariant: all problems are found, not the first.

use std::{path::Path, time::Duration};

use ruma::ServerName;

use super::{Config, Listen, Period, Problem, Rate, registration::Mode};

impl Config {
    /// Everything that makes no sense, by key. Empty: the server can start.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems(Vec::new());
        self.check_listen(&mut problems);
        self.check_connections(&mut problems);
        self.check_accounts(&mut problems);
        self.check_expiry(&mut problems);
        self.check_timers(&mut problems);
        self.check_turn(&mut problems);
        self.check_calls(&mut problems);
        self.check_media(&mut problems);
        for (key, url) in [
            ("server.well_known_client", &self.server.well_known_client),
            ("calls.livekit_service_url", &self.calls.livekit_service_url),
            ("media.s3.endpoint", &self.media.s3.endpoint),
        ] {
            problems.require(
                url.is_empty() || url.starts_with("https://") || url.starts_with("http://"),
                key,
                "must start with https:// or http://",
            );
        }
        let announced = &self.server.well_known_server;
        problems.require(
            announced.is_empty() || ServerName::parse(announced).is_ok(),
            "server.well_known_server",
            "is no server name",
        );
        problems.require(
            self.server.max_body_kilobytes >= 64,
            "server.max_body_kilobytes",
            "must be at least 64, the size of an event",
        );
        problems.require(
            !self.database.path.as_os_str().is_empty(),
            "database.path",
            "must not be empty",
        );
        problems.require(
            self.database.cache_megabytes >= 8,
            "database.cache_megabytes",
            "must be at least 8",
        );
        problems.require(
            self.database.write_buffer_megabytes >= 8,
            "database.write_buffer_megabytes",
            "must be at least 8",
        );
        problems.require(
            self.database.max_open_files >= 64,
            "database.max_open_files",
            "must be at least 64",
        );
        problems.require(
            self.rooms.default_version.rules().is_some(),
            "rooms.default_version",
            "is not a room version this server knows",
        );
        problems.require(
            self.sync.timeline_limit >= 1,
            "sync.timeline_limit",
            "must be at least 1",
        );
        problems.require(
            self.sync.max_timeline_limit >= self.sync.timeline_limit,
            "sync.max_timeline_limit",
            "must not be less than sync.timeline_limit",
        );
        for (key, rate) in self.limits.rates() {
            problems.require_rate(key, rate);
        }
        problems.0
    }

    fn check_turn(&self, problems: &mut Problems) {
        let turn = &self.turn;
        problems.require(
            turn.uris.iter().all(|uri| uri.starts_with("turn:") || uri.starts_with("turns:")),
            "turn.uris",
            "must start with turn: or turns:",
        );
        problems.require(
            turn.uris.is_empty() == turn.secret.reveal().is_none(),
            "turn.secret",
            "and turn.uris need each other",
        );
        problems.require(
            turn.lifetime >= Period::from_secs(60),
            "turn.lifetime",
            "must be at least a minute",
        );
    }

    fn check_listen(&self, problems: &mut Problems) {
        let listen = &self.listen;
        problems.require(
            !(listen.tcp.is_empty() && listen.unix.is_empty() && listen.tls.is_empty()),
            "listen",
            "names no address, so no client could connect",
        );
        if !listen.tls.is_empty() {
            check_certificate(listen, problems);
        }
    }

    fn check_connections(&self, problems: &mut Problems) {
        let connections = &self.connections;
        for (key, number, least) in [
            ("connections.max", connections.max, 16),
            ("connections.max_per_address", connections.max_per_address, 1),
            ("connections.max_streams", connections.max_streams, 1),
            ("connections.max_unread_megabytes", connections.max_unread_megabytes, 64),
            ("push.max_requests", self.push.max_requests, 1),
            ("push.max_requests_per_gateway", self.push.max_requests_per_gateway, 1),
            ("federation.max_requests", self.federation.max_requests, 1),
            ("federation.max_requests_per_server", self.federation.max_requests_per_server, 1),
        ] {
            problems.require(number >= least, key, &format!("must be at least {least}"));
        }
        for (key, time) in [
            ("connections.handshake_timeout", connections.handshake_timeout),
            ("connections.header_timeout", connections.header_timeout),
            ("connections.body_timeout", connections.body_timeout),
            ("connections.idle_timeout", connections.idle_timeout),
            ("connections.write_timeout", connections.write_timeout),
            ("connections.ping_interval", connections.ping_interval),
            ("connections.ping_timeout", connections.ping_timeout),
            ("outbound.connect_timeout", self.outbound.connect_timeout),
            ("outbound.timeout", self.outbound.timeout),
            ("federation.timeout", self.federation.timeout),
        ] {
            let sensible = 100..=86_400_000;
            problems.require(
                sensible.contains(&crate::clock::millis(time.0)),
                key,
                "must be between 100ms and 1d",
            );
        }
    }

    fn check_accounts(&self, problems: &mut Problems) {
        let accounts = &self.accounts;
        problems.require(
            self.registration.mode != Mode::Token || self.registration.token.reveal().is_some(),
            "registration.token",
            "is needed where registration.mode is \"token\"",
        );
        problems.require(
            self.registration.guest_lifetime.0 >= Duration::from_secs(3600),
            "registration.guest_lifetime",
            "must be at least 1h",
        );
        problems.require(accounts.max_devices >= 1, "accounts.max_devices", "must be at least 1");
        problems.require(
            (1..=512).contains(&accounts.password_min_length),
            "accounts.password_min_length",
            "must be between 1 and 512",
        );
        problems.require(
            accounts.argon2_iterations >= 1,
            "accounts.argon2_iterations",
            "must be at least 1",
        );
        problems.require(
            (1..=64).contains(&accounts.argon2_parallelism),
            "accounts.argon2_parallelism",
            "must be between 1 and 64",
        );
        problems.require(
            accounts.argon2_memory_kilobytes >= accounts.argon2_parallelism.saturating_mul(8),
            "accounts.argon2_memory_kilobytes",
            "must be at least 8 for each lane of accounts.argon2_parallelism",
        );
        problems.require(
            accounts.access_token_lifetime.0.as_secs() >= 1,
            "accounts.access_token_lifetime",
            "must be at least 1s",
        );
    }

    fn check_expiry(&self, problems: &mut Problems) {
        let expiry = &self.expiry;
        problems.require(expiry.min_duration >= 1, "expiry.min_duration", "must be at least 1");
        problems.require(
            expiry.max_duration >= expiry.min_duration,
            "expiry.max_duration",
            "must not be less than expiry.min_duration",
        );
        problems.require(
            expiry.max_duration <= A_HUNDRED_YEARS,
            "expiry.max_duration",
            "must be at most 3155760000, a hundred years",
        );
    }

    fn check_calls(&self, problems: &mut Problems) {
        let calls = &self.calls;
        if calls.livekit_url.is_empty() {
            let is_set = !calls.livekit_key.is_empty() || calls.livekit_secret.reveal().is_some();
            problems.require(!is_set, "calls.livekit_url", "is needed for a key or a secret");
            return;
        }
        problems.require(
            calls.livekit_url.starts_with("wss://") || calls.livekit_url.starts_with("ws://"),
            "calls.livekit_url",
            "must start with wss:// or ws://",
        );
        problems.require(
            !calls.livekit_key.is_empty(),
            "calls.livekit_key",
            "is needed for calls.livekit_url",
        );
        problems.require(
            calls.livekit_secret.reveal().is_some(),
            "calls.livekit_secret",
            "is needed for calls.livekit_url",
        );
        problems.require(
            calls.livekit_service_url.is_empty(),
            "calls.livekit_service_url",
            "names another token service than the one that calls.livekit_url turns on",
        );
        problems.require(
            !self.server.well_known_client.is_empty(),
            "server.well_known_client",
            "is needed for calls.livekit_url: clients reach the token service below it",
        );
    }

    fn check_media(&self, problems: &mut Problems) {
        let media = &self.media;
        for (key, number) in [
            ("media.max_upload_megabytes", media.max_upload_megabytes),
            ("media.max_image_megapixels", media.max_image_megapixels),
            ("previews.max_page_kilobytes", self.previews.max_page_kilobytes),
            ("previews.max_image_megabytes", self.previews.max_image_megabytes),
            ("previews.max_kept", self.previews.max_kept),
        ] {
            problems.require(
                (1..=1_000_000).contains(&number),
                key,
                "must be between 1 and 1000000",
            );
        }
        let is_domain = |domain: &String| !domain.is_empty() && !domain.contains(['/', ':']);
        problems.require(
            self.previews.domains.iter().all(is_domain),
            "previews.domains",
            "must be names of hosts, without a scheme or a port",
        );
        problems.require(
            media.pending_lifetime.0.as_secs() >= 1,
            "media.pending_lifetime",
            "must be at least 1s",
        );
        let is_sensible = |side: u32| (1..=LARGEST_THUMBNAIL).contains(&side);
        problems.require(
            media.thumbnails.iter().all(|size| is_sensible(size.width) && is_sensible(size.height)),
            "media.thumbnails",
            "must have sides between 1 and 4096",
        );
    }

    fn check_timers(&self, problems: &mut Problems) {
        let timers = &self.timers;
        problems.require(
            timers.overdue_per_second >= 1,
            "timers.overdue_per_second",
            "must be at least 1",
        );
        problems.require(timers.concurrency >= 1, "timers.concurrency", "must be at least 1");
        problems.require_rate("timers.keep_alive", timers.keep_alive);
        problems.require_rate("timers.invalid", timers.invalid);
        problems.require(
            (1..=A_HUNDRED_YEARS).contains(&self.delayed_events.max_delay.0.as_secs()),
            "delayed_events.max_delay",
            "must be between 1s and a hundred years",
        );
    }
}

/// Thumbnails are small images.
const LARGEST_THUMBNAIL: u32 = 4096;

/// Far beyond any use; deadlines still fit their milliseconds.
const A_HUNDRED_YEARS: u64 = 3_155_760_000;

fn check_certificate(listen: &Listen, problems: &mut Problems) {
    let set = |path: &Path| !path.as_os_str().is_empty();
    problems.require(
        set(&listen.tls_certificate),
        "listen.tls_certificate",
        "is needed for listen.tls",
    );
    problems.require(set(&listen.tls_key), "listen.tls_key", "is needed for listen.tls");
}

struct Problems(Vec<Problem>);

impl Problems {
    fn require(&mut self, holds: bool, key: &str, message: &str) {
        if !holds {
            self.0.push(Problem { key: key.to_owned(), origin: None, message: message.to_owned() });
        }
    }

    fn require_rate(&mut self, key: &str, rate: Rate) {
        let per_second = format!("{key}.per_second");
        // Below one in a million seconds a rate is a ban, which has keys of its own.
        self.require(
            (1e-6..=1e6).contains(&rate.per_second),
            &per_second,
            "must be between 0.000001 and 1000000",
        );
        self.require(rate.burst >= 1, &format!("{key}.burst"), "must be at least 1");
    }
}
