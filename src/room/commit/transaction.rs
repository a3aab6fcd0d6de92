//! The answer to the request, so that the same request again is the same event.

use wick_database::{
    Slot,
    schema::room::{
        ANSWER_BY_TRANSACTION, AnsweredTransaction, TRANSACTION_BY_POSITION, TransactionAnswer,
    },
};

use super::Entry;
use crate::Assembly;

pub(super) fn write(room: &mut Assembly<'_>, entry: &Entry, slot: Slot) {
    let Some(transaction) = &entry.effects.transaction else { return };
    let answer = TransactionAnswer {
        event: entry.pdu.event_id.clone(),
        timer: entry.effects.arm.as_ref().map(|arm| (arm.timer, arm.nonce)),
    };
    let answered = AnsweredTransaction { at: room.rooms.clock.now(), key: transaction.row_key() };
    room.batch.put(&ANSWER_BY_TRANSACTION, &answered.key, &answer);
    room.batch.put_at(slot, &TRANSACTION_BY_POSITION, move |position| (position, answered));
}
