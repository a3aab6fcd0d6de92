//! Account data of the user, global and by room.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use wick_account::account_data::{self, Changed};
use wick_core::{Error, Position, Result, ShortRoomId};

use crate::{
    context::Context,
    events::{Json, basic_event},
};

/// The account data that changed, by room; `None` is global.
pub type ChangedAccountData = BTreeMap<Option<ShortRoomId>, Vec<Changed>>;

/// The account data that changed after `since`; all global account data if there is none.
///
/// # Errors
/// If the database cannot be read.
pub fn changed(context: &Context<'_>, since: Option<Position>) -> Result<ChangedAccountData> {
    let user = context.session.user;
    let Some(since) = since else {
        let global = account_data::all(&context.read, user, None)?;
        return Ok(ChangedAccountData::from([(None, global)]));
    };
    let mut by_room = ChangedAccountData::new();
    if !context.is_user_changed_since(since) {
        return Ok(by_room);
    }
    for changed in account_data::changed(&context.read, user, since, context.upto)? {
        by_room.entry(changed.room).or_default().push(changed);
    }
    Ok(by_room)
}

/// The account data of a room that the client does not have, as far as it is `wanted`.
///
/// # Errors
/// If the database cannot be read.
pub fn whole_room(
    context: &Context<'_>,
    room: ShortRoomId,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Json>> {
    events(&account_data::all(&context.read, context.session.user, Some(room))?, wanted)
}

/// Account data as events, as far as its types are `wanted`.
///
/// # Errors
/// If what is stored is not JSON.
pub fn events(changed: &[Changed], wanted: impl Fn(&str) -> bool) -> Result<Vec<Json>> {
    changed
        .iter()
        .filter(|changed| wanted(&changed.event_type))
        .map(|changed| {
            let content: &RawValue = serde_json::from_str(&changed.content)
                .map_err(|error| Error::internal("stored account data", error))?;
            basic_event(&changed.event_type, &content)
        })
        .collect()
}
