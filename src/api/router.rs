//! All endpoints as one router, used by the binary and by tests.

use std::{any::Any, collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Router, response::Response, routing::any};
use http::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderName},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{Any as AnyOrigin, CorsLayer},
};
use wick_service::Services;

use crate::{
    client,
    dispatch::{Endpoint, Resource, dispatch, not_found},
    error::internal,
    guests::GuestAccess,
    health,
    lists::Shape,
    route::Route,
    server,
    unserved::unserved,
};

/// Every public endpoint over `services`.
pub fn router(services: Arc<Services>) -> Router {
    let mut router = Router::new();
    for (path, resource) in resources(&services, routes()) {
        router = router.route(&path, any(dispatch).with_state(Arc::new(resource)));
    }
    guarded(router.fallback(not_found))
}

/// What holds for all answers, those to a handler's panic among them.
fn guarded(router: Router) -> Router {
    router.layer(CatchPanicLayer::custom(panicked)).layer(cross_origin())
}

/// Method and pattern of the path of everything that is served, for tests that try them all.
#[must_use]
pub fn endpoints() -> Vec<(Method, String)> {
    let pairs =
        |route: Route| route.paths.into_iter().map(move |path| (route.method.clone(), path));
    routes().flat_map(pairs).collect()
}

fn routes() -> impl Iterator<Item = Route> {
    client::routes().into_iter().chain(server::routes()).chain(health::routes())
}

/// Every path with what it can do.
fn resources(
    services: &Arc<Services>,
    routes: impl Iterator<Item = Route>,
) -> BTreeMap<String, Resource> {
    let mut resources = BTreeMap::new();
    let empty = |path: &str| Resource {
        services: Arc::clone(services),
        path: path.into(),
        methods: Vec::new(),
        unserved: Vec::new(),
    };
    for Route { method, paths, handler, limit, streams, max_body } in routes {
        for path in paths {
            let resource = resources.entry(path.clone()).or_insert_with(|| empty(&path));
            let (method, handler) = (method.clone(), Arc::clone(&handler));
            let (shape, guests) = (Shape::of(&method, &path), GuestAccess::of(&method, &path));
            let endpoint = Endpoint { method, handler, limit, streams, max_body, shape, guests };
            resource.methods.push(endpoint);
        }
    }
    for (method, path) in unserved() {
        let resource = resources.entry(path.to_owned()).or_insert_with(|| empty(path));
        resource.unserved.push(method);
    }
    resources
}

/// Web clients of any origin may call everything (client-server API, section "Web Browser Clients").
fn cross_origin() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AnyOrigin)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers([
            HeaderName::from_static("x-requested-with"),
            CONTENT_TYPE,
            AUTHORIZATION,
            DATE,
        ])
        .max_age(Duration::from_secs(86_400))
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    // The panic hook has written where and why.
    metrics::counter!("wick_internal_errors_total").increment(1);
    internal()
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        routing::get,
    };
    use http::{Request, StatusCode, header::ACCESS_CONTROL_ALLOW_ORIGIN};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_answers_500_and_says_nothing_more() {
        let handler = || async {
            if true {
                panic!("a secret")
            }
        };
        let router = guarded(Router::new().route("/", get(handler)));
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(&body[..], br#"{"errcode":"M_UNKNOWN","error":"internal server error"}"#);
    }
}
