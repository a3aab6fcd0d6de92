//! The memory that passwords are hashed in.
//!
//! Invariant: there are never more buffers than hashes computed at once, however many passwords were
//! checked, and none once [`HashingMemory::release`] was called with no hash in progress.

use std::sync::{Mutex, PoisonError};

use argon2::Block;

/// A buffer of this size or more is returned to the system when it is freed, whatever the allocator keeps
/// of smaller ones. What is not touched of it costs nothing.
const RESERVED_BLOCKS: usize = (32 << 20) / Block::SIZE + 1;

/// Buffers between two uses.
pub(super) struct HashingMemory {
    blocks: usize,
    idle: Mutex<Vec<Vec<Block>>>,
}

impl HashingMemory {
    /// Memory for hashes of `blocks` blocks each.
    pub(super) fn new(blocks: usize) -> Self {
        Self { blocks, idle: Mutex::default() }
    }

    /// Runs `work` with a buffer of at least `blocks` blocks.
    pub(super) fn with<T>(&self, blocks: usize, work: impl FnOnce(&mut [Block]) -> T) -> T {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer =
            idle.unwrap_or_else(|| Vec::with_capacity(self.blocks.max(RESERVED_BLOCKS)));
        if buffer.len() < blocks {
            buffer.resize(blocks, Block::new());
        }
        let result = work(&mut buffer);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        result
    }

    /// Frees the buffers that are not in use.
    pub(super) fn release(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// How many buffers are kept.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.idle.lock().unwrap().len()
    }
}
