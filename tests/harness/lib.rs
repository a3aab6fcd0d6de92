//! Test support: in-process server, mock clock, room builder, failing commits.
