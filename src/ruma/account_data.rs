//! Deleting account data, as [MSC3391] has it.
//!
//! [MSC3391]: https://github.com/matrix-org/matrix-spec-proposals/pull/3391

/// `DELETE /_matrix/client/*/user/{userId}/account_data/{type}`
pub mod delete_global_account_data {
    use ruma::{
        OwnedUserId,
        api::{auth_scheme::AccessToken, metadata, request, response},
        events::GlobalAccountDataEventType,
    };

    metadata! {
        method: DELETE,
        rate_limited: false,
        authentication: AccessToken,
        history: {
            unstable("org.matrix.msc3391") => "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{event_type}",
        }
    }

    /// Request type of the endpoint.
    #[request]
    pub struct Request {
        /// The owner of the account data.
        #[ruma_api(path)]
        pub user_id: OwnedUserId,

        /// Its type.
        #[ruma_api(path)]
        pub event_type: GlobalAccountDataEventType,
    }

    /// Response type of the endpoint: empty.
    #[response]
    #[derive(Default)]
    pub struct Response {}

    impl Request {
        /// A request to delete the account data of type `event_type`.
        pub fn new(user_id: OwnedUserId, event_type: GlobalAccountDataEventType) -> Self {
            Self { user_id, event_type }
        }
    }

    impl Response {
        /// An empty response.
        pub fn new() -> Self {
            Self {}
        }
    }
}

/// `DELETE /_matrix/client/*/user/{userId}/rooms/{roomId}/account_data/{type}`
pub mod delete_room_account_data {
    use ruma::{
        OwnedRoomId, OwnedUserId,
        api::{auth_scheme::AccessToken, metadata, request, response},
        events::RoomAccountDataEventType,
    };

    metadata! {
        method: DELETE,
        rate_limited: false,
        authentication: AccessToken,
        history: {
            unstable("org.matrix.msc3391") => "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/rooms/{room_id}/account_data/{event_type}",
        }
    }

    /// Request type of the endpoint.
    #[request]
    pub struct Request {
        /// The owner of the account data.
        #[ruma_api(path)]
        pub user_id: OwnedUserId,

        /// The room it is about.
        #[ruma_api(path)]
        pub room_id: OwnedRoomId,

        /// Its type.
        #[ruma_api(path)]
        pub event_type: RoomAccountDataEventType,
    }

    /// Response type of the endpoint: empty.
    #[response]
    #[derive(Default)]
    pub struct Response {}

    impl Request {
        /// A request to delete the account data of type `event_type`.
        pub fn new(
            user_id: OwnedUserId,
            room_id: OwnedRoomId,
            event_type: RoomAccountDataEventType,
        ) -> Self {
            Self { user_id, room_id, event_type }
        }
    }

    impl Response {
        /// An empty response.
        pub fn new() -> Self {
            Self {}
        }
    }
}
