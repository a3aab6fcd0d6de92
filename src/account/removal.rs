//! Removal of many rows that nothing uses any more, a bounded number in one batch.

use wick_core::Result;
use wick_database::{Durability, Key, Range, Read, Table, Value};
use wick_runtime::Resources;

/// How many rows one batch removes.
const BATCH: usize = 1000;

/// Removes the rows with these keys.
pub(crate) async fn delete<K: Key + Sync, V: Value>(
    resources: &Resources,
    table: &Table<K, V>,
    keys: Vec<K>,
) -> Result<()> {
    for keys in keys.chunks(BATCH) {
        resources
            .change_with(Durability::Flushed, |batch| {
                keys.iter().for_each(|key| batch.delete(table, key));
                Ok(())
            })
            .await?;
    }
    Ok(())
}

/// Removes the rows of a range.
pub(crate) async fn delete_range<K: Key + Sync, V: Value>(
    resources: &Resources,
    table: &Table<K, V>,
    range: Range<K>,
) -> Result<()> {
    let mut keys = Vec::new();
    for key in resources.database.latest().scan(table, range).keys() {
        keys.push(key?);
    }
    delete(resources, table, keys).await
}
