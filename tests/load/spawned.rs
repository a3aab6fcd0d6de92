//! The scenarios of timers and of encryption at a small size against the real wick, started as a benchmark starts it: its generated
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

#[test]
fn every_key_is_claimed_and_every_device_is_found() {
    assert_counts("keys-claim --devices 2 --count 1000", &[400]);
    assert_counts("keys-query --devices 3 --count 9", &[9]);
}

#[test]
fn messages_reach_all_devices() {
    assert_counts("to-device --devices 5 --count 101", &[101, 20]);
}

#[test]
fn keys_are_the_same_work_beside_more_devices() {
    assert_counts("scale-devices --devices 3 --count 8", &[3, 8, 8, 8, 8, 0, 8, 8, 8, 8]);
}

#[test]
fn a_backup_takes_keys_beside_few_and_beside_many() {
    assert_counts("scale-backup --messages 3000 --count 8", &[20, 8, 20, 8]);
}

#[test]
fn a_sync_in_any_number_of_rooms_has_the_changed_one() {
    assert_counts("sync-rooms --rooms 7 --count 3", &[3, 3, 3]);
}

#[test]
fn a_victim_is_answered_whatever_another_user_does() {
    let scenario = "victims --rooms 3 --messages 5 --devices 4 --count 5 --rate 50";
    assert_counts(scenario, &[5; 9]);
}

#[test]
fn refreshes_are_measured_beside_few_timers_and_beside_all() {
    assert_counts("refresh-scale --timers 1003 --count 9", &[1000, 9, 3, 9]);
}

#[test]
fn participants_stay_while_they_are_connected_and_leave_with_their_connection() {
    assert_counts("calls --rooms 2 --duration 5 --seconds 8", &[2, 1, 2]);
}

#[test]
fn notifications_reach_their_gateway_and_survive_a_kill() {
    assert_counts("push --rooms 2 --count 6", &[6, 2]);
}
