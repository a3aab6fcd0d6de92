//! What a user knows of keys, of messages from device to device and of a backup, and so what the server may not do
//! with them; and the account of it all, of every user with every other.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    actor::Actor,
    client::Client,
    outcome::{Result, Stop},
};

/// Messages that a sync delivers at most.
const PORTION: usize = 100;

/// A user and their device, by the number of the user.
pub(crate) type Devices = Vec<(String, String)>;

/// What a user did with keys of its own and of others.
#[derive(Default)]
pub(crate) struct Keys {
    /// How many one-time keys were uploaded; they are numbered from zero.
    pub(crate) uploaded: u64,
    /// How many of them the server had left by its last answer.
    pub(crate) left: u64,
    /// The user and the number of the key, of each answered claim.
    pub(crate) claimed: Vec<(usize, u64)>,
    /// By user, how many claims may have taken a key without an answer.
    pub(crate) doubts: BTreeMap<usize, u64>,
}

impl Keys {
    /// Takes in the key that a claim was answered with. Returns what is wrong with it, if anything is.
    pub(crate) fn claim(&mut self, of: usize, number: u64) -> Option<String> {
        let last = self.claimed.iter().rev().find(|(user, _)| *user == of);
        let fault = last.filter(|(_, last)| *last >= number).map(|(_, last)| {
            format!(
                "key {number} of user {of} is given after key {last}, which is younger or the same"
            )
        });
        self.claimed.push((of, number));
        fault
    }
}

/// What was delivered to a device.
#[derive(Default)]
pub(crate) struct Inbox {
    /// The token of the last answer.
    pub(crate) since: Option<String>,
    /// By sender, the number of the last message that the server must not deliver again.
    acknowledged: BTreeMap<String, u64>,
    /// By sender, the number of the last message that was delivered. The first is 1.
    pub(crate) delivered: BTreeMap<String, u64>,
}

impl Inbox {
    /// Takes in the answer to a sync with the last token, which acknowledges what came before it, or without
    /// one. Returns what is wrong with it, if anything is.
    pub(crate) fn receive(
        &mut self,
        with_token: bool,
        messages: &[(String, u64)],
        next_batch: String,
    ) -> Option<String> {
        if with_token {
            self.acknowledged.clone_from(&self.delivered);
        }
        let mut delivered = self.acknowledged.clone();
        for (sender, number) in messages {
            let last = delivered.entry(sender.clone()).or_default();
            if *number != *last + 1 {
                return Some(format!("message {number} of {sender} is delivered after {last}"));
            }
            *last = *number;
        }
        if messages.len() < PORTION
            && self.delivered.iter().any(|(sender, number)| {
                delivered.get(sender).copied().unwrap_or_default() < *number
            })
        {
            return Some("a message is lost that was not acknowledged".to_owned());
        }
        (self.delivered, self.since) = (delivered, Some(next_batch));
        None
    }
}

/// The current backup of a user.
#[derive(Default)]
pub(crate) struct Backup {
    /// The version; empty if there is none.
    pub(crate) version: String,
    /// The last `etag`; empty if it is not known.
    etag: String,
    /// The numbers of the sessions in it.
    pub(crate) sessions: BTreeSet<u64>,
}

impl Backup {
    pub(crate) fn new(version: String) -> Self {
        Self { version, ..Self::default() }
    }

    /// Takes in the state of the backup from an answer. Returns what is wrong with it, if anything is.
    pub(crate) fn seen(&mut self, count: u64, etag: &str, has_changed: bool) -> Option<String> {
        let expected = u64::try_from(self.sessions.len()).unwrap_or(u64::MAX);
        let old = std::mem::replace(&mut self.etag, etag.to_owned());
        if count != expected {
            return Some(format!("{count} sessions instead of {expected}"));
        }
        if old.is_empty() || (old == etag) != has_changed {
            return None;
        }
        Some(format!("the etag {etag} after {old}, and the sessions changed: {has_changed}"))
    }
}

/// Compares what each user knows with what the server has and with what all others know.
pub(crate) async fn audit(client: &Client, actors: &mut [Actor]) -> Result<()> {
    for actor in &mut *actors {
        actor.empty_inbox(client).await?;
        actor.count_keys(client).await?;
        actor.look_at_backup(client).await?;
    }
    let (keys, inboxes): (Vec<_>, Vec<_>) =
        actors.iter().map(|actor| (&actor.keys, &actor.inbox)).unzip();
    let fault = twice(&keys).or_else(|| lost_keys(&keys)).or_else(|| {
        let sent = actors.iter().flat_map(|actor| {
            actor.sent.iter().map(|(to, number)| (actor.user_id.as_str(), *to, *number))
        });
        undelivered(sent, &inboxes)
    });
    fault.map_or(Ok(()), |fault| Err(Stop::Broken(fault)))
}

