//! What a user knows of a timer, and so what the server may not do with it.

use serde_json::Value;

/// How far the wall clock may be set back while a timer runs. Time servers move it by less.
pub(crate) const SLEWED: u64 = 20;

/// Whether a timer was ended by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was not requested.
    No,
    /// It was requested and not answered.
    Maybe,
    /// It was answered.
    Answered,
}

/// A timer whose arming was answered.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    pub(crate) room: String,
    pub(crate) event_id: String,
    pub(crate) token: String,
    pub(crate) milliseconds: u64,
    /// When it was armed or last refreshed, as far as that was answered; it may be later by now.
    pub(crate) since: u64,
    pub(crate) end: End,
    /// The server has shown that it is over.
    pub(crate) over: bool,
}

impl Timer {
    /// Whether it may be over at `time`, in milliseconds since 1970.
    pub(crate) fn may_be_over(&self, time: u64) -> bool {
        self.end != End::No || time + SLEWED >= self.since + self.milliseconds
    }

    /// What is wrong with its terminal events, if anything is.
    pub(crate) fn fault(&self, terminals: &[Value]) -> Option<String> {
        let [terminal] = terminals else {
            return Some(format!("{} terminal events", terminals.len()));
        };
        let ended = match terminal.pointer("/content/m.will_expire").and_then(Value::as_str) {
            Some("ended") => true,
            Some("expired") => false,
            other => return Some(format!("a terminal event that is {other:?}")),
        };
        let time = terminal.get("origin_server_ts").and_then(Value::as_u64).unwrap_or_default();
        match self.end {
            End::No if ended => Some("ended without a request".to_owned()),
            End::Answered if !ended => Some("expired, though it was ended".to_owned()),
            _ if !ended && time + SLEWED < self.since + self.milliseconds => {
                let early = self.since + self.milliseconds - time;
                Some(format!("expired {early} ms early"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(end: End, terminals: &[(&str, u64)]) -> Option<String> {
        let text = String::new;
        let (room, event_id, token) = (text(), text(), text());
        let (milliseconds, since, over) = (1000, 5000, false);
        let timer = Timer { room, event_id, token, milliseconds, since, end, over };
        let events: Vec<_> = terminals
            .iter()
            .map(|(status, time)| {
                json!({ "content": { "m.will_expire": status }, "origin_server_ts": time })
            })
            .collect();
        timer.fault(&events)
    }

    #[test]
    fn a_timer_ends_once_as_it_was_told_and_never_early() {
        assert_eq!(fault(End::No, &[("expired", 6000)]), None);
        assert_eq!(fault(End::Maybe, &[("expired", 9000)]), None);
        assert_eq!(fault(End::Maybe, &[("ended", 5001)]), None);
        assert_eq!(fault(End::Answered, &[("ended", 5001)]), None);
        assert!(fault(End::No, &[]).is_some());
        assert!(fault(End::No, &[("expired", 6000), ("expired", 6001)]).is_some());
        assert!(fault(End::No, &[("expired", 5900)]).is_some());
        assert!(fault(End::No, &[("ended", 6000)]).is_some());
        assert!(fault(End::Answered, &[("expired", 6000)]).is_some());
        assert!(fault(End::No, &[("running", 6000)]).is_some());
    }
}
