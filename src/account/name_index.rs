//! The words of a user's names, by which the user directory finds them.

use ruma::UserId;
use wick_core::{ShortUserId, words};
use wick_database::{Batch, schema::lookup::USER_BY_WORD};

/// Writes the words that a user is found by; `old` and `new` are display names.
pub fn index(
    batch: &mut Batch,
    (user, user_id): (ShortUserId, &UserId),
    old: Option<&str>,
    new: Option<&str>,
) {
    let mut wanted = words::distinct(user_id.localpart());
    wanted.extend(new.map(words::distinct).unwrap_or_default());
    for word in old.map(words::distinct).unwrap_or_default().difference(&wanted) {
        batch.delete(&USER_BY_WORD, &(word.clone(), user));
    }
    for word in wanted {
        batch.put(&USER_BY_WORD, &(word, user), &());
    }
}
