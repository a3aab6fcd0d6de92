//! Whether the query wants an event sent now or later (MSC4140).
//!
//! Invariant: a wish that is not understood is refused. To ignore it would send a "leave" at once.

use std::sync::Arc;

use wick_core::{Error, Result};

use crate::route::{Handler, Route};

/// One endpoint that sends an event now or, if the query has a delay, later.
pub(super) fn now_or_later(now: Route, later: Route) -> Route {
    let (send, schedule) = (now.handler, later.handler);
    let handler: Handler = Arc::new(move |services, call| match when(call.query()) {
        Ok(When::Now) => send(services, call),
        Ok(When::Later) => schedule(services, call),
        Err(error) => Box::pin(async { Err(error) }),
    });
    Route { handler, ..now }
}

/// An endpoint that sends an event now and no later.
pub(super) fn only_now(route: Route) -> Route {
    route.only_if(|call| match when(call.query())? {
        When::Now => Ok(()),
        When::Later => Err(not_understood()),
    })
}

/// When an event is to be sent.
#[derive(Debug, PartialEq, Eq)]
enum When {
    Now,
    Later,
}

/// What earlier and other revisions of MSC4140 called the delay.
const OTHER_NAMES: [&str; 3] = ["delay", "delay_ms", "future_timeout"];

fn when(query: &str) -> Result<When> {
    let mut when = When::Now;
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if name == "org.matrix.msc4140.delay" {
            when = When::Later;
        } else if name.starts_with("org.matrix.msc4140.") || OTHER_NAMES.contains(&&*name) {
            return Err(not_understood());
        }
    }
    Ok(when)
}

fn not_understood() -> Error {
    Error::invalid_param("the query asks for a delay in a way that this server does not know")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_never_taken_for_none() {
        for query in ["", "ts=7", "x=org.matrix.msc4140.delay"] {
            assert_eq!(when(query).unwrap(), When::Now, "{query}");
        }
        for query in [
            "org.matrix.msc4140.delay=5",
            "ts=7&org%2Ematrix.msc4140.delay",
            "org.matrix.msc4140.delay=",
        ] {
            assert_eq!(when(query).unwrap(), When::Later, "{query}");
        }
        for query in [
            "delay=5",
            "ts=7&delay_ms=5",
            "org.matrix.msc4140.delay_ms=5",
            "org.matrix.msc4140.delay=5&org.matrix.msc4140.parent_delay_id=x",
        ] {
            assert!(when(query).is_err(), "{query}");
        }
    }
}
