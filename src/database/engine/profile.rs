//! The engine's settings: for the whole, and for each profile of table.
//!
//! Chosen for small machines: memory is bounded by the cache and the write buffers, which all tables
//! share; idle tables cost next to nothing.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, InfoLogger,
    LogLevel, Options as EngineOptions,
};

use crate::{Error, Options, Profile, Result};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Settings of the whole.
pub(super) fn database(options: &Options) -> Result<EngineOptions> {
    // The log of the last run stays a log, instead of becoming a small file for each table, which
    // would make a start slow. RocksDB's bindings have no setter for it.
    let mut settings = EngineOptions::default()
        .get_options_from_string("avoid_flush_during_recovery=true")
        .map_err(Error::engine)?;
    settings.create_if_missing(true);
    settings.set_max_open_files(options.max_open_files);
    settings.set_max_background_jobs(2);
    settings.set_db_write_buffer_size(options.write_buffer_bytes);
    let log_bytes = u64::try_from(options.write_buffer_bytes).unwrap_or(u64::MAX);
    settings.set_max_total_wal_size(log_bytes.saturating_mul(2));
    // `log` has judged the logs before: what RocksDB does not read was never durable.
    settings.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    settings.set_track_and_verify_wals_in_manifest(true);
    settings.set_manual_wal_flush(false);
    settings.set_bytes_per_sync(1 << 20);
    settings.set_avoid_unnecessary_blocking_io(true);
    // The commit lock lets one writer in at a time.
    settings.set_allow_concurrent_memtable_write(false);
    settings.set_enable_write_thread_adaptive_yield(false);
    settings.set_stats_dump_period_sec(0);
    settings.set_stats_persist_period_sec(0);
    settings.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, log));
    Ok(settings)
}

/// Settings of one table.
pub(super) fn table(profile: Profile, cache: &Cache) -> EngineOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_format_version(6);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In partitions: a lookup in a large table loads some KiB of filter and index, not the whole of a file's, which
    // would push everything else out of a small cache.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(4 * KIB);
    blocks.set_pin_top_level_index_and_filter(true);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_optimize_filters_for_memory(true);

    let mut settings = EngineOptions::default();
    settings.set_compression_type(DBCompressionType::Lz4);
    settings.set_level_compaction_dynamic_level_bytes(true);
    settings.set_arena_block_size(64 * KIB);
    settings.set_write_buffer_size(16 * MIB);
    settings.set_target_file_size_base(32 << 20);
    match profile {
        Profile::Random => blocks.set_block_size(4 * KIB),
        Profile::Sequential => blocks.set_block_size(16 * KIB),
        Profile::Small => {
            blocks.set_block_size(4 * KIB);
            settings.set_write_buffer_size(MIB);
            settings.set_target_file_size_base(4 << 20);
        }
        Profile::Blob => {
            blocks.set_block_size(16 * KIB);
            settings.set_enable_blob_files(true);
            settings.set_min_blob_size(8 << 10);
            settings.set_blob_compression_type(DBCompressionType::Lz4);
            settings.set_enable_blob_gc(true);
        }
    }
    settings.set_block_based_table_factory(&blocks);
    settings
}

/// The engine's own log goes into ours, from warnings upwards.
fn log(level: LogLevel, text: &str) {
    let text = text.trim_end();
    match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{text}"),
        LogLevel::Warn => tracing::warn!(target: "rocksdb", "{text}"),
        LogLevel::Debug | LogLevel::Info | LogLevel::Header => {
            tracing::debug!(target: "rocksdb", "{text}");
        }
    }
}
