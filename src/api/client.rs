//! The client-server API, a file per family of endpoints.

mod discovery;

use crate::route::Route;

/// Every endpoint of the client-server API.
pub(crate) fn routes() -> Vec<Route> {
    [discovery::routes()].into_iter().flatten().collect()
}
