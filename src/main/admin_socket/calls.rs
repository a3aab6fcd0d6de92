//! `wick admin calls`: calls by LiveKit.

use hyper::Method;
use serde_json::Value;
use wick_core::Config;

use super::{Reply, ask, show};
use crate::{Failure, cli};

/// A problem a line, or that there is none. Fails if there is one.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let reply = ask(config, Method::POST, "/calls/check", None)?;
    let Reply::Done(answer) = &reply else { return show(reply, |_| Vec::new()) };
    let problems = answer.get("problems").and_then(Value::as_array);
    let problems: Vec<_> = problems.into_iter().flatten().filter_map(Value::as_str).collect();
    if problems.is_empty() {
        return cli::print("calls work");
    }
    problems.iter().try_for_each(|problem| cli::print(problem))?;
    Err(Failure("calls do not work".to_owned()))
}
