//! How gateways are reached, and what is counted of it.

use std::time::Duration;

use http::Version;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::time::timeout;
use wick_harness::{TestNetwork, TestServer};

use super::gateway::{Gateway, Reply, Two, pushers};
use crate::expiry::call::PATIENCE;

#[tokio::test]
async fn the_notifications_for_a_gateway_go_over_one_connection() {
    let two = Two::new().await;
    let room = two.room().await;
    for number in 0..5 {
        let said = room.say(&two.alice, &format!("message {number}")).await;
        assert_eq!(two.gateway.next_event().await, said);
    }
    assert_eq!(two.gateway.connections(), 1);
    assert_eq!(two.gateway.versions(), [Version::HTTP_11; 5]);
}

#[tokio::test]
async fn a_gateway_with_http_2_is_reached_by_it_if_its_certificate_is_trusted() {
    let network = TestNetwork::new();
    for (authority, comes) in [(network.authority(), true), ("".into(), false)] {
        let server = TestServer::start_with(|config| {
            config.outbound.ca_certificates = authority;
        })
        .await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let gateway = Gateway::start_in(&network).await;
        gateway.set(&server, &bob, "key").await;
        let room = server.room(&alice, "shared").await;
        room.member(&bob, &bob, "join").await;
        let said = room.say(&alice, "hello").await;
        if comes {
            assert_eq!(gateway.next_event().await, said);
            assert_eq!(gateway.versions(), [Version::HTTP_2]);
        } else {
            // The first attempt has failed when the second is waited for.
            server.clock.awaited(Duration::from_secs(1)).await;
            assert!(gateway.came().is_none());
        }
    }
}

#[tokio::test]
async fn what_becomes_of_notifications_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counted = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let two = Two::new().await;
    let room = two.room().await;
    two.gateway.reply([Reply::Status(500, None)]);
    let said = room.say(&two.alice, "one").await;
    assert_eq!(two.gateway.next_event().await, said);
    two.server.clock.awaited(Duration::from_secs(1)).await;
    two.server.clock.advance(Duration::from_secs(1)).await;
    assert_eq!(two.gateway.next_event().await, said);
    two.gateway.reply([Reply::Rejected(vec!["key"])]);
    let said = room.say(&two.alice, "two").await;
    assert_eq!(two.gateway.next_event().await, said);
    let expected = [
        "wick_push_failed_total 1",
        "wick_push_rejected_total 1",
        "wick_push_sent_total 2",
        "wick_push_lag_seconds_count 2",
    ];
    let is_counted = |line: &str| counted.render().lines().any(|counted| counted == line);
    let met = async {
        while !expected.into_iter().all(is_counted) {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, met).await.is_ok(), "{}", counted.render());
    assert_eq!(pushers(&two.server, &two.bob).await, 0);
}
