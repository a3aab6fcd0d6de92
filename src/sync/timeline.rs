//! The newest events of a room that the client does not have.

use ruma::events::TimelineEventType;
use wick_account::filters;
use wick_core::{Pdu, Result, ShortEventId, event::pdu::SharedPdu};
use wick_database::schema::room::Place;
use wick_room::{Direction, visibility::Viewer};

use super::{builder::Builder, room::Scope};

/// How many events are looked at for each one that is wanted, where most are not.
const LOOKED_AT_PER_WANTED: usize = 20;
const LOOKED_AT_AT_LEAST: usize = 500;

/// A piece of the timeline, not yet rendered.
pub(super) struct Piece {
    /// Old to new.
    pub(super) items: Vec<Item>,
    pub(super) limited: bool,
    /// The place after which it begins.
    pub(super) start: i64,
}

/// An event of the timeline.
pub(super) struct Item {
    pub(super) event: ShortEventId,
    pub(super) pdu: SharedPdu,
    pub(super) place: Place,
}

impl Piece {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && !self.limited
    }
}

impl Builder<'_> {
    /// The place of the newest event in scope; `None` if the room has none.
    pub(super) fn last_place(&self, scope: &Scope) -> Result<Option<i64>> {
        let newest = self.graph.timeline(&self.read, scope.room, scope.upto, Direction::Backward);
        Ok(newest.take(1).next().transpose()?.map(|item| item.place))
    }

    /// The newest events after what the client knows.
    pub(super) fn timeline(
        &self,
        viewer: &mut Viewer<'_>,
        scope: &Scope,
        moved: bool,
    ) -> Result<Piece> {
        let mut piece = Piece { items: Vec::new(), limited: false, start: scope.upto };
        let filter = &self.request.filter.room.timeline;
        if !moved {
            return Ok(piece);
        }
        let room_id = self.room_id(scope.room)?;
        let limit = if filters::allows_events_of(filter, &room_id) { self.limit() } else { 0 };
        let most = limit.saturating_mul(LOOKED_AT_PER_WANTED).max(LOOKED_AT_AT_LEAST);
        let newest = self.graph.timeline(&self.read, scope.room, scope.upto, Direction::Backward);
        for (looked_at, item) in newest.enumerate() {
            let item = item?;
            if scope.since.is_some_and(|since| item.place <= since) {
                break;
            }
            if looked_at >= most {
                piece.limited = true;
                break;
            }
            let Some(found) = self.wanted(viewer, scope, item.event)? else { continue };
            if piece.items.len() >= limit {
                piece.limited = true;
                break;
            }
            piece.start = item.place.saturating_sub(1);
            piece.items.push(found);
        }
        piece.items.reverse();
        piece.limited |= scope.gap;
        Ok(piece)
    }

    fn limit(&self) -> usize {
        let config = &self.sync.resources.config.sync;
        let wanted = self.request.filter.room.timeline.limit;
        let limit = wanted.map_or(config.timeline_limit.into(), u64::from);
        usize::try_from(limit.min(config.max_timeline_limit.into())).unwrap_or(usize::MAX)
    }

    fn wanted(
        &self,
        viewer: &mut Viewer<'_>,
        scope: &Scope,
        event: ShortEventId,
    ) -> Result<Option<Item>> {
        let pdu = self.graph.load_event(&self.read, event)?;
        let own = pdu.is_state(&TimelineEventType::RoomMember, self.session.user_id.as_str());
        if !self.asked_for(&pdu) || (scope.outside && !own) {
            return Ok(None);
        }
        let Some(place) = self.graph.place(&self.read, event)? else { return Ok(None) };
        let visible = viewer.can_see(&pdu, &place)?;
        Ok(visible.then_some(Item { event, pdu, place }))
    }

    fn asked_for(&self, pdu: &Pdu) -> bool {
        let ignored = pdu.state_key.is_none() && self.ignores(&pdu.sender);
        !ignored && filters::allows_event(&self.request.filter.room.timeline, pdu)
    }
}