/// A key that was given to two.
fn twice(keys: &[&Keys]) -> Option<String> {
    let mut given = BTreeSet::new();
    let (user, number) =
        keys.iter().flat_map(|keys| &keys.claimed).find(|claimed| !given.insert(**claimed))?;
    Some(format!("key {number} of user {user} was given twice"))
}

/// A user whose keys are neither left nor given.
fn lost_keys(keys: &[&Keys]) -> Option<String> {
    for (user, own) in keys.iter().enumerate() {
        let given = keys.iter().flat_map(|keys| &keys.claimed).filter(|(of, _)| *of == user);
        let given = u64::try_from(given.count()).unwrap_or(u64::MAX);
        let doubts: u64 = keys.iter().filter_map(|keys| keys.doubts.get(&user)).sum();
        let known = own.left + given;
        if known > own.uploaded || known + doubts < own.uploaded {
            let Keys { uploaded, left, .. } = own;
            return Some(format!(
                "of {uploaded} keys of user {user}, {left} are left, {given} given and {doubts} in doubt"
            ));
        }
    }
    None
}

/// A user whose messages were not all delivered.
fn undelivered<'a>(
    mut sent: impl Iterator<Item = (&'a str, usize, u64)>,
    inboxes: &[&Inbox],
) -> Option<String> {
    let (sender, to, number) = sent.find(|(sender, to, number)| {
        let delivered = inboxes.get(*to).and_then(|inbox| inbox.delivered.get(*sender));
        delivered.copied().unwrap_or_default() != *number
    })?;
    Some(format!("the {number} messages of {sender} to user {to} were not all delivered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(inbox: &mut Inbox, with_token: bool, numbers: &[u64]) -> bool {
        let messages: Vec<_> = numbers.iter().map(|number| ("a".to_owned(), *number)).collect();
        inbox.receive(with_token, &messages, String::new()).is_none()
    }

    #[test]
    fn messages_come_in_order_until_they_are_acknowledged_and_then_never() {
        let fresh = || {
            let mut inbox = Inbox::default();
            assert!(receive(&mut inbox, false, &[1, 2]));
            inbox
        };
        assert!(receive(&mut fresh(), false, &[1, 2, 3]));
        assert!(receive(&mut fresh(), true, &[3]));
        for (with_token, wrong) in [(false, &[3][..]), (false, &[1]), (false, &[2, 1])] {
            assert!(!receive(&mut fresh(), with_token, wrong), "{wrong:?}");
        }
        for wrong in [&[1][..], &[2], &[4], &[3, 3]] {
            assert!(!receive(&mut fresh(), true, wrong), "{wrong:?}");
        }
        let mut acknowledged = fresh();
        assert!(receive(&mut acknowledged, true, &[]));
        assert!(!receive(&mut acknowledged, false, &[1, 2]));
    }

    #[test]
    fn a_key_is_given_once_in_order_and_none_is_lost() {
        let mut one = Keys { uploaded: 4, left: 1, ..Keys::default() };
        assert_eq!((one.claim(0, 0), one.claim(0, 2)), (None, None));
        assert!(lost_keys(&[&one]).is_some());
        one.doubts.insert(0, 1);
        assert_eq!((twice(&[&one]), lost_keys(&[&one])), (None, None));
        let mut two = Keys::default();
        assert_eq!(two.claim(0, 2), None);
        assert!(twice(&[&one, &two]).is_some());
        assert!(one.claim(0, 1).is_some());
        assert!(lost_keys(&[&one, &two]).is_some());
    }

    #[test]
    fn a_backup_has_what_was_put_there_and_its_etag_changes_when_that_does() {
        let mut backup = Backup::new("1".to_owned());
        assert_eq!(backup.seen(0, "0", false), None);
        backup.sessions.insert(7);
        assert_eq!(backup.seen(1, "1", true), None);
        assert_eq!(backup.seen(1, "1", false), None);
        for (count, etag, has_changed) in [(0, "2", true), (1, "1", true), (1, "2", false)] {
            backup.etag = "1".to_owned();
            assert!(backup.seen(count, etag, has_changed).is_some(), "{count} {etag}");
        }
    }

    #[test]
    fn a_message_that_was_answered_is_missed() {
        let mut inbox = Inbox::default();
        assert!(receive(&mut inbox, false, &[1, 2]));
        let missed = |number| undelivered([("a", 0, number)].into_iter(), &[&inbox]).is_some();
        assert!(!missed(2));
        assert!(missed(3));
    }
}
