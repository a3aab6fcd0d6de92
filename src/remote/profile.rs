//! Profiles of users of other servers.

use ruma::{UserId, profile::UserProfile};
use ruma_federation_api::query::get_profile_information::v1 as get_profile;
use wick_core::Result;

use crate::{RemoteRooms, rooms::passed_on};

impl RemoteRooms {
    /// The profile of a user of another server.
    ///
    /// # Errors
    /// `M_NOT_FOUND` or `M_FORBIDDEN` of that server; a failure of it.
    pub async fn profile(&self, user_id: &UserId) -> Result<UserProfile> {
        let request = get_profile::Request::new(user_id.to_owned());
        let answer = self.federation.request(user_id.server_name(), request).await;
        answer.map(|answer| answer.data).map_err(passed_on)
    }
}
