//! Types and pure functions: ids, event stages, rules, errors, configuration, clock, randomness.
