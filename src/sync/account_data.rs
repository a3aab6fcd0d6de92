//! Account data of the user, globally and by room.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use wick_account::{
    account_data::{self, Changed},
    filters,
};
use wick_core::{Error, Result, ShortRoomId};

use super::{
    builder::Builder,
    response::{Json, basic_event},
};

/// What changed in account data, by room; `None` for all rooms.
pub(super) type News = BTreeMap<Option<ShortRoomId>, Vec<Changed>>;

impl Builder<'_> {
    /// What changed since the last sync; everything global if there was none.
    pub(super) fn account_data_news(&self) -> Result<News> {
        let Some(since) = self.since else {
            let global = account_data::all(&self.read, self.session.user, None)?;
            return Ok(News::from([(None, global)]));
        };
        let mut news = News::new();
        for changed in account_data::changed(&self.read, self.session.user, since, self.upto)? {
            news.entry(changed.room).or_default().push(changed);
        }
        Ok(news)
    }

    /// The global part, as far as the filter wants it.
    pub(super) fn global_account_data(&self, news: &News) -> Result<Vec<Json>> {
        let filter = &self.request.filter.account_data;
        let user_id = &self.session.user_id;
        let wanted = |event_type: &str| filters::allows_global(filter, event_type, user_id);
        events(news.get(&None).map(Vec::as_slice).unwrap_or_default(), wanted)
    }

    /// The part of one room. A room that the client does not know yet comes with all of it.
    pub(super) fn room_account_data(
        &self,
        room: ShortRoomId,
        is_new: bool,
        news: &News,
    ) -> Result<Vec<Json>> {
        let filter = &self.request.filter.room.account_data;
        let wanted = |event_type: &str| filters::allows_room_type(filter, event_type);
        if is_new {
            return events(&account_data::all(&self.read, self.session.user, Some(room))?, wanted);
        }
        events(news.get(&Some(room)).map(Vec::as_slice).unwrap_or_default(), wanted)
    }
}

fn events(changed: &[Changed], wanted: impl Fn(&str) -> bool) -> Result<Vec<Json>> {
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
