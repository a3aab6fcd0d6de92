//! The integration tests: one binary, a module per area.
//!
//! Invariants: every file in this folder is a module listed here (`tidy` checks it); tests are
//! sentences, do not sleep, and start their own server, so they can run in any order and at once.

mod account_crashes;
mod account_data;
mod accounts;
mod aliases;
mod bad_input;
mod calls;
mod confirmations;
mod connections;
mod counts;
mod delayed;
mod devices;
mod directory;
mod encryption;
mod expired_everywhere;
mod expiry;
mod graph;
mod guesses;
mod hang_ups;
mod history;
mod http;
mod invariants;
mod membership;
mod memberships;
mod notifications;
mod parallel_writes;
mod presence;
mod process;
mod profile;
mod push_rules;
mod receipts;
mod redactions;
mod relations;
mod room_changes;
mod room_conflicts;
mod room_crashes;
mod rooms;
mod rubbish;
mod search;
mod spaces;
mod stored;
mod struck;
mod sync;
mod sync_history;
mod sync_state;
mod sync_waiting;
mod talk;
mod tidy;
mod timestamp;
mod typing;
mod upgrades;
mod user_directory;
mod visibility;
