//! `PUT /expiration/{refresh_method}`: keeps an event alive or ends it. No access token is needed:
//! knowing the refresh token is the right.

use std::sync::Arc;

use http::StatusCode;
use wick_core::Result;
use wick_ruma::expiration::{self, RefreshMethod};
use wick_service::Services;

use crate::{
    address::limit_key,
    error::unrecognized,
    route::{Call, Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    // Counted by token or, for unknown tokens, by address: never valid ones by address, so
    // that one media server can keep thousands alive.
    vec![route(refresh_or_end).uncounted().only_if(is_known)]
}

/// Refuses what is neither a refresh nor an end, whatever its body is.
fn is_known(call: &Call) -> Result<()> {
    match call.arguments.first().map(|method| RefreshMethod::from(method.as_str())) {
        Some(RefreshMethod::Refresh | RefreshMethod::End) => Ok(()),
        _ => Err(unrecognized(StatusCode::NOT_FOUND)),
    }
}

/// `PUT /_matrix/client/v3/expiration/{refresh_method}`
async fn refresh_or_end(
    services: Arc<Services>,
    Ruma { body, address, .. }: Ruma<expiration::Request>,
) -> Result<expiration::Response> {
    let from = limit_key(address);
    match body.refresh_method {
        RefreshMethod::Refresh => {
            services.expiry.refresh(&body.expire_refresh_token, &from).await?;
        }
        RefreshMethod::End => services.expiry.end(&body.expire_refresh_token, &from).await?,
        _ => return Err(unrecognized(StatusCode::NOT_FOUND)),
    }
    Ok(expiration::Response::new())
}
