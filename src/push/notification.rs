//! The notification of an event or of an unread count, as a pusher wants it.
//!
//! Invariant (R13): the content of an event comes from the [`Viewer`]; what the user cannot see, has read or has left is
//! not written at all.
//!
//! <https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use ruma::{
    OwnedUserId, SecondsSinceUnixEpoch, UInt,
    api::{
        client::push::{Pusher, PusherKind},
        push_gateway::send_event_notification::v1::{
            Device, Notification, NotificationCounts, NotificationPriority,
        },
    },
    events::{StateEventType, TimelineEventType},
    push::{Action, HighlightTweakValue, HttpPusherData, PushFormat, Tweak},
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use wick_account::{account_data::ignored_users, pushers::PusherKey};
use wick_core::{Error, Pdu, Position, Result, ShortEventId, ShortRoomId, config::Counted};
use wick_database::{
    Snapshot,
    schema::{account_data::StoredPusher, push::PusherProgress, room::Membership},
};
use wick_notify::Recipient;
use wick_room::{membership, render::Show, visibility::Viewer};

use crate::{
    push::Shared,
    remote_invite::StoredInvite,
    room_name::{alias, room_name},
};

/// Switches the unread count off (MSC4076).
const DISABLE_COUNT: &str = "org.matrix.msc4076.disable_badge_count";

/// Writes notifications for one pusher from one snapshot.
pub(crate) struct Writer<'a> {
    shared: &'a Shared,
    read: &'a Snapshot,
    key: &'a PusherKey,
    user_id: OwnedUserId,
    ignored: Arc<HashSet<OwnedUserId>>,
    data: HttpPusherData,
}

/// A notification.
pub(crate) struct Written {
    /// Where it goes.
    pub(crate) url: String,
    /// The body of the request.
    pub(crate) body: Bytes,
    /// The unread count in it, if the pusher wants one.
    pub(crate) badge: Option<u64>,
}

