//! Whether a participant with a delegated timer is in the call, from what LiveKit lists and reports.
//!
//! Invariants: a participant that LiveKit lists has not left; one that it reported gone and does not list has left;
//! time in which LiveKit could not be asked does not count.

use std::time::Duration;

use wick_core::Monotonic;
use wick_database::schema::calls::DelegatedTimer;

/// How long a participant may take to connect after its timer was delegated.
pub(crate) const JOIN_GRACE: Duration = Duration::from_secs(60);

/// How long a participant may be missing that LiveKit has not reported gone: after a restart of LiveKit, clients
/// connect anew for about that long.
pub(crate) const ABSENCE_GRACE: Duration = Duration::from_secs(30);

/// A participant with delegated timers.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// The timers to end when it is gone.
    pub(crate) timers: Vec<DelegatedTimer>,
    presence: Presence,
    /// The session that LiveKit reported gone last.
    gone: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Not seen yet, since then.
    Awaited(Monotonic),
    /// Seen.
    Here,
    /// Seen once and not listed any more, since then.
    Missing(Monotonic),
}

impl Watched {
    /// One that was not seen yet.
    pub(crate) fn awaited(timers: Vec<DelegatedTimer>, now: Monotonic) -> Self {
        Self { timers, presence: Presence::Awaited(now), gone: None }
    }

    /// One that was seen before this server started.
    pub(crate) fn resumed(timers: Vec<DelegatedTimer>) -> Self {
        Self { timers, presence: Presence::Here, gone: None }
    }

    /// LiveKit reports that it has connected.
    pub(crate) fn joined(&mut self) {
        self.presence = Presence::Here;
    }

    /// LiveKit reports that a session of it has ended. A report about a session from before the
    /// delegation has no effect.
    pub(crate) fn left(&mut self, sid: &str) {
        if !matches!(self.presence, Presence::Awaited(_)) {
            self.gone = Some(sid.to_owned());
        }
    }

    /// Whether it is to be looked at again soon.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.presence != Presence::Here || self.gone.is_some()
    }

    /// Takes in what LiveKit lists: the session with this identity, if any. Returns whether the participant has
    /// left. `after_outage` is set if LiveKit could not be asked the last time.
    pub(crate) fn observe(
        &mut self,
        now: Monotonic,
        sid: Option<&str>,
        after_outage: bool,
    ) -> bool {
        if let Some(sid) = sid {
            // A list that was made before the report is older than it.
            let is_stale = self.gone.as_deref() == Some(sid);
            if !is_stale {
                self.gone = None;
                self.presence = Presence::Here;
            }
            return is_stale;
        }
        if self.gone.is_some() {
            return true;
        }
        match self.presence {
            Presence::Here => self.presence = Presence::Missing(now),
            Presence::Missing(_) if after_outage => self.presence = Presence::Missing(now),
            Presence::Awaited(_) if after_outage => self.presence = Presence::Awaited(now),
            Presence::Missing(since) => return now.since(since) >= ABSENCE_GRACE,
            Presence::Awaited(since) => return now.since(since) >= JOIN_GRACE,
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn awaited() -> Watched {
        Watched::awaited(Vec::new(), at(0))
    }

    fn here() -> Watched {
        let mut here = awaited();
        assert!(!here.observe(at(0), Some("PA_1"), false));
        here
    }

    #[test]
    fn a_participant_reported_gone_has_left_at_once() {
        let mut one = here();
        one.left("PA_1");
        assert!(one.observe(at(1), None, false));
        let mut one = here();
        one.left("PA_1");
        assert!(one.observe(at(1), Some("PA_1"), false), "the list is older than the report");
    }

    #[test]
    fn a_report_about_an_earlier_session_changes_nothing() {
        let mut again = here();
        again.left("PA_0");
        assert!(!again.observe(at(1), Some("PA_1"), false));
        assert!(!again.observe(at(2), Some("PA_1"), false));
        let mut new = awaited();
        new.left("PA_0");
        assert!(!new.observe(at(1), None, false));
    }

    #[test]
    fn a_participant_that_joins_and_leaves_between_two_lists_has_left() {
        let mut quick = awaited();
        quick.joined();
        quick.left("PA_1");
        assert!(quick.observe(at(1), None, false));
    }

    #[test]
    fn a_participant_missing_without_a_report_has_left_after_the_grace() {
        let mut one = here();
        assert!(!one.observe(at(10), None, false));
        assert!(!one.observe(at(39), None, false));
        assert!(one.observe(at(40), None, false));
        let mut one = here();
        assert!(!one.observe(at(10), None, false));
        assert!(!one.observe(at(39), Some("PA_2"), false));
        assert!(!one.observe(at(50), None, false), "the grace begins anew");
    }

    #[test]
    fn a_participant_that_never_connects_has_left_after_a_minute() {
        assert!(!awaited().observe(at(59), None, false));
        assert!(awaited().observe(at(60), None, false));
    }

    #[test]
    fn an_outage_of_livekit_does_not_count_as_absence() {
        for mut one in [here(), awaited()] {
            assert!(!one.observe(at(10), None, false));
            assert!(!one.observe(at(500), None, true));
            assert!(!one.observe(at(529), None, false));
            assert!(one.observe(at(560), None, false));
        }
    }
}
