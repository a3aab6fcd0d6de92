//! The event graph: build, receive, resolve, commit, read. Consistent or not written.

pub mod state;
