//! The load and scale benchmark.
