//! Requests with a transaction id, and how long their answers are kept.

use serde_json::json;
use wick_database::{
    Range, Read,
    schema::room::{ANSWER_BY_TRANSACTION, TRANSACTION_BY_POSITION},
};
use wick_harness::TestServer;

use crate::rooms::{create, say};

#[tokio::test]
async fn a_request_is_answered_the_same_for_two_weeks_and_its_answer_is_deleted_then() {
    let mut server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = create(&server, &alice, json!({})).await;
    let first = say(&server, &alice, &room, "first").await;
    let day = std::time::Duration::from_secs(86_400);
    server.clock.advance(13 * day).await;
    let later = say(&server, &alice, &room, "later").await;
    assert_eq!(say(&server, &alice, &room, "first").await, first);
    server.clock.advance(day + std::time::Duration::from_secs(7_200)).await;
    server.stop().await;
    server.restart().await;
    let read = server.services().database.published();
    let answers = read.scan(&ANSWER_BY_TRANSACTION, Range::all()).map(|row| row.unwrap().1.event);
    assert_eq!(answers.collect::<Vec<_>>(), [later.as_str()]);
    assert_eq!(read.scan(&TRANSACTION_BY_POSITION, Range::all()).count(), 1);
}
