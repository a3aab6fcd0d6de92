//! Ids that the server gives itself. Each is its own type, so that a stream position can never be
//! passed where a short id is wanted.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The smallest id.
            pub const MIN: Self = Self(u64::MIN);
            /// The largest id.
            pub const MAX: Self = Self(u64::MAX);

            /// The id after this one; the largest stays where it is.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The id before this one; the smallest stays where it is.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

number_ids! {
    /// A position in the stream of everything that clients can sync. Sync tokens are made of it.
    Position;
    /// A room, interned.
    ShortRoomId;
    /// An event, interned. Allocated in the order in which events are stored, whatever their room.
    ShortEventId;
    /// A pair of event type and state key, interned.
    ShortStateKey;
    /// A user of any server, interned.
    ShortUserId;
    /// A durable timer.
    TimerId;
}

/// The address of one version of a room's state: the content hash of the root of its tree.
/// Two equal states have the same root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct StateRoot(pub [u8; 16]);

impl StateRoot {
    /// The root of the empty state.
    pub const EMPTY: Self = Self([0; 16]);
}

impl fmt::Debug for StateRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
