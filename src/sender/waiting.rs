//! The destinations that are not to be asked yet, by the time at which they are.
//!
//! Invariant: an index in memory of what is in rows; a destination is in it once at most.

use std::collections::{BTreeSet, HashMap};

use ruma::{OwnedServerName, ServerName};
use wick_core::Timestamp;

/// The destinations that wait.
#[derive(Default)]
pub(crate) struct Waiting {
    by_server: HashMap<OwnedServerName, Timestamp>,
    queue: BTreeSet<(Timestamp, OwnedServerName)>,
}

impl Waiting {
    /// Lets a destination wait until a time.
    pub(crate) fn add(&mut self, server: OwnedServerName, until: Timestamp) {
        self.remove(&server);
        self.by_server.insert(server.clone(), until);
        self.queue.insert((until, server));
    }

    /// Lets a destination wait no longer. Returns whether it did.
    pub(crate) fn remove(&mut self, server: &ServerName) -> bool {
        let Some((server, until)) = self.by_server.remove_entry(server) else { return false };
        self.queue.remove(&(until, server))
    }

    /// Whether a destination waits.
    pub(crate) fn contains(&self, server: &ServerName) -> bool {
        self.by_server.contains_key(server)
    }

    /// When the first wait ends.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.queue.first().map(|(until, _)| *until)
    }

    /// Takes a destination whose wait is over.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<OwnedServerName> {
        if self.first()? > now {
            return None;
        }
        let (_, server) = self.queue.pop_first()?;
        self.by_server.remove(&server);
        Some(server)
    }

    /// The destinations that wait.
    pub(crate) fn all(&self) -> Vec<OwnedServerName> {
        self.by_server.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn destinations_come_up_in_the_order_of_their_last_times_and_once() {
        let mut waiting = Waiting::default();
        let [a, b, c] = [server_name!("a.test"), server_name!("b.test"), server_name!("c.test")];
        for (server, until) in [(a, 30), (b, 10), (c, 5), (b, 20)] {
            waiting.add(server.to_owned(), Timestamp(until));
        }
        assert!(waiting.remove(c) && !waiting.remove(c) && !waiting.contains(c));
        let mut due =
            |now| std::iter::from_fn(|| waiting.take_due(Timestamp(now))).collect::<Vec<_>>();
        assert!(due(19).is_empty());
        assert_eq!(due(30), [b.to_owned(), a.to_owned()]);
        assert_eq!(waiting.first(), None);
    }
}
