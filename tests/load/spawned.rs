//! The timer scenarios at a small size against the real wick, started as a benchmark starts it: its generated
//! configuration is one that wick takes, its requests are those wick serves.

use clap::Parser;
use wick_harness::process::binary;

use crate::{
    cli::{Options, Plan},
    scenario,
};

/// Runs a scenario and checks that its rows count as many as expected, without a failure.
fn assert_counts(arguments: &str, expected: &[u64]) {
    let words = ["wick-load"].into_iter().chain(arguments.split_whitespace());
    let words = words.chain(["--users", "2", "--warmup", "0", "--spawn", "wick"]);
    let options = Options { spawn: Some(binary().to_owned()), ..Options::parse_from(words) };
    let plan = Plan::new(options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(scenario::run(&plan)).unwrap();
    let counts: Vec<u64> = report.measures.iter().map(|measure| measure.count).collect();
    assert_eq!(counts, expected, "{report}");
    assert!(report.measures.iter().all(|measure| measure.errors.is_empty()), "{report}");
    assert!(report.measures.iter().any(|measure| measure.server.is_some()), "{report}");
}

#[test]
fn timers_are_set() {
    assert_counts("expire-arm --count 9", &[9]);
    assert_counts("delayed-schedule --count 9", &[9]);
}

#[test]
fn timers_are_kept_alive() {
    assert_counts("expire-refresh --timers 5 --count 50", &[50]);
    assert_counts("delayed-restart --timers 5 --count 50", &[50]);
}

#[test]
fn an_expiring_event_is_seen_to_end() {
    assert_counts("expire-fire --timers 5 --duration 3", &[5, 5]);
}

#[test]
fn a_delayed_event_is_seen_to_come() {
    assert_counts("delayed-fire --timers 5 --rooms 3 --rate 10 --duration 3", &[5, 5]);
}
