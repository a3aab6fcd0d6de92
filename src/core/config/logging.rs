//! `[logging]`: what is written to standard output.

use serde::{Deserialize, Serialize};

/// The section `[logging]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// The format of log lines.
    pub format: Format,
    /// Levels, by module: `info`, `wick_room=debug,warn`, …
    pub filter: String,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A person; coloured on a terminal.
    Human,
    /// A program: one JSON object per line.
    Json,
}

impl Default for Logging {
    fn default() -> Self {
        Self { format: Format::Human, filter: "info,ruma_state_res=warn".to_owned() }
    }
}
