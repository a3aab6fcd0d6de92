//! `wick admin media`.

use hyper::Method;
use serde_json::Value;
use wick_core::Config;

use super::{ask, escaped, query, rows, show, text};
use crate::{Failure, cli::Media};

pub(super) fn run(config: &Config, what: &Media) -> Result<(), Failure> {
    let (path, done) = match what {
        Media::List { user, room, server, remote, after, limit } => {
            let limit = limit.to_string();
            let query = query([
                ("user_id", user.as_deref()),
                ("room_id", room.as_deref()),
                ("server_name", server.as_deref()),
                ("remote", remote.then_some("true")),
                ("after", after.as_deref()),
                ("limit", Some(&*limit)),
            ]);
            return show(ask(config, Method::GET, &format!("/media?{query}"), None)?, lines);
        }
        Media::Delete { media_id } => (one(media_id, "delete"), "deleted"),
        Media::Quarantine { media_id } => (one(media_id, "quarantine"), "quarantined"),
        Media::Release { media_id } => (one(media_id, "release"), "released"),
        Media::DeleteAll { of } => (all(of, "delete"), "deleted"),
        Media::QuarantineAll { of } => (all(of, "quarantine"), "quarantined"),
        Media::ReleaseAll { of } => (all(of, "release"), "released"),
    };
    show(ask(config, Method::POST, &path, None)?, |answer| match answer.get("done") {
        Some(number) => vec![format!("{done}: {number}")],
        None => vec![done.to_owned()],
    })
}

/// The path of what is done with media of this server or, behind a server's name, of another one.
fn one(media_id: &str, action: &str) -> String {
    let media_id = media_id.strip_prefix("mxc://").unwrap_or(media_id);
    match media_id.split_once('/') {
        None => format!("/media/{}/{action}", escaped(media_id)),
        Some((server, media_id)) => {
            format!("/media/{}/{}/{action}", escaped(server), escaped(media_id))
        }
    }
}

/// The path of what is done with all media of a user, of a room, or of another server.
fn all(of: &str, action: &str) -> String {
    let key = match of.chars().next() {
        Some('@') => "user_id",
        Some('!') => "room_id",
        _ => "server_name",
    };
    format!("/media/{action}?{}", query([(key, Some(of))]))
}

/// A piece of media a line, the bytes of all of a user, and where the next of a room begin.
fn lines(answer: &Value) -> Vec<String> {
    let fields =
        ["media_id", "user_id", "uploaded", "size", "content_type", "file_name", "quarantined"];
    let mut lines = rows(answer, "media", &fields);
    for (field, shown) in [("usage", "bytes in all"), ("next", "more after")] {
        if answer.get(field).is_some_and(Value::is_number) {
            lines.push(format!("{shown}: {}", text(answer, field)));
        }
    }
    lines
}
