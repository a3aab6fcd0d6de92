//! Counts connections, in all and by address.
//!
//! Invariant: a slot that is dropped is free, and an address without connections takes no memory.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many connections there are, and may be.
pub(super) struct Slots {
    max: usize,
    max_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place for one connection, free again once dropped.
pub struct ConnectionSlot {
    slots: Arc<Slots>,
    address: Option<IpAddr>,
}

impl Slots {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self { max, max_per_address, taken: Mutex::default() }
    }

    /// A free slot for a connection that counts for `address`, if it is limited by address.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<ConnectionSlot> {
        let mut taken = self.taken();
        if taken.total >= self.max {
            return None;
        }
        if let Some(address) = address {
            let count = taken.by_address.get(&address).copied().unwrap_or_default();
            if count >= self.max_per_address {
                return None;
            }
            taken.by_address.insert(address, count.saturating_add(1));
        }
        taken.total = taken.total.saturating_add(1);
        metrics::gauge!("wick_connections").increment(1);
        Some(ConnectionSlot { slots: Arc::clone(self), address })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.total = taken.total.saturating_sub(1);
        if let Some(address) = self.address
            && let Some(count) = taken.by_address.get_mut(&address)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
        metrics::gauge!("wick_connections").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_and_what_is_dropped_is_free() {
        let slots = Arc::new(Slots::new(3, 2));
        let (first, second) = ("1.1.1.1".parse().ok(), "2.2.2.2".parse().ok());
        let one = slots.take(first).unwrap();
        let two = slots.take(first).unwrap();
        assert!(slots.take(first).is_none());
        let three = slots.take(second).unwrap();
        assert!(slots.take(second).is_none() && slots.take(None).is_none());
        drop((one, three));
        let unlimited = (slots.take(None).unwrap(), slots.take(first).unwrap());
        assert!(slots.take(None).is_none());
        drop((two, unlimited));
        let taken = slots.taken();
        assert!(taken.total == 0 && taken.by_address.is_empty());
    }
}
