//! What must hold in the stored rooms, and a check of it. Run by tests after every crash
//! they simulate, and by `wick check`.
//!
//! Invariant: reads the tables alone and uses no cache.

mod delayed;
mod graph;
mod members;
mod names;
mod relations;
mod state;
mod sticky;
mod timers;

use std::fmt;

use wick_core::{Result, ShortRoomId};
use wick_database::{
    Range, Read,
    schema::room::{HEAD_BY_ROOM, Head},
};

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule is broken.
    pub class: Class,
    /// Where: short ids, which contain no personal data.
    pub at: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.name(), self.at)
    }
}

macro_rules! classes {
    ($($(#[$doc:meta])+ $class:ident = $name:literal,)+) => {
        /// The invariants, each named after its violation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Class {
            $($(#[$doc])+ $class,)+
        }

        impl Class {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$class),+];

            /// Its name in messages.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$class => $name,)+
                }
            }
        }
    };
}

classes! {
    /// A room without a forward extremity: no event can be sent to it.
    NoExtremity = "no_extremity",
    /// A forward extremity that is not an accepted event of the room.
    ExtremityMissing = "extremity_missing",
    /// A forward extremity that an accepted event refers to.
    ExtremityReferenced = "extremity_referenced",
    /// A row of the timeline whose event has another place or does not exist.
    TimelineRowWithoutEvent = "timeline_row_without_event",
    /// An event whose place in the timeline has no row or another's.
    EventWithoutTimelineRow = "event_without_timeline_row",
    /// An entry of the stream that is not an event at this position, or an event that is not in the stream.
    StreamDiffers = "stream_differs",
    /// An event that refers to one that neither has a place nor is listed as missing.
    PrevEventMissing = "prev_event_missing",
    /// An event that is listed as missing and has a place.
    MissingEventIsHere = "missing_event_is_here",
    /// A missing event that is in one of the two lists and not in the other.
    MissingIndexDiffers = "missing_index_differs",
    /// A gap of a timeline that overlaps another one, or has an event where its places are free.
    GapDiffers = "gap_differs",
    /// An event that is stored without one of its auth events.
    AuthEventMissing = "auth_event_missing",
    /// A thread that is not listed at its newest event, or listed where it is not.
    ThreadIndexDiffers = "thread_index_differs",
    /// A relation that is in one of the two indexes and not in the other.
    RelationIndexDiffers = "relation_index_differs",
    /// A place of an event that is not stored.
    PlaceWithoutEvent = "place_without_event",
    /// A state that lacks a node, or has one whose hash is not its address.
    StateNodeMissing = "state_node_missing",
    /// A state that names an event that is not stored.
    StateEventMissing = "state_event_missing",
    /// The table of the current state differs from the head's state tree.
    CurrentStateDiffers = "current_state_differs",
    /// The member rows of a room differ from its state.
    MemberOfRoomDiffers = "member_of_room_differs",
    /// The memberships of a user differ from the rooms' states.
    MemberOfUserDiffers = "member_of_user_differs",
    /// The number of members is not how many there are.
    MemberCountDiffers = "member_count_differs",
    /// The servers that a room is counted to have are not those of its joined members.
    ServerOfRoomDiffers = "server_of_room_differs",
    /// A timer of an event that is not stored, or is in another room.
    TimerWithoutEvent = "timer_without_event",
    /// A timer that its event does not lead to, or that another timer's event leads to.
    TimerIndexDiffers = "timer_index_differs",
    /// A timer of an event that was redacted.
    TimerOfRedactedEvent = "timer_of_redacted_event",
    /// A timer of a state event that is not current.
    TimerOfReplacedState = "timer_of_replaced_state",
    /// An expiry status of an event that is not stored.
    StatusWithoutEvent = "status_without_event",
    /// An event whose status is running without a timer, or that has a timer and another status.
    StatusDiffers = "status_differs",
    /// A timer of a delayed event whose content is missing, or that is finalised.
    DelayedTimerDiffers = "delayed_timer_differs",
    /// A delayed event that is neither scheduled nor finalised, or whose outcome is not listed for its owner.
    DelayedEventAdrift = "delayed_event_adrift",
    /// A delayed state event that is scheduled and cannot be found by its state key, or the reverse.
    DelayedStateDiffers = "delayed_state_differs",
    /// The answer to a request that scheduled an event leads to none.
    ScheduledAnswerDiffers = "scheduled_answer_differs",
    /// A sticky event that is not at the place in its row, is redacted, or is not found by its end, or the reverse.
    StickyDiffers = "sticky_differs",
    /// The answer to a transaction names an event that is not stored.
    TransactionWithoutEvent = "transaction_without_event",
    /// A name and its short id that do not lead to each other.
    NameDiffers = "name_differs",
}

/// Checks everything. An empty answer is a sound store.
///
/// # Errors
/// If the storage fails or a row cannot be read.
pub fn check(read: &impl Read) -> Result<Vec<Violation>> {
    let mut report = Report { read, found: Vec::new() };
    let rooms = read.scan(&HEAD_BY_ROOM, Range::all()).collect::<Result<Vec<_>, _>>()?;
    graph::check(&mut report, &rooms)?;
    state::check(&mut report, &rooms)?;
    members::check(&mut report, &rooms)?;
    relations::check(&mut report)?;
    timers::check(&mut report)?;
    delayed::check(&mut report)?;
    sticky::check(&mut report)?;
    names::check(&mut report)?;
    Ok(report.found)
}

/// A room with its head.
type Room = (ShortRoomId, Head);

/// What has been found so far.
struct Report<'a, R> {
    read: &'a R,
    found: Vec<Violation>,
}

impl<R> Report<'_, R> {
    fn add(&mut self, class: Class, at: impl fmt::Display) {
        self.found.push(Violation { class, at: at.to_string() });
    }

    /// Adds a violation unless something holds.
    fn expect(&mut self, holds: bool, class: Class, at: impl fmt::Display) {
        if !holds {
            self.add(class, at);
        }
    }
}
