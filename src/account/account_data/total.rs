//! How much account data a user has, counted with every change.
//!
//! Invariant: the row is what a scan of the user's account data gives, deleted pieces included. What was
//! deleted stays as a row, so that it is in the next sync, until the user's total leaves no room for it.

use wick_core::{Result, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::account_data::{
        ACCOUNT_DATA_BY_TYPE, ACCOUNT_DATA_CHANGE_BY_POSITION, AccountDataTotal, AccountDatum,
        TOTAL_BY_ACCOUNT_DATA_OWNER,
    },
};

/// The total of a user, as of `batch`.
pub(super) fn read(user: ShortUserId, batch: &mut Batch) -> Result<AccountDataTotal> {
    if let Some(total) = batch.read_for_update(&TOTAL_BY_ACCOUNT_DATA_OWNER, &user)? {
        return Ok(total);
    }
    let mut total = AccountDataTotal::default();
    for row in batch.scan(&ACCOUNT_DATA_BY_TYPE, Range::prefix((user,))) {
        let ((_, _, event_type), datum) = row?;
        total.rows += 1;
        total.bytes += size(&event_type, datum.content.as_deref());
    }
    Ok(total)
}

/// Counts that `old` is replaced by a row with `new`.
pub(super) fn change(
    user: ShortUserId,
    event_type: &str,
    old: Option<&AccountDatum>,
    new: Option<&str>,
    batch: &mut Batch,
) -> Result<()> {
    let mut total = read(user, batch)?;
    if let Some(old) = old {
        total = without(total, size(event_type, old.content.as_deref()));
    }
    total.rows = total.rows.saturating_add(1);
    total.bytes = total.bytes.saturating_add(size(event_type, new));
    batch.put(&TOTAL_BY_ACCOUNT_DATA_OWNER, &user, &total);
    Ok(())
}

/// Removes the rows of deleted pieces and returns what is left.
pub(super) fn drop_deleted(user: ShortUserId, batch: &mut Batch) -> Result<AccountDataTotal> {
    let mut deleted = Vec::new();
    for row in batch.scan(&ACCOUNT_DATA_BY_TYPE, Range::prefix((user,))) {
        let (key, datum) = row?;
        if datum.content.is_none() {
            deleted.push((key, datum.position));
        }
    }
    let mut total = read(user, batch)?;
    for (key, position) in deleted {
        total = without(total, size(&key.2, None));
        batch.delete(&ACCOUNT_DATA_CHANGE_BY_POSITION, &(user, position));
        batch.delete(&ACCOUNT_DATA_BY_TYPE, &key);
    }
    batch.put(&TOTAL_BY_ACCOUNT_DATA_OWNER, &user, &total);
    Ok(total)
}

fn without(total: AccountDataTotal, bytes: u64) -> AccountDataTotal {
    AccountDataTotal {
        rows: total.rows.saturating_sub(1),
        bytes: total.bytes.saturating_sub(bytes),
    }
}

fn size(event_type: &str, content: Option<&str>) -> u64 {
    let bytes = event_type.len().saturating_add(content.map_or(0, str::len));
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
