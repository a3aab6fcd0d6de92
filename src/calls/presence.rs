//! Whether a participant with a delegated timer is in the call, from what LiveKit lists and reports.
//!
//! Invariants: a participant that LiveKit lists has not left; one that it reported gone and does not list has left,
//! unless it lost a session from before the delegation; one that it does not list for the time of its absence has left,
//! and only [`MAX_OUTAGES`] outages extend that time.

use std::time::Duration;

use wick_core::{Monotonic, ShortRoomId, ShortUserId, Timestamp};
use wick_database::schema::calls::{Absence, DelegatedTimer, ParticipantRow};

use crate::contact::Contact;

/// How long a participant may take to connect after its timer was delegated.
pub(crate) const JOIN_GRACE: Duration = Duration::from_secs(60);

/// How long a participant may be missing that LiveKit has not reported gone: after a restart of LiveKit, clients
/// connect anew for about that long.
pub(crate) const ABSENCE_GRACE: Duration = Duration::from_secs(30);

/// How many outages of LiveKit during one absence let it begin anew.
pub(crate) const MAX_OUTAGES: u32 = 3;

/// A participant with delegated timers.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// The Matrix room.
    pub(crate) room: ShortRoomId,
    pub(crate) user: ShortUserId,
    /// The timers to end when it is gone.
    pub(crate) timers: Vec<DelegatedTimer>,
    /// The timers to end at once.
    pub(crate) replaced: Vec<DelegatedTimer>,
    /// As in its row.
    pub(crate) absence: Option<Absent>,
    pub(crate) contact: Contact,
    report: Option<Report>,
    /// The session from before the delegation, and until when its end may leave time to connect anew.
    former: Option<(String, Monotonic)>,
    /// It had left when it was last observed.
    has_left: bool,
}

/// An [`Absence`] by the clock that never jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Absent {
    until: Monotonic,
    outages: u32,
    is_awaited: bool,
}

/// What LiveKit reported last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Report {
    /// This session has connected.
    Connected(String),
    /// This session is gone for good.
    Gone(String),
}

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// The clock that never jumps.
    pub(crate) monotonic: Monotonic,
    /// The wall clock.
    pub(crate) wall: Timestamp,
}

impl Absent {
    /// Of a participant that is about to connect.
    pub(crate) fn awaited(now: Monotonic) -> Self {
        Self { until: now + JOIN_GRACE, outages: 0, is_awaited: true }
    }

    /// As it was stored. A wall clock that was set back extends it by no more than the longest grace.
    pub(crate) fn load(row: Absence, now: Now) -> Self {
        let Absence { until, outages, is_awaited } = row;
        let left = until.since(now.wall).min(JOIN_GRACE);
        Self { until: now.monotonic + left, outages, is_awaited }
    }

    /// As it is stored.
    pub(crate) fn row(self, now: Now) -> Absence {
        let until = now.wall.after(self.until.since(now.monotonic));
        Absence { until, outages: self.outages, is_awaited: self.is_awaited }
    }
}

impl Watched {
    /// The participant of a row, with this absence.
    pub(crate) fn new(row: &ParticipantRow, absence: Option<Absent>) -> Self {
        let (timers, replaced) = (row.delegated.clone(), row.replaced.clone());
        Self {
            room: row.room,
            user: row.user,
            timers,
            replaced,
            absence,
            contact: Contact::default(),
            report: None,
            former: None,
            has_left: false,
        }
    }

    /// The same participant after a newer delegation. Its client may be about to connect, as a page that was loaded anew,
    /// while LiveKit lists the session of the page before.
    pub(crate) fn succeed(&mut self, former: &Self, now: Monotonic) {
        let sid = match &former.report {
            Some(Report::Connected(sid) | Report::Gone(sid)) => Some(sid),
            None => former.former.as_ref().map(|(sid, _)| sid),
        };
        self.former = sid.map(|sid| (sid.clone(), now + JOIN_GRACE));
    }

    /// The session that is connected, if one is.
    pub(crate) fn session(&self) -> Option<&str> {
        match &self.report {
            Some(Report::Connected(sid)) => Some(sid),
            _ => None,
        }
    }