#[derive(Deserialize)]
struct Shown {
    content: Box<RawValue>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        read: &'a Snapshot,
        key: &'a PusherKey,
        stored: &StoredPusher,
    ) -> Result<Self> {
        let pusher: Pusher = serde_json::from_str(&stored.json)
            .map_err(|error| Error::internal("stored pusher", error))?;
        let PusherKind::Http(data) = pusher.kind else {
            return Err(Error::corrupt("a stored pusher is of another kind than http"));
        };
        let user_id = shared.graph.user_id(read, key.0)?;
        let ignored = Arc::new(ignored_users(read, key.0, &user_id)?);
        Ok(Self { shared, read, key, user_id, ignored, data })
    }

    /// The notification of an event that these actions are for; `None` if there is nothing to send.
    pub(crate) fn event(
        &self,
        (room, event): (ShortRoomId, ShortEventId),
        actions: &str,
        progress: &PusherProgress,
    ) -> Result<Option<Written>> {
        let graph = &self.shared.graph;
        if !self.concerns(room, event)? {
            return Ok(None);
        }
        let viewer = Viewer::new(graph, self.read, room, &self.user_id, None)?;
        let mut viewer = viewer.ignoring(Arc::clone(&self.ignored));
        let Some(shown) = viewer.show_if_visible(event, Show::NESTED)? else { return Ok(None) };
        let pdu = graph.load_event(self.read, event)?;
        let badge = self.badge()?;
        let mut notification = self.begin(&pdu.event_type, actions, (progress, badge))?;
        notification.event_id = Some(pdu.event_id.clone());
        notification.room_id = Some(pdu.room_id.clone());
        if self.has_contents() {
            self.add_content(&mut notification, room, &pdu, &shown)?;
        }
        Ok(Some(self.written(&json!({ "notification": notification }), badge)))
    }

    /// The notification of an invite to a room that is not here, which came at a position; `None` if it has ended.
    pub(crate) fn remote_invite(
        &self,
        (room, position): (ShortRoomId, Position),
        actions: &str,
        progress: &PusherProgress,
    ) -> Result<Option<Written>> {
        let graph = &self.shared.graph;
        let there = graph.remote_membership(self.read, room, self.key.0)?;
        let Some(there) = there.filter(|there| there.position == position) else {
            return Ok(None);
        };
        let invite = StoredInvite::read(&there)?;
        if self.ignored.contains(&invite.sender) {
            return Ok(None);
        }
        let (badge, event_type) = (self.badge()?, TimelineEventType::RoomMember);
        let mut notification = self.begin(&event_type, actions, (progress, badge))?;
        notification.event_id = Some(there.event_id);
        notification.room_id = graph.intern().room_id(self.read, room)?;
        if self.has_contents() {
            notification.sender_display_name = invite.sender_name().cloned();
            notification.room_name = Some(invite.room_name());
            notification.room_alias = invite.alias().cloned();
            notification.content = Some(invite.content);
            notification.event_type = Some(event_type);
            notification.sender = Some(invite.sender);
            notification.user_is_target = true;
        }
        Ok(Some(self.written(&json!({ "notification": notification }), badge)))
    }

    /// A notification for the pusher's device, without the event.
    fn begin(
        &self,
        event_type: &TimelineEventType,
        actions: &str,
        (progress, badge): (&PusherProgress, Option<u64>),
    ) -> Result<Notification> {
        let tweaks = tweaks(actions)?;
        let mut device = self.device(progress);
        let priority = priority(event_type, &tweaks);
        if self.has_contents() {
            device.tweaks = tweaks;
        }
        let mut notification = Notification::new(vec![device]);
        notification.prio = priority;
        let unread = UInt::new_saturating(badge.unwrap_or_default());
        notification.counts = NotificationCounts::new(unread, UInt::MIN);
        Ok(notification)
    }

    /// Whether the gateway is sent more than ids.
    fn has_contents(&self) -> bool {
        self.data.format != Some(PushFormat::EventIdOnly)
    }

    /// The notification of the unread count alone; `None` unless it is lower than the one that the gateway was sent
    /// last. A higher one comes with the event that made it higher.
    pub(crate) fn count(&self, progress: &PusherProgress) -> Result<Option<Written>> {
        let Some(badge) = self.badge()? else { return Ok(None) };
        if progress.badge.is_none_or(|sent| badge >= sent) {
            return Ok(None);
        }
        // A count that is zero is what this is about, so it is not left out.
        let counts = json!({ "unread": badge });
        let devices = [self.device(progress)];
        let body = json!({ "notification": { "counts": counts, "devices": devices } });
        Ok(Some(self.written(&body, Some(badge))))
    }

    fn written(&self, body: &serde_json::Value, badge: Option<u64>) -> Written {
        Written { url: self.data.url.clone(), body: body.to_string().into(), badge }
    }

    /// Whether an event is still news to the user: unread in a room they are in, or the invitation they have.
    fn concerns(&self, room: ShortRoomId, event: ShortEventId) -> Result<bool> {
        let Some(member) = self.shared.graph.member(self.read, room, self.key.0)? else {
            return Ok(false);
        };
        match member.membership {
            Membership::Join => {
                let at = (room, event);
                self.shared.counts.is_unread(self.read, self.recipient(), at, &self.ignored)
            }
            Membership::Invite => {
                let sender = self.shared.graph.load_event(self.read, event)?.sender.clone();
                Ok(member.event == event && !self.ignored.contains(&sender))
            }
            _ => Ok(false),
        }
    }

    fn recipient(&self) -> Recipient<'_> {
        Recipient { user: self.key.0, user_id: &self.user_id }
    }

    /// How much is unread, if the pusher wants to know.
    fn badge(&self) -> Result<Option<u64>> {
        if self.data.data.get(DISABLE_COUNT) == Some(&json!(true)) {
            return Ok(None);
        }
        let badge = self.shared.badges.badge(self.read, self.recipient(), &self.ignored)?;
        Ok(Some(match self.shared.resources.config.push.count {
            Counted::Rooms => badge.rooms,
            Counted::Messages => badge.messages,
        }))
    }

    fn device(&self, progress: &PusherProgress) -> Device {
        let (_, app_id, push_key) = self.key;
        let mut device = Device::new(app_id.clone(), push_key.clone());
        let seconds = UInt::new_saturating(progress.set_at.0 / 1_000);
        device.pushkey_ts = Some(SecondsSinceUnixEpoch(seconds));
        device.data = self.data.clone().into();
        device
    }

    /// What a gateway gets besides the ids.
    fn add_content(
        &self,
        notification: &mut Notification,
        room: ShortRoomId,
        pdu: &Pdu,
        shown: &RawValue,
    ) -> Result<()> {
        let Shown { content } = serde_json::from_str(shown.get())
            .map_err(|error| Error::internal("an event that is shown", error))?;
        let graph = &self.shared.graph;
        let member =
            graph.state_event(self.read, room, &StateEventType::RoomMember, pdu.sender.as_str())?;
        let member = member.and_then(|member| membership::content(&member).ok());
        notification.content = Some(content);
        notification.event_type = Some(pdu.event_type.clone());
        notification.sender = Some(pdu.sender.clone());
        notification.sender_display_name =
            member.and_then(|member| member.displayname().map(ToOwned::to_owned));
        notification.room_name = Some(room_name(graph, self.read, (room, self.key.0), pdu)?);
        notification.room_alias = alias(graph, self.read, room)?;
        notification.user_is_target =
            pdu.is_state(&TimelineEventType::RoomMember, self.user_id.as_str());
        Ok(())
    }
}

/// The tweaks among stored actions.
fn tweaks(actions: &str) -> Result<Vec<Tweak>> {
    let actions: Vec<Action> = serde_json::from_str(actions)
        .map_err(|error| Error::internal("the actions of a push rule", error))?;
    Ok(actions.into_iter().filter_map(into_tweak).collect())
}

fn into_tweak(action: Action) -> Option<Tweak> {
    match action {
        Action::SetTweak(tweak) => Some(tweak),
        _ => None,
    }
}

/// Whether a device should be woken at once: by what is encrypted, and by what is highlighted or makes a sound.
fn priority(event_type: &TimelineEventType, tweaks: &[Tweak]) -> NotificationPriority {
    let is_loud = tweaks.iter().any(|tweak| match tweak {
        Tweak::Sound(_) => true,
        Tweak::Highlight(value) => *value == HighlightTweakValue::Yes,
        _ => false,
    });
    if is_loud || *event_type == TimelineEventType::RoomEncrypted {
        NotificationPriority::High
    } else {
        NotificationPriority::Low
    }
}
