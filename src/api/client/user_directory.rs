//! `/user_directory/search`

use std::sync::Arc;

use ruma::api::client::user_directory::search_users;
use wick_core::Result;
use wick_service::Services;

use super::count;
use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(search_users)]
}

/// `POST /_matrix/client/v3/user_directory/search`
async fn search_users(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<search_users::v3::Request>,
) -> Result<search_users::v3::Response> {
    let limit = count(body.limit);
    let (found, limited) = services.user_directory.search(&sender, &body.search_term, limit)?;
    let results = found.into_iter().map(|found| {
        let mut user = search_users::v3::User::new(found.user_id);
        user.display_name = found.profile.display_name;
        user.avatar_url = found.profile.avatar_url.map(Into::into);
        user
    });
    Ok(search_users::v3::Response::new(results.collect(), limited))
}
