//! What the database knows about itself.

tables! {
    /// Single numbers about the database itself, by name.
    /// Written by the engine with every commit that has a position; read at start; rebuilt from nothing.
    META: String => u64, Small;
}

/// The row of [`META`] that holds the version of the whole format.
pub(crate) const FORMAT: &str = "format";

/// The row of [`META`] that is written to find out whether writes work.
pub(crate) const PROBE: &str = "probe";

/// The row of [`META`] that holds the last [`Position`] given out.
pub(crate) const POSITION: &str = "position";

