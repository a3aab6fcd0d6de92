//! Which requests have to do with events that expire, by their paths alone.
//!
//! Invariant: a request whose answer is a content and no event is not among them: a content is its sender's,
//! and may look like anything.

use http::{Method, Uri};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// An event to be sent, which may expire.
    Sending,
    /// Events, which may have a status.
    Events,
    /// What the server can do.
    Versions,
    /// What the user may do.
    Capabilities,
    /// Something else.
    Other,
}

/// What a request is about.
pub fn about(method: &Method, uri: &Uri) -> About {
    let Some(path) = uri.path().strip_prefix("/_matrix/client/") else { return About::Other };
    let path: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    match (method.as_str(), path.as_slice()) {
        ("PUT", [_, "rooms", _, "send" | "state", ..]) => About::Sending,
        ("GET", ["versions"]) => About::Versions,
        ("GET", [_, "capabilities"]) => About::Capabilities,
        ("GET", [_, "sync" | "events" | "notifications"])
        | ("POST", [_, "search"] | [_, _, "sync"]) => About::Events,
        ("GET", [_, "rooms", _, "state"]) => About::Events,
        ("GET", [_, "rooms", _, "state", ..]) => {
            // With any other format the answer is a content, which is the sender's alone.
            let mut query = uri.query().into_iter().flat_map(|query| query.split('&'));
            let event = query.any(|pair| pair == "format=event");
            if event { About::Events } else { About::Other }
        }
        ("GET", [_, "rooms", _, kind, ..]) if has_events(kind) => About::Events,
        _ => About::Other,
    }
}

fn has_events(kind: &str) -> bool {
    matches!(kind, "messages" | "context" | "event" | "relations" | "threads" | "initialSync")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_path() {
        for (method, uri, expected) in [
            ("PUT", "/_matrix/client/v3/rooms/!r:b/send/m.room.message/1", About::Sending),
            ("PUT", "/_matrix/client/r0/rooms/!r:b/state/org.example/", About::Sending),
            ("PUT", "/_matrix/client/v3/rooms/!r:b/typing/@a:b", About::Other),
            ("PUT", "/_matrix/client/v3/sendToDevice/m.x/1", About::Other),
            ("GET", "/_matrix/client/v3/sync?since=1", About::Events),
            ("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", About::Events),
            ("POST", "/_matrix/client/v3/search", About::Events),
            ("GET", "/_matrix/client/v3/rooms/!r:b/event/$e", About::Events),
            ("GET", "/_matrix/client/v1/rooms/!r:b/relations/$e/m.thread", About::Events),
            ("GET", "/_matrix/client/v3/rooms/!r:b/state", About::Events),
            ("GET", "/_matrix/client/v3/rooms/!r:b/state/org.example/x", About::Other),
            (
                "GET",
                "/_matrix/client/v3/rooms/!r:b/state/org.example/x?format=event",
                About::Events,
            ),
            ("GET", "/_matrix/client/versions", About::Versions),
            ("GET", "/_matrix/client/v3/capabilities", About::Capabilities),
            ("GET", "/_matrix/federation/v1/event/$e", About::Other),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(about(&method, &uri.parse().unwrap()), expected, "{uri}");
        }
    }
}
