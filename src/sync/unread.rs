//! What is unread in a room.

use wick_core::Result;
use wick_notify::{Counts, counts::UnreadIn};

use crate::{context::Context, scope::Scope};

/// The events in scope that notify and are not read.
///
/// # Errors
/// If the database cannot be read.
pub fn unread(context: &Context<'_>, counts: &Counts, scope: &Scope) -> Result<UnreadIn> {
    let at = (scope.room, scope.upto);
    counts.unread(&context.read, context.session.into(), at, &context.ignored)
}
