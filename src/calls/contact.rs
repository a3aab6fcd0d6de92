//! The connection to a participant's client: how soon it answers, and whether it may be gone.
//!
//! Invariants: a client is given the time that it usually takes, and the time to send again what was lost; the silence of
//! one that is not known to answer at all says nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{DeviceId, OwnedDeviceId};
use wick_core::{Monotonic, ShortUserId};

/// How long a client that answers at once may take: LiveKit and clients send again what was lost after a second (the
/// least time-out of SCTP, RFC 9260 §16).
const PATIENCE: Duration = Duration::from_millis(1_200);

/// How many of the times in which it usually answers are added: the time-out of SCTP is up to three of them (RFC 9260 §6.3.1), and
/// the answer takes one more.
const ROUND_TRIPS: u32 = 4;

/// How long it may take if it has never answered.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(2);

/// How long it may take at most.
pub(crate) const MAX_PATIENCE: Duration = Duration::from_secs(8);

/// For how long a client that has come back may not answer: connections for media take longer to make than requests.
pub(crate) const SUSPENSE: Duration = Duration::from_secs(10);

/// What is known of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    /// The session that was asked last.
    asked: Option<String>,
    /// How soon that session answered the last time.
    round_trip: Option<Duration>,
    /// It did not answer when it was asked to learn how soon it answers: it may not know the question.
    is_mute: bool,
    /// When a request of it broke off; `None` once it has answered since.
    broke_off: Option<Monotonic>,
}

/// A question to a client.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) user: ShortUserId,
    /// The session that is asked.
    pub(crate) sid: String,
    /// When a request of it broke off; `None` if it is asked to learn how soon it answers.
    pub(crate) broke_off: Option<Monotonic>,
    /// How long it may take.
    pub(crate) patience: Duration,
    /// Whether its silence says nothing.
    pub(crate) is_mute: bool,
}

impl Contact {
    /// A request of the client broke off.
    pub(crate) fn break_off(&mut self, now: Monotonic) {
        self.broke_off = Some(now);
    }

    /// Whether this session is still to be asked how soon it answers.
    pub(crate) fn is_new(&self, sid: &str) -> bool {
        self.asked.as_deref() != Some(sid)
    }

    /// A question to it. A new session may have another link, such as that of a telephone that left the house.
    pub(crate) fn question(&mut self, user: ShortUserId, sid: String) -> Question {
        if self.is_new(&sid) {
            self.asked = Some(sid.clone());
            self.round_trip = None;
            self.is_mute = false;
        }
        let broke_off = self.broke_off;
        let patience = match (broke_off, self.round_trip) {
            (None, _) => MAX_PATIENCE,
            (Some(_), None) => UNKNOWN_PATIENCE,
            (Some(_), Some(usual)) => {
                (PATIENCE + usual.saturating_mul(ROUND_TRIPS)).min(MAX_PATIENCE)
            }
        };
        Question { user, sid, broke_off, patience, is_mute: self.is_mute }
    }

    /// It is not connected: a request that broke off says nothing of the session that comes.
    pub(crate) fn forget_breaks(&mut self) {
        self.broke_off = None;
    }

    /// A question was not answered in time.
    pub(crate) fn note_silence(&mut self, question: &Question) {
        if question.broke_off.is_none() && !self.is_new(&question.sid) {
            self.is_mute = self.round_trip.is_none();
        }
        self.settle(question, None);
    }

    /// A question is over; the client answered after this time, if it did.
    pub(crate) fn settle(&mut self, question: &Question, answered: Option<Duration>) {
        if !self.is_new(&question.sid) {
            self.round_trip = answered.or(self.round_trip);
            self.is_mute &= answered.is_none();
        }
        if self.broke_off == question.broke_off {
            self.broke_off = None;
        }
    }
}

/// The devices whose requests broke off in the last time.
#[derive(Default)]
pub(crate) struct BrokenOff(Mutex<HashMap<ShortUserId, HashMap<OwnedDeviceId, Broken>>>);

struct Broken {
    at: Monotonic,
    is_back: bool,
}

impl BrokenOff {
    /// A request of a device broke off.
    pub(crate) fn add(&self, user: ShortUserId, device: &DeviceId, now: Monotonic) {
        let mut users = self.users();
        users.retain(|_, devices| {
            devices.retain(|_, broken| now.since(broken.at) < SUSPENSE);
            !devices.is_empty()
        });
        let broken = Broken { at: now, is_back: false };
        users.entry(user).or_default().insert(device.to_owned(), broken);
    }

    /// A request of a device begins to wait.
    pub(crate) fn come_back(&self, user: ShortUserId, device: &DeviceId) {
        let mut users = self.users();
        if let Some(broken) = users.get_mut(&user).and_then(|devices| devices.get_mut(device)) {
            broken.is_back = true;
        }
    }

    /// Whether a device whose request broke off a short time ago has made another one since.
    pub(crate) fn is_back(&self, user: ShortUserId, now: Monotonic) -> bool {
        let is_back = |broken: &Broken| broken.is_back && now.since(broken.at) < SUSPENSE;
        self.users().get(&user).is_some_and(|devices| devices.values().any(is_back))
    }

    fn users(&self) -> MutexGuard<'_, HashMap<ShortUserId, HashMap<OwnedDeviceId, Broken>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ruma::device_id;

    use super::*;

    const USER: ShortUserId = ShortUserId(1);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn patience_with(answers: &[u64]) -> Duration {
        let mut contact = Contact::default();
        for answer in answers {
            let question = contact.question(USER, String::new());
            contact.settle(&question, Some(Duration::from_millis(*answer)));
        }
        contact.break_off(at(1));
        contact.question(USER, String::new()).patience
    }

    #[test]
    fn a_slow_client_is_given_more_time() {
        assert_eq!(patience_with(&[]), UNKNOWN_PATIENCE);
        assert_eq!(patience_with(&[20]), Duration::from_millis(1_280));
        assert_eq!(patience_with(&[1_600]), Duration::from_millis(7_600));
        assert_eq!(patience_with(&[1_600, 20]), Duration::from_millis(1_280), "it was busy once");
        assert_eq!(patience_with(&[20, 1_600]), Duration::from_millis(7_600), "its link is worse");
        assert_eq!(patience_with(&[60_000]), MAX_PATIENCE);
    }

    #[test]
    fn an_answer_to_an_earlier_question_does_not_settle_a_later_one() {
        let mut contact = Contact::default();
        contact.break_off(at(1));
        let first = contact.question(USER, String::new());
        contact.break_off(at(2));
        contact.settle(&first, Some(Duration::ZERO));
        assert_eq!(contact.question(USER, String::new()).broke_off, Some(at(2)));
    }

    #[test]
    fn only_the_device_that_broke_off_comes_back_and_for_a_short_time() {
        let broken = BrokenOff::default();
        let (phone, laptop) = (device_id!("PHONE"), device_id!("LAPTOP"));
        broken.come_back(USER, laptop);
        broken.add(USER, laptop, at(1));
        broken.come_back(USER, phone);
        assert!(!broken.is_back(USER, at(1)));
        broken.come_back(USER, laptop);
        assert!(broken.is_back(USER, at(2)));
        assert!(!broken.is_back(USER, at(11)));
        broken.add(USER, laptop, at(12));
        assert!(!broken.is_back(USER, at(12)), "it broke off again");
    }
}
