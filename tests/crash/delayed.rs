//! What a user knows of a delayed event, and so what the server may not do with it.

use serde_json::Value;

use crate::{
    client::Answer,
    clock,
    outcome::{Result, broken},
    timer::SLEWED,
};

/// The type of delayed state.
pub(crate) const LATER_STATE: &str = "org.example.later";

/// What can be done with a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Restart,
    Send,
    Cancel,
}

impl Action {
    /// As it stands in a request.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Send => "send",
            Self::Cancel => "cancel",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Restart => "restarts",
            Self::Send => "sent by hand",
            Self::Cancel => "cancellations",
        }
    }
}

/// What became of a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Sent,
    Cancelled,
}

/// A delayed event whose scheduling was answered.
#[derive(Clone, Debug)]
pub(crate) struct Delayed {
    pub(crate) room: String,
    /// Its text; no other event has the same.
    pub(crate) label: String,
    pub(crate) delay_id: String,
    pub(crate) milliseconds: u64,
    /// When it was scheduled or last restarted, as far as that was answered; it may be later by now.
    pub(crate) since: u64,
    /// How many others have the same text, because requests without a transaction were not answered.
    pub(crate) others: u64,
    /// It was requested to be sent by hand.
    tried_to_send: bool,
    /// It was requested to be cancelled.
    tried_to_cancel: bool,
    /// Its fate by the server's answers.
    fate: Option<Fate>,
}

impl Delayed {
    pub(crate) fn new(
        (room, label): (&str, &str),
        delay_id: String,
        milliseconds: u64,
        since: u64,
        others: u64,
    ) -> Self {
        Self {
            room: room.to_owned(),
            label: label.to_owned(),
            delay_id,
            milliseconds,
            since,
            others,
            tried_to_send: false,
            tried_to_cancel: false,
            fate: None,
        }
    }

    /// Whether the server has answered that it was sent.
    pub(crate) fn was_sent(&self) -> bool {
        self.fate == Some(Fate::Sent)
    }

    /// Something is about to be asked for.
    pub(crate) fn asked(&mut self, action: Action) {
        match action {
            Action::Restart => {}
            Action::Send => self.tried_to_send = true,
            Action::Cancel => self.tried_to_cancel = true,
        }
    }

    /// Takes in the answer.
    pub(crate) fn answered(&mut self, action: Action, answer: &Answer) -> Result<()> {
        let fate = match (action, answer.status) {
            (Action::Restart, 200) if self.fate.is_none() => {
                self.since = self.since.max(answer.asked);
                return Ok(());
            }
            (Action::Send, 200) | (Action::Restart, 404) | (Action::Cancel, 409) => Fate::Sent,
            (Action::Cancel, 200) | (Action::Restart | Action::Send, 409) => Fate::Cancelled,
            _ => return broken(format!("{}: {self:?}", action.verb()), answer),
        };
        self.became(fate, clock::unix_ms()).or_else(|fault| broken(fault, answer))
    }

    /// Takes in how it is shown; whether it is over.
    pub(crate) fn seen(&mut self, answer: &Answer) -> Result<bool> {
        let field = |name| answer.body.get(name);
        if answer.status != 200 || field("delay_id").and_then(Value::as_str) != Some(&self.delay_id)
        {
            return broken(format!("a delayed event is lost: {self:?}"), answer);
        }
        if field("error").is_some() {
            return broken(format!("a delayed event was refused: {self:?}"), answer);
        }
        if field("finalised_ts").is_none() {
            return match self.fate {
                None => Ok(false),
                Some(_) => broken(format!("a delayed event is scheduled again: {self:?}"), answer),
            };
        }
        let fate = if field("event_id").is_some() { Fate::Sent } else { Fate::Cancelled };
        self.became(fate, clock::unix_ms()).or_else(|fault| broken(fault, answer))?;
        Ok(true)
    }

    /// Takes in its fate, as the server lists it at some time.
    fn became(&mut self, fate: Fate, time: u64) -> std::result::Result<(), String> {
        let fault = match (self.fate, fate) {
            (Some(before), now) if before != now => "a delayed event has two fates",
            (_, Fate::Cancelled) if !self.tried_to_cancel => "cancelled without a request",
            (_, Fate::Sent) if !self.may_be_sent(time) => "sent early",
            _ => {
                self.fate = Some(fate);
                return Ok(());
            }
        };
        Err(format!("{fault}: {self:?}"))
    }

    /// Whether it may be in the room with this time.
    fn may_be_sent(&self, time: u64) -> bool {
        self.tried_to_send || time + SLEWED >= self.since + self.milliseconds
    }

