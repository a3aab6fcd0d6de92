//! Reports of users to administrators.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use wick_core::{Position, Timestamp};

use crate::postcard_value;

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The reporting user.
    pub reporter: OwnedUserId,
    /// What is reported.
    pub about: Reported,
    /// The reason, as the reporter gave it.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// What can be reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reported {
    /// An event of a room.
    Event(OwnedRoomId, OwnedEventId),
    /// A room.
    Room(OwnedRoomId),
    /// A user.
    User(OwnedUserId),
}

postcard_value!(Report, version = 1);

tables! {
    /// Reports in the order in which they came. Written by the report endpoints; read by
    /// administrators; rebuilt from nothing else.
    REPORT_BY_POSITION: Position => Report, Small;
}
