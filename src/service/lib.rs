//! Use cases: users, rooms, sync, expiry. No HTTP, no storage engine types.
