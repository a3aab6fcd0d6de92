//! How many entries the lists in requests may have, how long the texts that are searched for may be, how deep requests
//! may be nested, and which of them must have a body.
//!
//! Invariant: a request beyond a limit is refused before its body is read any further, so that no use case
//! meets a list that it cannot work through in a few milliseconds.

mod sizes;

use http::{Method, Request};
use ruma::exports::serde_html_form;
use serde::Deserialize;
use wick_core::{
    Error, Result,
    json::{MAX_DEPTH, MAX_TRANSACTION_DEPTH},
};

use self::sizes::sizes;
use crate::error::not_json;

/// Of the requests to paths with an ending: the lists in their bodies, each with the most entries. A list is
/// named by the fields that lead to it; `*` is any field, and `+` all fields: their lists together may have so
/// many. The entries of an object are its fields.
type Limited = (Method, &'static str, &'static [(&'static str, usize)]);

/// All limits. `docs/reference/limits.md` has the same table, which a test checks.
const LIMITS: &[Limited] = &[
    // The rooms of `m.direct` are lists by user.
    (Method::PUT, "/account_data/{event_type}", &[("ignored_users", 5000), ("+", 20_000)]),
    (Method::POST, "/createRoom", &[("invite", 100), ("invite_3pid", 100), ("initial_state", 100)]),
    (Method::POST, "/delete_devices", &[("devices", 1000)]),
    (Method::POST, "/filter", FILTER),
    (
        Method::POST,
        "/keys/query",
        &[("device_keys", 5000), ("device_keys.*", 1000), ("device_keys.+", 10_000)],
    ),
    (
        Method::POST,
        "/keys/claim",
        &[("one_time_keys", 5000), ("one_time_keys.*", 1000), ("one_time_keys.+", 5000)],
    ),
    (
        Method::POST,
        "/key/v2/query",
        &[("server_keys", 100), ("server_keys.*", 100), ("server_keys.+", 1000)],
    ),
    (Method::POST, "/publicRooms", &[("filter.*", 100)]),
    (
        Method::POST,
        "/search",
        &[
            ("search_categories.room_events.keys", 10),
            ("search_categories.room_events.filter.*", 1000),
            ("search_categories.room_events.groupings.*", 10),
        ],
    ),
    (Method::PUT, "/federation/v1/3pid/onbind", &[("invites", 10)]),
    (Method::PUT, "/federation/v1/send/{transaction_id}", &[("pdus", 50), ("edus", 100)]),
    (Method::PUT, "/pushrules/global/{kind}/{rule_id}", &[("conditions", 100), ("actions", 100)]),
    (
        Method::PUT,
        "/sendToDevice/{event_type}/{txn_id}",
        &[("messages", 5000), ("messages.*", 1000), ("messages.+", 5000)],
    ),
];

/// The lists of a filter, in a body or in a query.
const FILTER: &[(&str, usize)] = &[("*", 1000), ("*.*", 1000), ("*.*.*", 1000)];

/// The most bytes of a text that is searched for.
const TEXT: usize = 1024;

/// Of the requests to paths with an ending: the text that is searched for.
const TEXTS: &[(Method, &str, &str)] = &[
    (Method::POST, "/publicRooms", "filter.generic_search_term"),
    // Before the shorter ending.
    (Method::POST, "/user_directory/search", "search_term"),
    (Method::POST, "/search", "search_categories.room_events.search_term"),
];

/// Of the endpoints whose fields are all optional, those that must have a body nevertheless.
const WITH_BODY: &[(Method, &str)] = &[
    (Method::POST, "/createRoom"),
    (Method::PUT, "/send/{event_type}/{txn_id}"),
    (Method::PUT, "/state/{event_type}/{state_key}"),
    (Method::PUT, "/state/{event_type}"),
    (Method::PUT, "/state/{event_type}/"),
];

/// The endpoints whose requests hold events and EDUs that are judged one by one: one that is nested too deep does not
/// spoil the others.
const DEEP: &[(Method, &str)] = &[(Method::PUT, "/federation/v1/send/{transaction_id}")];

/// Method and end of the path of every endpoint whose requests have limits of their own, for a test that each is served.
pub fn limited_endpoints() -> impl Iterator<Item = (Method, &'static str)> {
    let lists = LIMITS.iter().map(|(method, ending, _)| (method.clone(), *ending));
    let texts = TEXTS.iter().map(|(method, ending, _)| (method.clone(), *ending));
    lists.chain(texts).chain(WITH_BODY.iter().cloned()).chain(DEEP.iter().cloned())
}

/// What the requests to one endpoint must fulfil before they are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    lists: &'static [(&'static str, usize)],
    text: Option<&'static str>,
    has_body: bool,
    is_deep: bool,
}

impl Shape {
    /// The shape of requests to this endpoint.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let lists = LIMITS
            .iter()
            .find(|(of, ending, _)| of == method && path.ends_with(ending))
            .map_or(&[][..], |(_, _, lists)| *lists);
        let text = TEXTS
            .iter()
            .find(|(of, ending, _)| of == method && path.ends_with(ending))
            .map(|(_, _, text)| *text);
        let is_one_of = |endpoints: &[(Method, &str)]| {
            endpoints.iter().any(|(of, ending)| of == method && path.ends_with(ending))
        };
        Self { lists, text, has_body: is_one_of(WITH_BODY), is_deep: is_one_of(DEEP) }
    }

    /// How deep a body may be nested.
    pub(crate) fn max_depth(self) -> usize {
        if self.is_deep { MAX_TRANSACTION_DEPTH } else { MAX_DEPTH }
    }

    fn ensure_text(self, body: &[u8]) -> Result<()> {
        let Some(path) = self.text.filter(|_| body.len() > TEXT) else { return Ok(()) };
        if sizes(body, &[path]).iter().any(|size| size.bytes > TEXT) {
            return Err(Error::invalid_param(format!("{path} is longer than {TEXT} bytes")));
        }
        Ok(())
    }

    /// Refuses a request that does not have the shape.
    ///
    /// # Errors
    /// `M_NOT_JSON` if the body is missing, `M_INVALID_PARAM` if a list or a text is too long.
    pub(crate) fn check(self, request: &Request<impl AsRef<[u8]>>) -> Result<()> {
        let body = request.body().as_ref();
        if self.has_body && body.trim_ascii().is_empty() {
            return Err(not_json("the body is missing"));
        }
        ensure_lists(body, self.lists)?;
        self.ensure_text(body)?;
        if request.method() == Method::GET
            && let Some(query) = request.uri().query()
            && can_be_over(FILTER, query.len())
            && let Ok(Query { filter: Some(filter) }) = serde_html_form::from_str(query)
        {
            ensure_lists(filter.as_bytes(), FILTER)?;
        }
        Ok(())
    }
}

/// Whether so many bytes can hold a list that is too long: each entry takes one at least.
fn can_be_over(lists: &[(&str, usize)], bytes: usize) -> bool {
    lists.iter().any(|(_, max)| bytes > *max)
}

#[derive(Deserialize)]
struct Query {
    filter: Option<String>,
}

fn ensure_lists(json: &[u8], lists: &[(&str, usize)]) -> Result<()> {
    if !can_be_over(lists, json.len()) {
        return Ok(());
    }
    let paths: Vec<_> = lists.iter().map(|(path, _)| *path).collect();
    for ((path, max), found) in lists.iter().zip(sizes(json, &paths)) {
        if found.entries > *max {
            return Err(Error::invalid_param(format!("{path} has more than {max} entries")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    const REFERENCE: &str = include_str!("../../docs/reference/limits.md");

    #[test]
    fn every_limit_is_in_the_reference() {
        for (method, ending, lists) in LIMITS {
            for (list, max) in *lists {
                let row = format!("| `{method} …{ending}` | `{list}` | {max} |");
                assert!(REFERENCE.contains(&row), "{row}");
            }
        }
        for (method, ending, text) in TEXTS {
            let row = format!("| `{method} …{ending}` | `{text}` | {TEXT} |");
            assert!(REFERENCE.contains(&row), "{row}");
        }
    }

    fn check(method: Method, path: &str, body: &serde_json::Value) -> Result<()> {
        let request = Request::builder().method(method.clone()).uri("/?filter={}");
        Shape::of(&method, path).check(&request.body(body.to_string()).unwrap())
    }

    #[test]
    fn lists_are_counted_wherever_their_fields_lead() {
        let users = |count: usize| vec!["@a:b"; count];
        let create = |count| json!({ "invite": users(count), "name": users(200) });
        check(Method::POST, "/v3/createRoom", &create(100)).unwrap();
        check(Method::POST, "/v3/createRoom", &create(101)).unwrap_err();
        check(Method::POST, "/v3/elsewhere", &create(101)).unwrap();
        let filter = |count| json!({ "room": { "timeline": { "senders": users(count) } } });
        check(Method::POST, "/user/{user_id}/filter", &filter(1000)).unwrap();
        check(Method::POST, "/user/{user_id}/filter", &filter(1001)).unwrap_err();
        let rooms = vec!["!a:b"; 4000];
        let direct = |count: usize| {
            let users: BTreeMap<_, _> = (0..count).map(|n| (format!("@{n}:b"), &rooms)).collect();
            json!(users)
        };
        check(Method::PUT, "/user/{user_id}/account_data/{event_type}", &direct(5)).unwrap();
        check(Method::PUT, "/user/{user_id}/account_data/{event_type}", &direct(6)).unwrap_err();
        let devices = |count: usize| {
            let devices: BTreeMap<_, _> = (0..count).map(|n| (n.to_string(), json!({}))).collect();
            json!({ "messages": { "@a:b": devices } })
        };
        let path = "/sendToDevice/{event_type}/{txn_id}";
        check(Method::PUT, path, &devices(1000)).unwrap();
        check(Method::PUT, path, &devices(1001)).unwrap_err();
        let claims = |count: usize| {
            let devices: BTreeMap<_, _> = (0..count).map(|n| (n.to_string(), json!("a"))).collect();
            let users: BTreeMap<_, _> = (0..50).map(|n| (n.to_string(), &devices)).collect();
            json!({ "one_time_keys": users })
        };
        check(Method::POST, "/keys/claim", &claims(100)).unwrap();
        check(Method::POST, "/keys/claim", &claims(101)).unwrap_err();
    }

    #[test]
    fn a_text_that_is_searched_for_is_measured_in_bytes() {
        let search = |term: String| json!({ "search_categories": { "room_events": { "search_term": term } } });
        check(Method::POST, "/v3/search", &search("é".repeat(TEXT / 2))).unwrap();
        check(Method::POST, "/v3/search", &search("é".repeat(TEXT / 2) + "e")).unwrap_err();
        let users = |length| json!({ "search_term": "e".repeat(length) });
        let path = "/v3/user_directory/search";
        check(Method::POST, path, &users(TEXT)).unwrap();
        check(Method::POST, path, &users(TEXT + 1)).unwrap_err();
        check(Method::POST, "/v3/elsewhere", &users(TEXT + 1)).unwrap();
    }
}
