//! The wick homeserver.

fn main() {}
