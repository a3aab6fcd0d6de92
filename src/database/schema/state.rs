//! The versions of the rooms' states, as trees that share what they have in common.

tables! {
    /// A node of a state tree by the first half of the SHA-256 of its bytes. Never changed.
    /// Written and read by `room::state`; rebuilt by resolving the rooms' states again.
    STATE_NODE_BY_HASH: [u8; 16] => Vec<u8>, Random;
}
