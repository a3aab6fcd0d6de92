//! The lists of endpoints: what is served, and what is said of an endpoint elsewhere.

use std::collections::BTreeSet;

use http::Method;

/// Whether an endpoint whose path ends like this is served.
fn is_served(served: &[(Method, String)], method: &Method, ending: &str) -> bool {
    served.iter().any(|(of, path)| of == method && path.ends_with(ending))
}

#[test]
fn no_two_handlers_serve_the_same_method_of_the_same_path() {
    let mut seen = BTreeSet::new();
    for (method, path) in wick_api::endpoints() {
        let pair = (method.to_string(), path);
        assert!(seen.insert(pair.clone()), "{pair:?} twice");
    }
    assert!(!seen.is_empty());
}

#[test]
fn every_endpoint_for_guests_is_served() {
    let served = wick_api::endpoints();
    for (method, ending) in wick_api::guest_endpoints() {
        assert!(is_served(&served, &method, &format!("/{ending}")), "{method} {ending}");
    }
}

#[test]
fn every_endpoint_with_limits_of_its_own_is_served() {
    let served = wick_api::endpoints();
    for (method, ending) in wick_api::limited_endpoints() {
        assert!(is_served(&served, &method, ending), "{method} {ending}");
    }
}
