//! How many requests of one server are worked on at the same time.
//!
//! Invariant: a server is remembered only while a request of its runs.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};
use wick_core::{Error, Result};

use crate::Federation;

/// When a server that makes too many requests at once is to come back.
const PAUSE: Duration = Duration::from_secs(1);

/// The requests that are worked on, by server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running(Arc<Mutex<HashMap<OwnedServerName, u32>>>);

/// A request that is worked on as long as this is there.
#[derive(Debug)]
pub struct RunningRequest {
    running: Running,
    server: OwnedServerName,
}

impl Running {
    fn all(&self) -> MutexGuard<'_, HashMap<OwnedServerName, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, server: &ServerName, most: u32) -> Result<RunningRequest> {
        let mut all = self.all();
        let number = all.entry(server.to_owned()).or_default();
        if *number >= most {
            return Err(Error::limit_exceeded(PAUSE));
        }
        *number += 1;
        Ok(RunningRequest { running: self.clone(), server: server.to_owned() })
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        if let Entry::Occupied(mut number) = self.running.all().entry(self.server.clone()) {
            *number.get_mut() = number.get().saturating_sub(1);
            if *number.get() == 0 {
                number.remove();
            }
        }
    }
}

impl Federation {
    /// Begins to work on a request of `server`.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` if `federation.max_requests_per_server` of its requests are worked on already.
    pub fn begin(&self, server: &ServerName) -> Result<RunningRequest> {
        self.running.begin(server, self.max_running)
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn requests_of_one_server_are_bounded_until_they_end() {
        let running = Running::default();
        let (a, b) = (server_name!("a.test"), server_name!("b.test"));
        let first = running.begin(a, 2).unwrap();
        let second = running.begin(a, 2).unwrap();
        assert!(running.begin(a, 2).is_err());
        let other = running.begin(b, 2).unwrap();
        drop(first);
        let third = running.begin(a, 2).unwrap();
        drop((second, third, other));
        assert!(running.all().is_empty());
    }
}
