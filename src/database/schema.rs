//! Every table of the server, one file per subject.
//!
//! To add a table, write one entry into the `tables!` list of its subject:
//!
//! ```text
//! /// The events of a room in stream order.
//! /// Written by `room::commit`, read by sync and `/messages`, rebuilt from nothing.
//! EVENT_BY_POSITION: (ShortRoomId, Position) => ShortEventId, Sequential, wakes_room;
//! ```
//!
//! which makes `schema::<subject>::EVENT_BY_POSITION`, a constant of type
//! [`Table`](crate::Table)`<key, value>`. Its name on disk is the constant's name in lower case; the
//! profile is one of [`Profile`](crate::Profile); `wakes_room`, `wakes_user`, `wakes_member` and `wakes_table` are optional. Constants
//! are named `<VALUE>_BY_<KEY>`. Types that only a table has live beside it, with `postcard_value!` or
//! `json_value!`.
//!
//! To add a subject, write `schema/<subject>.rs` and add its name to the `subjects!` list below.
//!
//! Invariant: a table that is not in a `tables!` list does not exist.

use crate::table::TableInfo;

/// Declares the tables of one subject.
macro_rules! tables {
    ($($(#[doc = $doc:literal])+ $table:ident: $key:ty => $value:ty, $profile:ident $(, $wakes:ident)?;)+) => {
        $(
            $(#[doc = $doc])+
            pub const $table: $crate::Table<$key, $value> = $crate::Table::new(
                {
                    const LENGTH: usize = stringify!($table).len();
                    const NAME: [u8; LENGTH] = $crate::schema::lower_case(stringify!($table));
                    match str::from_utf8(&NAME) {
                        Ok(name) => name,
                        Err(_) => stringify!($table),
                    }
                },
                $crate::Profile::$profile,
            )$(.$wakes())?;
        )+

        pub(super) const TABLES: &[$crate::table::TableInfo] = &[$(
            $crate::table::TableInfo {
                name: $table.name(),
                profile: $table.profile(),
                key: stringify!($key),
                value: stringify!($value),
                docs: &[$($doc),+],
            },
        )+];
    };
}

macro_rules! subjects {
    ($($(#[$when:meta])? $subject:ident),* $(,)?) => {
        $($(#[$when])? pub mod $subject;)*

        const SUBJECTS: &[&[TableInfo]] = &[$($(#[$when])? $subject::TABLES),*];
    };
}

subjects! {
    #[cfg(test)]
    probe,
    account_data,
    backups,
    calls,
    confirmations,
    cross_signing,
    dehydrated,
    delayed,
    device_keys,
    device_lists,
    devices,
    ephemeral,
    inbound,
    directory,
    federation,
    intern,
    lookup,
    media,
    meta,
    outgoing,
    previews,
    push,
    remote,
    remote_devices,
    replacement,
    reports,
    room,
    state,
    sticky,
    stream,
    timer,
    to_device,
    users,
}

/// All tables.
pub fn all() -> impl Iterator<Item = &'static TableInfo> {
    SUBJECTS.iter().copied().flatten()
}

#[expect(clippy::indexing_slicing, reason = "const; the length is the text's own")]
const fn lower_case<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut lower = [0; LENGTH];
    let mut index = 0;
    while index < LENGTH {
        lower[index] = text.as_bytes()[index].to_ascii_lowercase();
        index += 1;
    }
    lower
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;

    #[test]
    fn every_table_has_a_name_of_its_own_in_lower_case() {
        let mut names = BTreeSet::new();
        for table in all() {
            assert!(names.insert(table.name), "{} is there twice", table.name);
            assert!(
                table.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{}",
                table.name,
            );
        }
        assert!(names.contains("short_by_room"));
    }
}
