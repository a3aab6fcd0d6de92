//! Reports of users to administrators, about events, rooms and users.
//!
//! Invariant: only what the reporter may know of can be reported; everything else is not there.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Serialize;
use wick_account::{Session, users::find};
use wick_core::{Error, Result, Timestamp};
use wick_database::{
    Read,
    schema::{
        reports::{REPORT_BY_POSITION, Report, Reported},
        room::Membership,
    },
};
use wick_room::{Graph, visibility::Viewer};
use wick_runtime::Resources;

/// How long a reason is kept.
const MAX_REASON_BYTES: usize = 4096;

/// A report as an administrator sees it.
#[derive(Clone, Debug, Serialize)]
pub struct ReportEntry {
    /// When it was made.
    pub at: Timestamp,
    /// The reporting user.
    pub reporter: OwnedUserId,
    /// The reported room, or that of the reported event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<OwnedRoomId>,
    /// The reported event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<OwnedEventId>,
    /// The reported user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<OwnedUserId>,
    /// The reason as the reporter gave it.
    pub reason: String,
}

impl From<Report> for ReportEntry {
    fn from(Report { reporter, about, reason, at }: Report) -> Self {
        let (room_id, event_id, user_id) = match about {
            Reported::Event(room, event) => (Some(room), Some(event), None),
            Reported::Room(room) => (Some(room), None, None),
            Reported::User(user) => (None, None, Some(user)),
        };
        Self { at, reporter, room_id, event_id, user_id, reason }
    }
}

/// Takes reports.
pub struct Reports {
    resources: Resources,
    graph: Arc<Graph>,
}

impl Reports {
    /// Reports about what is in `graph`.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph }
    }

    /// Reports an event of a room that the session's user is in.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such event for the session's user, `M_TOO_LARGE`.
    pub async fn event(
        &self,
        session: &Session,
        (room_id, event_id): (&RoomId, &EventId),
        reason: String,
    ) -> Result<()> {
        let unknown = || Error::not_found("there is no such event that you may see");
        let read = self.resources.database.published();
        let room = self.graph.short(&read, room_id)?.ok_or_else(unknown)?;
        let device = Some(&*session.device_id);
        let mut viewer = Viewer::new(&self.graph, &read, room, &session.user_id, device)?;
        let is_in = viewer.member().is_some_and(|member| member.membership == Membership::Join);
        let event = self.graph.intern().lookup_event(&read, event_id)?.ok_or_else(unknown)?;
        let pdu = self.graph.event(&read, event)?.ok_or_else(unknown)?;
        let place = self.graph.place(&read, event)?.ok_or_else(unknown)?;
        if !is_in || !viewer.can_see(&pdu, &place)? {
            return Err(unknown());
        }
        let about = Reported::Event(room_id.to_owned(), event_id.to_owned());
        self.write(session, about, reason).await
    }

    /// Reports a room.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it is unknown, `M_TOO_LARGE`.
    pub async fn room(&self, session: &Session, room_id: &RoomId, reason: String) -> Result<()> {
        let read = self.resources.database.published();
        let room = self.graph.short(&read, room_id)?;
        let head = room.map(|room| self.graph.head(&read, room)).transpose()?.flatten();
        head.ok_or_else(|| Error::not_found("there is no such room"))?;
        self.write(session, Reported::Room(room_id.to_owned()), reason).await
    }

    /// Reports a user.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such account, `M_TOO_LARGE`.
    pub async fn user(&self, session: &Session, user_id: &UserId, reason: String) -> Result<()> {
        let read = self.resources.database.published();
        find(&read, &self.resources, user_id)?
            .ok_or_else(|| Error::not_found("there is no such user"))?;
        self.write(session, Reported::User(user_id.to_owned()), reason).await
    }

    /// The newest `limit` reports, the newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn newest(&self, limit: usize) -> Result<Vec<ReportEntry>> {
        let read = self.resources.database.published();
        let rows = read.scan_back(&REPORT_BY_POSITION, wick_database::Range::all());
        rows.take(limit).map(|row| Ok(row?.1.into())).collect()
    }

    async fn write(&self, session: &Session, about: Reported, reason: String) -> Result<()> {
        if reason.len() > MAX_REASON_BYTES {
            return Err(Error::too_large("a reason has at most 4096 bytes"));
        }
        let reporter = session.user_id.clone();
        let report = Report { reporter, about, reason, at: self.resources.clock.now() };
        self.resources
            .change(|batch| {
                let (slot, report) = (batch.reserve_position(), report.clone());
                batch.put_at(slot, &REPORT_BY_POSITION, move |position| (position, report));
                Ok(())
            })
            .await?;
        tracing::info!(reporter = %session.user_id, about = ?report.about, "reported");
        Ok(())
    }
}
