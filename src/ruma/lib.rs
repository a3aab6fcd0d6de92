//! The ruma schema extension: what ruma does not have for events that expire.
