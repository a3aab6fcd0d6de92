//! Endpoints of the specification that this server does not have.
//!
//! The response to them is 404 `M_UNRECOGNIZED`, and 405 for a method that they do not have either.

use http::Method;

/// Method and path of each.
pub(crate) fn unserved() -> impl Iterator<Item = (Method, &'static str)> {
    let get = GET.iter().map(|&path| (Method::GET, path));
    let post = POST.iter().map(|&path| (Method::POST, path));
    let put = PUT.iter().map(|&path| (Method::PUT, path));
    get.chain(post).chain(put)
}

const GET: &[&str] = &["/_matrix/federation/v1/query/{query_type}"];

const POST: &[&str] = &["/_matrix/policy/v1/sign"];

const PUT: &[&str] = &["/_matrix/federation/v1/invite/{room_id}/{event_id}"];
