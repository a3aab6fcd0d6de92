//! `!admin expiring`: which events expire when, and ending them.

use std::sync::{Arc, atomic::Ordering};

use clap::Subcommand;
use conduwuit::{Err, Result};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use service::expiring::Outcome;

use crate::Context;

/// Commands for events that expire
#[derive(Debug, Subcommand)]
pub enum ExpiringCommand {
    /// List the timers that run, of a room or a user if one is given
    List {
        /// Only of this room
        #[arg(long)]
        room: Option<OwnedRoomId>,

        /// Only of this user
        #[arg(long)]
        user: Option<OwnedUserId>,
    },

    /// End an event now, as if its sender had
    End {
        /// The event
        event_id: OwnedEventId,
    },

    /// What happened since the start
    Totals,
}

pub(super) async fn process(command: ExpiringCommand, context: &Context<'_>) -> Result {
    match command {
        ExpiringCommand::List { room, user } => list(context, room, user).await,
        ExpiringCommand::End { event_id } => {
            if !context.services.expiring.end_event(&event_id).await? {
                return Err!("no timer of {event_id} runs");
            }
            context.write_str("Ended.").await
        }
        ExpiringCommand::Totals => totals(context).await,
    }
}

async fn list(
    context: &Context<'_>,
    room: Option<OwnedRoomId>,
    user: Option<OwnedUserId>,
) -> Result {
    let mut rows = context.services.expiring.running().await;
    rows.retain(|row| room.as_ref().is_none_or(|room| *room == row.room_id));
    rows.retain(|row| user.as_ref().is_none_or(|user| *user == row.sender));
    rows.sort_by_key(|row| row.deadline);
    let mut text = format!("{} timers:\n", rows.len());
    for row in rows.iter().take(crate::PAGE_SIZE) {
        text.push_str(&format!(
            "- {} of {} in {}, {} s, until {} ms\n",
            row.event_id, row.sender, row.room_id, row.duration, row.deadline
        ));
    }
    context.write_str(&text).await
}

async fn totals(context: &Context<'_>) -> Result {
    let expiring = Arc::clone(&context.services.expiring);
    let running = expiring.running().await.len();
    let totals = expiring.totals();
    let mut text = format!(
        "{running} running; since the start {} armed, {} refreshed",
        totals.armed.load(Ordering::Relaxed),
        totals.refreshed.load(Ordering::Relaxed)
    );
    for (outcome, total) in Outcome::ALL.iter().zip(&totals.ended) {
        text.push_str(&format!(", {} {}", total.load(Ordering::Relaxed), outcome.name()));
    }
    context.write_str(&text).await
}
