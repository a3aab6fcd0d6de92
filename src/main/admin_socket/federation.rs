//! `wick admin federation`: other servers.

use hyper::Method;
use serde_json::Value;
use wick_core::Config;

use super::{Reply, ask, escaped, query, rows, show, text};
use crate::{
    Failure,
    cli::{self, Federation},
};

/// Does what was asked on the command line.
pub(super) fn run(config: &Config, what: &Federation) -> Result<(), Failure> {
    match what {
        Federation::Check { server } => check(config, server),
        Federation::Destinations { after, limit } => {
            let limit = limit.to_string();
            let query = query([("after", after.as_deref()), ("limit", Some(&*limit))]);
            let path = format!("/federation/destinations?{query}");
            let fields = ["server", "last_success", "failures", "retry_at", "failure"];
            show(ask(config, Method::GET, &path, None)?, |answer| {
                rows(answer, "destinations", &fields)
            })
        }
        Federation::Reset { server } => {
            let path = format!("/federation/destinations/{}/reset", escaped(server));
            show(ask(config, Method::POST, &path, None)?, |answer| {
                let is_reset = answer.get("reset").and_then(Value::as_bool).unwrap_or_default();
                vec![if is_reset { "reset" } else { "there was nothing to reset" }.to_owned()]
            })
        }
        Federation::RotateKey => {
            show(ask(config, Method::POST, "/federation/rotate-key", None)?, |answer| {
                vec![format!("the new key is {}: back up the key files", text(answer, "key_id"))]
            })
        }
    }
}

/// A finding a line. Fails if one is bad.
fn check(config: &Config, server: &str) -> Result<(), Failure> {
    let path = format!("/federation/check/{}", escaped(server));
    let reply = ask(config, Method::POST, &path, None)?;
    let Reply::Done(answer) = &reply else { return show(reply, |_| Vec::new()) };
    let findings = answer.get("findings").and_then(Value::as_array);
    let mut is_good = true;
    for finding in findings.into_iter().flatten() {
        let good = finding.get("good").and_then(Value::as_bool).unwrap_or_default();
        is_good &= good;
        cli::print(&format!(
            "{}  {}",
            if good { "ok    " } else { "FAILED" },
            text(finding, "finding")
        ))?;
    }
    match is_good {
        true => cli::print(&format!("{server} can be talked to")),
        false => Err(Failure(format!("{server} cannot be talked to"))),
    }
}
