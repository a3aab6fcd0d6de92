//! Firing: the terminal event of a timer, in one batch with the timer's removal.
//!
//! Invariant: what is done was decided on a row that the commit requires to be unchanged, so a timer
//! ends once whatever races it: another firing, an end, a refresh, a newer state event, a redaction.

use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use wick_core::{Draft, Error, Monotonic, Result, TimerId, event::pdu::SharedPdu};
use wick_database::{
    Durability, Read,
    schema::timer::{TIMER_BY_EVENT, TIMER_BY_ID, TimerKind, TimerRow},
};
use wick_room::{Assembly, Effects, Finish, Outcome};

use super::{Expiry, KEY, name_of};
use crate::resources::is_conflict;

/// How often a firing is tried anew because the timer was refreshed in between.
const ATTEMPTS: usize = 16;

/// How a timer is to end, and which.
#[derive(Clone, Copy)]
pub(super) struct Firing {
    pub(super) timer: TimerId,
    pub(super) outcome: Outcome,
    /// Only if it is due by then; otherwise whatever its deadline.
    pub(super) due_by: Option<Monotonic>,
}

/// A timer that was decided to end.
struct Decided {
    row: TimerRow,
    firing: Firing,
}

impl Expiry {
    /// Ends one timer now, whatever its deadline. Does nothing if it has ended.
    pub(super) async fn finish(&self, timer: TimerId, outcome: Outcome) -> Result<()> {
        self.fire(&[Firing { timer, outcome, due_by: None }]).await
    }

    /// Ends timers of one room, in their order, in one batch. Those that were refreshed or ended in
    /// the meantime are left alone.
    pub(super) async fn fire(&self, firings: &[Firing]) -> Result<()> {
        for _ in 0..ATTEMPTS {
            match self.fire_once(firings).await {
                // One of them was refreshed between our look and the write: look again at all.
                Err(error) if is_conflict(&error) => {}
                result => return result,
            }
        }
        Err(Error::corrupt("timers changed again and again while they fired"))
    }

    async fn fire_once(&self, firings: &[Firing]) -> Result<()> {
        let decided = self.decide(firings)?;
        let Some(first) = decided.first() else { return Ok(()) };
        let room = first.row.room;
        let latest = self.latest();
        let Some(room_id) = self.graph.intern().room_id(&latest, room)? else {
            return self.drop_rows(&decided).await;
        };
        let ended = self
            .graph
            .transact(&room_id, |room| {
                let mut ended = Vec::new();
                for Decided { row, firing } in &decided {
                    ended.push(self.end_in(room, row, *firing)?);
                }
                Ok(ended)
            })
            .await?;
        for (Decided { row, firing }, ended) in decided.iter().zip(ended) {
            self.tell(row, *firing, &room_id, &ended);
        }
        Ok(())
    }

    /// Reads the rows first and asks memory after, the other way round than a refresh writes.
    fn decide(&self, firings: &[Firing]) -> Result<Vec<Decided>> {
        let latest = self.latest();
        let mut decided = Vec::with_capacity(firings.len());
        for firing in firings {
            let Some(row) = latest.get(&TIMER_BY_ID, &firing.timer)? else {
                self.timers.stopped(firing.timer);
                continue;
            };
            if let Some(due_by) = firing.due_by
                && self.timers.due(firing.timer).is_some_and(|due| due > due_by)
            {
                self.timers.requeue(firing.timer);
                continue;
            }
            decided.push(Decided { row, firing: *firing });
        }
        Ok(decided)
    }

    fn end_in(&self, room: &mut Assembly<'_>, row: &TimerRow, firing: Firing) -> Result<Ended> {
        let TimerKind::Expire(short) = row.kind;
        if !room.batch().contains(&TIMER_BY_EVENT, &short)? {
            return Ok(Ended::Already);
        }
        let original = self.graph.load_event(room.batch(), short)?;
        // The commit of whatever replaced it stops the timer; this is the second lock on that door.
        if let Some((event_type, state_key)) = original.state_tuple()
            && room.state_event_short(&event_type, &state_key)? != Some(short)
        {
            room.stop_timer(short, Outcome::Superseded)?;
            return Ok(Ended::Already);
        }
        let ended_at = (firing.outcome == Outcome::Ended).then(|| self.resources.clock.now());
        let finish =
            Finish { timer: firing.timer, row: row.clone(), outcome: firing.outcome, ended_at };
        let draft = terminal_draft(&original, name_of(firing.outcome))?;
        let effects = Effects { finish: Some(finish.clone()), ..Effects::default() };
        match room.append(draft, effects) {
            Ok(_) => Ok(Ended::Said(original)),
            // The auth rules decide now, not when it was armed (rule 15).
            Err(Error::Refused(_)) => {
                room.finish_without_event(&finish)?;
                Ok(Ended::Refused(original))
            }
            Err(error) => Err(error),
        }
    }

    /// Timers of a room that is gone have nothing left to say.
    async fn drop_rows(&self, decided: &[Decided]) -> Result<()> {
        let mut batch = self.resources.database.batch();
        for Decided { row, firing } in decided {
            let TimerKind::Expire(event) = row.kind;
            batch.delete(&TIMER_BY_ID, &firing.timer);
            batch.delete(&TIMER_BY_EVENT, &event);
        }
        self.resources.database.commit(batch, Durability::Synced).await?;
        for Decided { firing, .. } in decided {
            self.timers.stopped(firing.timer);
        }
        Ok(())
    }

    fn tell(&self, row: &TimerRow, firing: Firing, room_id: &ruma::RoomId, ended: &Ended) {
        let (original, refused) = match ended {
            Ended::Said(original) => (original, false),
            Ended::Refused(original) => (original, true),
            Ended::Already => return,
        };
        if firing.outcome == Outcome::Expired && firing.due_by.is_some() {
            let late = self.resources.clock.now().since(row.deadline);
            metrics::histogram!("wick_expiry_lateness_seconds").record(late.as_secs_f64());
        }
        if refused {
            metrics::counter!("wick_expiry_refused_total").increment(1);
        }
        tracing::info!(
            %room_id,
            event_id = %original.event_id,
            outcome = name_of(firing.outcome),
            refused,
            "a timer ended"
        );
    }
}

enum Ended {
    /// The terminal event is in the room.
    Said(SharedPdu),
    /// The auth rules refused it; the original's status is set.
    Refused(SharedPdu),
    /// Something else ended it before.
    Already,
}

/// The terminal event: the original's content with the status, related to the original (rule 19).
fn terminal_draft(original: &SharedPdu, status: &str) -> Result<Draft> {
    let mut content: CanonicalJsonObject = original
        .content_as()
        .map_err(|error| Error::internal("a stored content is not canonical", error))?;
    let text = |value: &str| CanonicalJsonValue::String(value.to_owned());
    let relation = CanonicalJsonObject::from_iter([
        ("rel_type".to_owned(), text("m.expire.relationship")),
        ("event_id".to_owned(), text(original.event_id.as_str())),
    ]);
    content.insert(KEY.to_owned(), text(status));
    content.insert("m.relates_to".to_owned(), CanonicalJsonValue::Object(relation));
    Ok(Draft {
        room_id: original.room_id.clone(),
        sender: original.sender.clone(),
        event_type: original.event_type.clone(),
        state_key: original.state_key.clone(),
        content,
        redacts: None,
        origin_server_ts: None,
    })
}
