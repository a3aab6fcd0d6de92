//! Rooms of spaces that this server is not in.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use ruma::{OwnedRoomId, OwnedServerName, RoomId};
use ruma_federation_api::space::get_hierarchy::v1 as get_hierarchy;
use wick_federation::Bounds;
use wick_rooms::spaces::{Elsewhere, RemoteRoom};

use crate::RemoteRooms;

/// How many rooms are asked for at the same time.
const AT_ONCE: usize = 8;

/// How many servers are asked for one room.
const MAX_SERVERS: usize = 3;

/// The bounds of one response.
const BOUNDS: Bounds = Bounds { bytes: 4 << 20, time: Duration::from_secs(10) };

impl RemoteRooms {
    /// Asks for rooms, each at one of its servers, and notes what they say.
    pub async fn describe(
        &self,
        wanted: BTreeMap<OwnedRoomId, Vec<OwnedServerName>>,
        suggested_only: bool,
        elsewhere: &mut Elsewhere,
    ) {
        let requests = wanted.into_iter().map(|(room_id, via)| async move {
            let answer = self.ask_for_room(&room_id, via, suggested_only).await;
            (room_id, answer)
        });
        let requests: Vec<_> = requests.collect();
        let mut answers = stream::iter(requests).buffer_unordered(AT_ONCE);
        while let Some((room_id, answer)) = answers.next().await {
            let Some(answer) = answer else {
                elsewhere.put(room_id, None);
                continue;
            };
            answer.children.into_iter().for_each(|child| elsewhere.put_child(child));
            let events = answer.room.children_state.into_iter();
            let children_state = events.map(|event| event.into_json()).collect();
            let room = RemoteRoom { summary: answer.room.summary, children_state };
            elsewhere.put(room_id, Some(room));
        }
    }

    async fn ask_for_room(
        &self,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
        suggested_only: bool,
    ) -> Option<get_hierarchy::Response> {
        for server in via.into_iter().take(MAX_SERVERS) {
            let mut request = get_hierarchy::Request::new(room_id.to_owned());
            request.suggested_only = suggested_only;
            match self.federation.request_within(&server, request, BOUNDS).await {
                Ok(answer) if answer.room.summary.room_id == room_id => return Some(answer),
                Ok(_) => {
                    tracing::debug!(%server, room = %room_id, "a server describes another room")
                }
                Err(error) => {
                    tracing::debug!(%server, room = %room_id, %error, "a room is not described");
                }
            }
        }
        None
    }
}