    /// What is wrong with the event that it became, if anything is.
    pub(crate) fn fault_of_event(&self, event: &Value) -> Option<String> {
        let at = |pointer| event.pointer(pointer).and_then(Value::as_str);
        if at("/content/body") != Some(&self.label) {
            return Some("it became another event".to_owned());
        }
        if self.others > 0 {
            return None;
        }
        if at("/unsigned/delay_id") != Some(&self.delay_id) {
            return Some("it became the event of another delay id".to_owned());
        }
        let time = event.get("origin_server_ts").and_then(Value::as_u64).unwrap_or_default();
        (!self.may_be_sent(time)).then(|| format!("sent early, at {time}"))
    }

    /// What is wrong with it being found so often, if anything is.
    pub(crate) fn fault(&self, times: u64) -> Option<String> {
        let least = u64::from(self.was_sent());
        let most = least + self.others;
        (times < least || times > most).then(|| format!("a delayed event is found {times} times"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scheduled(tried: &[Action]) -> Delayed {
        let mut delayed = Delayed::new(("", "label"), "id".to_owned(), 1000, 5000, 0);
        tried.iter().for_each(|action| delayed.asked(*action));
        delayed
    }

    fn answer(status: u16, body: Value) -> Answer {
        Answer { status, body, asked: 0 }
    }

    fn fate_after(tried: &[Action], action: Action, status: u16) -> Option<bool> {
        let mut delayed = scheduled(tried);
        delayed.asked(action);
        delayed.answered(action, &answer(status, json!({}))).ok().map(|()| delayed.was_sent())
    }

    #[test]
    fn answers_say_what_became_of_it_and_must_be_possible() {
        assert_eq!(fate_after(&[], Action::Send, 200), Some(true));
        assert_eq!(fate_after(&[], Action::Cancel, 200), Some(false));
        // Long due by the real clock.
        assert_eq!(fate_after(&[], Action::Restart, 404), Some(true));
        assert_eq!(fate_after(&[], Action::Cancel, 409), Some(true));
        assert_eq!(fate_after(&[Action::Cancel], Action::Send, 409), Some(false));
        assert_eq!(fate_after(&[], Action::Send, 409), None);
        assert_eq!(fate_after(&[], Action::Restart, 409), None);
        assert_eq!(fate_after(&[], Action::Send, 404), None);
        assert_eq!(fate_after(&[], Action::Cancel, 500), None);
    }

    #[test]
    fn it_has_one_fate_and_is_never_sent_early() {
        let mut delayed = scheduled(&[Action::Cancel]);
        assert!(delayed.became(Fate::Sent, 5900).is_err());
        assert!(delayed.became(Fate::Cancelled, 5900).is_ok());
        assert!(delayed.became(Fate::Sent, 9000).is_err());
        assert!(delayed.answered(Action::Restart, &answer(200, json!({}))).is_err());
        assert!(delayed.seen(&answer(200, json!({ "delay_id": "id" }))).is_err());
        assert!(scheduled(&[]).became(Fate::Cancelled, 9000).is_err());
        assert!(scheduled(&[]).became(Fate::Sent, 6000).is_ok());
        assert!(scheduled(&[Action::Send]).became(Fate::Sent, 5001).is_ok());
    }

    #[test]
    fn what_was_sent_is_told_once_and_what_was_cancelled_never() {
        let mut sent = scheduled(&[]);
        sent.became(Fate::Sent, 6000).unwrap();
        let mut cancelled = scheduled(&[Action::Cancel]);
        cancelled.became(Fate::Cancelled, 6000).unwrap();
        for (delayed, times) in [(&sent, 1), (&cancelled, 0)] {
            assert_eq!(delayed.fault(times), None);
            assert!(delayed.fault(1 - times).is_some() && delayed.fault(2).is_some());
        }
        let event = |time: u64, id: &str| {
            let unsigned = json!({ "delay_id": id });
            let content = json!({ "body": "label" });
            json!({ "origin_server_ts": time, "unsigned": unsigned, "content": content })
        };
        assert_eq!(sent.fault_of_event(&event(6000, "id")), None);
        assert!(sent.fault_of_event(&event(5900, "id")).is_some());
        assert!(sent.fault_of_event(&event(6000, "other")).is_some());
        assert!(sent.fault_of_event(&json!({})).is_some());
    }

    #[test]
    fn it_is_seen_until_it_is_over() {
        let mut delayed = scheduled(&[]);
        assert!(!delayed.seen(&answer(200, json!({ "delay_id": "id" }))).unwrap());
        let sent = json!({ "delay_id": "id", "event_id": "$x", "finalised_ts": 7 });
        assert!(delayed.seen(&answer(200, sent.clone())).unwrap());
        assert!(delayed.was_sent());
        let refused = json!({ "delay_id": "id", "error": {}, "finalised_ts": 7 });
        for lost in [answer(404, json!({})), answer(200, json!({})), answer(200, refused)] {
            assert!(scheduled(&[]).seen(&lost).is_err());
        }
    }
}
