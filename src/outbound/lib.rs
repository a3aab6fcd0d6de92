//! HTTP requests to addresses that users or other servers name: guarded, bounded, pooled.
