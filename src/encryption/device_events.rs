//! What follows in this crate from changes of devices.
//!
//! Invariant: the keys and the inbox of a device go in the batch that removes it, and so does the note in the
//! device lists.

use ruma::{DeviceId, OwnedDeviceId};
use wick_account::DeviceListener;
use wick_core::{Result, ShortUserId};
use wick_database::{Batch, Read, schema::device_keys::KEYS_BY_DEVICE};

use crate::{
    backup::drop_backups,
    cross_signing::{self, drop_device_signatures},
    dehydrated,
    device_keys::drop_keys,
    device_lists::{self, note_change, note_unseen_change},
    to_device::drop_inbox,
};

/// Keeps keys and inboxes in step with the devices.
pub struct DeviceEvents;

impl DeviceListener for DeviceEvents {
    fn added(&self, user: ShortUserId, batch: &mut Batch) -> Result<()> {
        // It has no keys yet.
        note_unseen_change(user, batch);
        Ok(())
    }

    fn removed(
        &self,
        user: ShortUserId,
        device_ids: &[OwnedDeviceId],
        batch: &mut Batch,
    ) -> Result<()> {
        let mut was_seen = false;
        for device_id in device_ids {
            was_seen |= drop_keys(user, device_id, batch)?;
            drop_inbox(batch, user, device_id)?;
        }
        drop_device_signatures(user, device_ids, batch)?;
        dehydrated::forget(user, device_ids, batch)?;
        if was_seen {
            note_change(user, batch)?;
        } else {
            note_unseen_change(user, batch);
        }
        Ok(())
    }

    fn renamed(&self, user: ShortUserId, device_id: &DeviceId, batch: &mut Batch) -> Result<()> {
        // The name is shown with the keys.
        if batch.contains(&KEYS_BY_DEVICE, &(user, device_id))? {
            note_change(user, batch)?;
        } else {
            note_unseen_change(user, batch);
        }
        Ok(())
    }

    fn deactivated(&self, user: ShortUserId, batch: &mut Batch) -> Result<()> {
        cross_signing::drop_keys(user, batch)?;
        note_change(user, batch)?;
        drop_backups(batch, user)?;
        device_lists::drop_signature_changes(user, batch)
    }
}
