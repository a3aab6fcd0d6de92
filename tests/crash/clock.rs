//! The one place where this crate asks for the time: what it watches is real.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, comparable with `origin_server_ts` of a server on the same machine.
#[expect(clippy::disallowed_methods, reason = "compared with the server's real clock")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "measures how long a run takes")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