    /// LiveKit reports that a session of it has connected. A late report about a session that is gone has no
    /// effect.
    pub(crate) fn joined(&mut self, sid: &str) {
        if self.report != Some(Report::Gone(sid.to_owned())) {
            self.report = Some(Report::Connected(sid.to_owned()));
        }
    }

    /// LiveKit reports that a session of it is gone for good. A report about a session from before the
    /// delegation, or from before the present session, has no effect.
    pub(crate) fn left(&mut self, sid: &str) {
        let concerns = match &self.report {
            Some(Report::Connected(present)) => present == sid,
            Some(Report::Gone(_)) => true,
            None => self.absence.is_none_or(|absent| !absent.is_awaited),
        };
        if concerns {
            self.report = Some(Report::Gone(sid.to_owned()));
        }
    }

    /// A session of it is gone that its client did not end: as [`Watched::left`], but after the end of one from before the
    /// delegation it is missing.
    pub(crate) fn lost(&mut self, sid: &str, now: Monotonic) {
        let is_former = |(former, until): &(String, Monotonic)| former == sid && now < *until;
        if !self.former.as_ref().is_some_and(is_former) {
            self.left(sid);
        } else if self.session() == Some(sid) {
            self.report = None;
        }
    }

    /// This server has removed it from the call.
    pub(crate) fn removed(&mut self) {
        // No session has this id.
        self.report = Some(Report::Gone(String::new()));
    }

