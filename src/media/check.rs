//! Compares what is stored with the rows that refer to it.

use std::{collections::HashSet, sync::Arc};

use wick_core::{Config, Result};
use wick_database::{
    Database, Range, Read,
    schema::media::{FILE_BY_HASH, HASH_BY_FILE_NAME, THUMBNAIL_BY_FILE},
};
use wick_runtime::Supervisor;

use crate::store::{self, SHARDS};

/// What is wrong in the media store of a server that does not run: files that a row refers to and that are not there, and
/// rows that contradict each other. The number of files without a row, which the running server sweeps, is returned too.
///
/// # Errors
/// If the store or the database cannot be read.
pub async fn check(
    config: &Config,
    database: &Database,
    supervisor: &Arc<Supervisor>,
) -> Result<(usize, Vec<String>)> {
    let store = store::open(config, supervisor)?;
    let read = database.published();
    let mut wrong = Vec::new();
    let mut named = HashSet::new();
    for row in read.scan(&FILE_BY_HASH, Range::all()) {
        named.insert(row?.1.name);
    }
    for row in read.scan(&THUMBNAIL_BY_FILE, Range::all()) {
        named.extend(row?.1.name);
    }
    for name in read.scan(&HASH_BY_FILE_NAME, Range::all()).keys() {
        let name = name?;
        if !named.contains(&name) {
            wrong.push(format!("the file {name} is listed and nothing refers to it"));
        }
    }
    let (mut orphans, mut there) = (0_usize, HashSet::new());
    for shard in 0..SHARDS {
        let shard = u8::try_from(shard).unwrap_or(u8::MAX);
        for name in store.list(shard).await.map_err(store::failed("list files"))? {
            if named.contains(&name) {
                there.insert(name);
            } else if store::created(&name).is_some() {
                orphans = orphans.saturating_add(1);
            }
        }
    }
    let missing = named.iter().filter(|name| !there.contains(*name));
    wrong.extend(missing.map(|name| format!("the file {name} is missing")));
    Ok((orphans, wrong))
}