    /// Whether LiveKit reported it gone.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.report, Some(Report::Gone(_)))
    }

    /// Whether it had left when it was last observed.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left
    }

    /// Takes in what LiveKit lists: the session with this identity, if any. `after_outage` is set if LiveKit could not
    /// be asked the last time. Returns whether the participant has left, and its absence from now on, which the
    /// caller stores and sets.
    pub(crate) fn observe(
        &mut self,
        now: Monotonic,
        sid: Option<&str>,
        after_outage: bool,
    ) -> (bool, Option<Absent>) {
        let (has_left, absence) = self.compare(now, sid, after_outage);
        self.has_left = has_left;
        (has_left, absence)
    }

    fn compare(
        &mut self,
        now: Monotonic,
        sid: Option<&str>,
        after_outage: bool,
    ) -> (bool, Option<Absent>) {
        if let Some(sid) = sid {
            // A list that was made before the report is older than it.
            let is_stale = self.report == Some(Report::Gone(sid.to_owned()));
            if is_stale {
                return (true, self.absence);
            }
            self.report = Some(Report::Connected(sid.to_owned()));
            return (false, None);
        }
        if self.is_gone() {
            return (true, self.absence);
        }
        let absent = match self.absence {
            None => Absent { until: now + ABSENCE_GRACE, outages: 0, is_awaited: false },
            Some(absent) if after_outage && absent.outages < MAX_OUTAGES => Absent {
                until: absent.until.max(now + ABSENCE_GRACE),
                outages: absent.outages.saturating_add(1),
                ..absent
            },
            Some(absent) => absent,
        };
        (now >= absent.until, Some(absent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn awaited() -> Watched {
        let row = ParticipantRow {
            room: ShortRoomId(1),
            user: ShortUserId(1),
            issued: Timestamp(0),
            delegated: Vec::new(),
            replaced: Vec::new(),
            absence: None,
        };
        Watched::new(&row, Some(Absent::awaited(at(0))))
    }

    fn here() -> Watched {
        let mut here = awaited();
        assert!(!here.sees(0, Some("PA_1"), false));
        here
    }

    impl Watched {
        /// Whether it has left, once what was observed is stored.
        fn sees(&mut self, seconds: u64, sid: Option<&str>, after_outage: bool) -> bool {
            let (has_left, absence) = self.observe(at(seconds), sid, after_outage);
            self.absence = absence;
            has_left
        }
    }

    #[test]
    fn a_participant_reported_gone_has_left_at_once() {
        let mut one = here();
        one.left("PA_1");
        assert!(one.sees(1, None, false));
        let mut one = here();
        one.left("PA_1");
        assert!(one.sees(1, Some("PA_1"), false), "the list is older than the report");
        let mut missing = here();
        assert!(!missing.sees(1, None, false));
        missing.left("PA_1");
        assert!(missing.sees(2, None, false), "the report comes after the list");
    }

    #[test]
    fn a_report_about_an_earlier_session_changes_nothing() {
        let mut again = here();
        again.left("PA_0");
        assert!(!again.sees(1, Some("PA_1"), false));
        again.left("PA_0");
        assert!(!again.sees(2, None, false), "the present session is missing without a report");
        let mut new = awaited();
        new.left("PA_0");
        assert!(!new.sees(1, None, false));
    }

    #[test]
    fn the_loss_of_a_session_from_before_the_delegation_leaves_time_to_connect() {
        let after = |before: &Watched| {
            let mut again = awaited();
            again.succeed(before, at(0));
            again
        };
        let mut again = after(&here());
        assert!(!again.sees(1, Some("PA_1"), false));
        for _ in 0..2 {
            again.lost("PA_1", at(2));
            assert!(!again.sees(2, None, false));
        }
        assert!(!after(&again).sees(31, Some("PA_1"), false));
        assert!(again.sees(32, None, false));

        let mut late = after(&here());
        assert!(!late.sees(1, Some("PA_1"), false));
        late.lost("PA_1", at(60));
        assert!(late.sees(60, None, false));

        let mut twice = after(&after(&here()));
        assert!(!twice.sees(1, Some("PA_1"), false));
        twice.lost("PA_1", at(2));
        assert!(!twice.sees(2, None, false), "also after a third delegation");
        twice.joined("PA_2");
        twice.lost("PA_2", at(3));
        assert!(twice.sees(3, None, false), "the new session");
    }

    #[test]
    fn a_participant_that_joins_and_leaves_between_two_lists_has_left() {
        let mut quick = awaited();
        quick.joined("PA_1");
        quick.left("PA_1");
        assert!(quick.sees(1, None, false));
    }

    #[test]
    fn a_participant_that_connects_anew_after_a_report_has_not_left() {
        let mut one = here();
        one.left("PA_1");
        one.joined("PA_2");
        assert!(!one.sees(1, None, false), "the list is older than the new session");
        one.left("PA_2");
        one.joined("PA_2");
        assert!(one.sees(2, None, false), "a report that comes late changes nothing");
    }

    #[test]
    fn a_participant_missing_without_a_report_has_left_after_the_grace() {
        let mut one = here();
        assert!(!one.sees(10, None, false));
        assert!(!one.sees(39, None, false));
        assert!(one.sees(40, None, false));
        let mut one = here();
        assert!(!one.sees(10, None, false));
        assert!(!one.sees(39, Some("PA_2"), false));
        assert!(!one.sees(50, None, false), "the grace begins anew");
    }

    #[test]
    fn a_participant_that_never_connects_has_left_after_a_minute() {
        assert!(!awaited().sees(59, None, false));
        assert!(awaited().sees(60, None, false));
    }

    #[test]
    fn an_outage_of_livekit_does_not_count_as_absence() {
        for mut one in [here(), awaited()] {
            assert!(!one.sees(10, None, false));
            assert!(!one.sees(500, None, true));
            assert!(!one.sees(529, None, false));
            assert!(one.sees(560, None, false));
        }
    }

    #[test]
    fn a_livekit_that_comes_and_goes_does_not_put_the_end_off_for_ever() {
        let mut one = here();
        assert!(!one.sees(0, None, false));
        for outage in 1..=3 {
            assert!(!one.sees(outage * 29, None, true), "outage {outage}");
        }
        assert!(!one.sees(116, None, true));
        assert!(one.sees(117, None, true));
    }

    #[test]
    fn an_absence_goes_on_where_it_was_stored_also_if_the_clock_was_set_back() {
        let now =
            |seconds: u64, wall: u64| Now { monotonic: at(seconds), wall: Timestamp(wall * 1000) };
        let mut one = here();
        assert!(!one.sees(10, None, false));
        let row = one.absence.unwrap().row(now(20, 1_000));
        assert_eq!(row, Absence { until: Timestamp(1_020_000), outages: 0, is_awaited: false });
        assert_eq!(Absent::load(row, now(0, 1_015)).until, at(5));
        assert_eq!(Absent::load(row, now(0, 2_000)).until, at(0));
        assert_eq!(Absent::load(row, now(0, 10)).until, at(60), "the clock was set back");
    }
}
