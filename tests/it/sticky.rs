//! Sticky events (MSC4354): members get them for a time, whatever their timelines show.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use http::StatusCode;
use serde_json::{Value, json};
use wick_database::{Range, Read, schema::sticky::STICKY_BY_END};
use wick_harness::User;
use wick_room::invariants;

use crate::{
    delayed::later::delay_id,
    expiry::call::{Call, PATIENCE, errcode, seconds},
    struck::{at_each_commit, at_firing},
};

const STICKY: &str = "org.matrix.msc4354.sticky_duration_ms";
const TTL: &str = "msc4354_sticky_duration_ttl_ms";

/// A filter whose timeline has no events.
const NO_TIMELINE: &str = "%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:0%7D%7D%7D";

impl Call {
    async fn stick(&self, user: &User, transaction: &str, ms: u64) -> (StatusCode, Value) {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/org.example.here/{transaction}?{STICKY}={ms}",
            self.room
        );
        self.server.put(&path, &user.token, json!({ "body": transaction })).await
    }

    /// A sticky event of Alice's; its id.
    async fn sticky(&self, transaction: &str, ms: u64) -> String {
        let (status, body) = self.stick(&self.alice, transaction, ms).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["event_id"].as_str().unwrap().to_owned()
    }

    async fn synced(&self, user: &User, query: &str) -> Value {
        let (status, body) =
            self.server.get(&format!("/_matrix/client/v3/sync?{query}"), &user.token).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// The sticky section of the room in a sync without a timeline.
    async fn stuck(&self, user: &User) -> Vec<Value> {
        section(&self.synced(user, &format!("filter={NO_TIMELINE}")).await, &self.room)
    }

    async fn chat(&self, count: usize) {
        for number in 0..count {
            let (status, _) =
                self.send(&self.alice, &format!("chat{number}"), json!({ "body": "x" })).await;
            assert_eq!(status, StatusCode::OK);
        }
    }

    fn rows(&self) -> usize {
        let read = self.server.services().database.published();
        assert_eq!(invariants::check(&read).unwrap(), []);
        read.scan(&STICKY_BY_END, Range::all()).count()
    }
}

fn section(sync: &Value, room: &ruma::RoomId) -> Vec<Value> {
    let events = &sync["rooms"]["join"][room.as_str()]["msc4354_sticky"]["events"];
    events.as_array().cloned().unwrap_or_default()
}

fn ids(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_versions_say_so() {
    let call = Call::new().await;
    let (_, body) = call.server.get("/_matrix/client/versions", "").await;
    assert_eq!(body["unstable_features"]["org.matrix.msc4354"], true);
}

#[tokio::test]
async fn a_sticky_event_says_for_how_long_wherever_it_is_read() {
    let call = Call::new().await;
    let event_id = call.sticky("1", 60_000).await;
    call.server.clock.advance(seconds(20)).await;
    let path = format!("/_matrix/client/v3/rooms/{}/event/{event_id}", call.room);
    let (_, event) = call.server.get(&path, &call.alice.token).await;
    assert_eq!(event["msc4354_sticky"], json!({ "duration_ms": 60_000 }));
    assert_eq!(event["unsigned"][TTL], 40_000);
    assert_eq!(event["unsigned"]["sticky_duration_remaining_ms"], 40_000);
    assert_eq!(call.stuck(&call.alice).await[0]["unsigned"][TTL], 40_000);
    call.server.clock.advance(seconds(40)).await;
    let (_, event) = call.server.get(&path, &call.alice.token).await;
    assert_eq!(event["msc4354_sticky"], json!({ "duration_ms": 60_000 }));
    assert_eq!(event["unsigned"].get(TTL), None, "it is not sticky any more");
    assert_eq!(call.stuck(&call.alice).await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_sync_has_the_sticky_events_that_its_timeline_leaves_out_and_no_others() {
    let call = Call::new().await;
    let since = call.synced(&call.alice, "").await["next_batch"].as_str().unwrap().to_owned();
    let event_id = call.sticky("1", 60_000).await;
    let sync = call.synced(&call.alice, &format!("since={since}")).await;
    assert_eq!(section(&sync, &call.room), [] as [Value; 0], "the timeline has it");
    call.chat(30).await;
    let late = call.synced(&call.alice, &format!("since={since}")).await;
    assert_eq!(ids(&section(&late, &call.room)), [&*event_id], "the timeline begins later");
    let since = late["next_batch"].as_str().unwrap();
    call.chat(1).await;
    let next = call.synced(&call.alice, &format!("since={since}")).await;
    assert_eq!(section(&next, &call.room), [] as [Value; 0], "the client has it");
    assert_eq!(ids(&call.stuck(&call.alice).await), [&*event_id]);
}

#[tokio::test]
async fn a_lazy_client_gets_the_member_event_of_each_sender_with_what_is_sticky() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    // In a room without a name he would be one of the heroes.
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.name", call.room);
    let named = call.server.put(&path, &call.alice.token, json!({ "name": "Standup" })).await;
    assert_eq!(named.0, StatusCode::OK);
    let filter = "%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:1%7D,%22state%22:%7B%22lazy_load_members%22:true%7D%7D%7D";
    let knows_bob = |sync: &Value| {
        let state = sync["rooms"]["join"][call.room.as_str()]["state"]["events"].as_array();
        state.into_iter().flatten().any(|event| event["state_key"] == bob.user_id.as_str())
    };
    call.chat(3).await;
    let first = call.synced(&call.alice, &format!("filter={filter}")).await;
    let since = first["next_batch"].as_str().unwrap();
    assert_eq!(call.stick(&bob, "1", 60_000).await.0, StatusCode::OK);
    call.chat(6).await;
    let next = call.synced(&call.alice, &format!("filter={filter}&since={since}")).await;
    assert_eq!(section(&next, &call.room).len(), 1, "{next}");
    assert!(knows_bob(&next), "{next}");
    let anew = call.synced(&call.alice, &format!("filter={filter}")).await;
    assert!(section(&anew, &call.room).len() == 1 && knows_bob(&anew), "{anew}");
}

#[tokio::test]
async fn a_new_member_gets_what_is_sticky_whatever_the_history_visibility_and_a_non_member_does_not()
 {
    let call = Call::new().await;
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.history_visibility", call.room);
    let joined = json!({ "history_visibility": "joined" });
    assert_eq!(call.server.put(&path, &call.alice.token, joined).await.0, StatusCode::OK);
    let event_id = call.sticky("1", 60_000).await;
    let hidden = call.send(&call.alice, "plain", json!({ "body": "hidden" })).await.1;
    let bob = call.join("bob").await;
    let sync = call.synced(&bob, "").await;
    assert_eq!(ids(&section(&sync, &call.room)), [&*event_id]);
    assert!(!sync.to_string().contains(hidden["event_id"].as_str().unwrap()));
    let path = format!("/_matrix/client/v3/rooms/{}/event/{event_id}", call.room);
    assert_eq!(
        call.server.get(&path, &bob.token).await.0,
        404,
        "other endpoints go by the history"
    );

    assert_eq!(call.post(&bob, "leave", json!({})).await.0, StatusCode::OK);
    let leaving = "%7B%22room%22:%7B%22include_leave%22:true%7D%7D";
    let left = call.synced(&bob, &format!("filter={leaving}")).await;
    assert!(!left.to_string().contains(&event_id), "{left}");
    let stranger = call.server.register("stranger").await;
    assert!(!call.synced(&stranger, "").await.to_string().contains(&event_id));
}

#[tokio::test]
async fn what_ignored_users_make_sticky_is_left_out() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    assert_eq!(call.stick(&bob, "1", 60_000).await.0, StatusCode::OK);
    assert_eq!(call.stuck(&call.alice).await.len(), 1);
    let path =
        format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", call.alice.user_id);
    let ignored = json!({ "ignored_users": { bob.user_id.as_str(): {} } });
    assert_eq!(call.server.put(&path, &call.alice.token, ignored).await.0, StatusCode::OK);
    assert_eq!(call.stuck(&call.alice).await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_redacted_event_is_not_sticky_any_more() {
    let call = Call::new().await;
    let event_id = call.sticky("1", 60_000).await;
    let path = format!("/_matrix/client/v3/rooms/{}/redact/{event_id}/t", call.room);
    assert_eq!(call.server.put(&path, &call.alice.token, json!({})).await.0, StatusCode::OK);
    assert_eq!((call.rows(), call.stuck(&call.alice).await.len()), (0, 0));
    let event = call.event(&event_id);
    assert_eq!((event.get("msc4354_sticky"), event["unsigned"].get(TTL)), (None, None));
}

#[tokio::test]
async fn a_duration_that_is_none_or_too_long_is_refused_and_zero_is_not_sticky() {
    let call = Call::new().await;
    let path = format!("/_matrix/client/v3/rooms/{}/send/a/1?{STICKY}", call.room);
    for wrong in ["", "soon", "-1", "1.5", "3600001"] {
        let told = call.server.put(&format!("{path}={wrong}"), &call.alice.token, json!({})).await;
        assert_eq!(errcode(&told), (400, "M_INVALID_PARAM"), "{wrong}");
    }
    let event_id = call.sticky("zero", 0).await;
    assert_eq!(call.event(&event_id).get("msc4354_sticky"), None);
    call.sticky("longest", 3_600_000).await;
    assert_eq!(call.rows(), 1);
}

#[tokio::test]
async fn a_user_has_at_most_a_hundred_sticky_events_in_a_room() {
    let call = Call::new().await;
    let bob = call.join("bob").await;
    for number in 0..100 {
        call.sticky(&number.to_string(), 60_000).await;
    }
    let (status, body) = call.stick(&call.alice, "more", 60_000).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (429, &json!("M_LIMIT_EXCEEDED")));
    assert_eq!(body["retry_after_ms"], 60_000);
    assert_eq!(call.stick(&bob, "1", 60_000).await.0, StatusCode::OK);
    assert_eq!(call.stick(&call.alice, "7", 60_000).await.0, StatusCode::OK, "sent before");
    call.server.clock.advance(seconds(60)).await;
    call.sticky("later", 60_000).await;
}

#[tokio::test]
async fn a_delayed_event_is_sticky_from_the_moment_it_is_sent() {
    let call = Call::new().await;
    let path = format!(
        "/_matrix/client/v3/rooms/{}/send/org.example.here/1?org.matrix.msc4140.delay=10000&{STICKY}=60000",
        call.room
    );
    delay_id(&call.server.put(&path, &call.alice.token, json!({ "body": "later" })).await);
    assert_eq!(call.stuck(&call.alice).await, [] as [Value; 0]);
    call.server.clock.advance(seconds(10)).await;
    call.until_so(|| "it was not sent".to_owned(), || call.rows() == 1).await;
    let sticky = call.stuck(&call.alice).await;
    assert_eq!(sticky[0]["unsigned"][TTL], 60_000);
}

#[tokio::test]
async fn the_end_of_a_sticky_event_that_expires_is_as_sticky_as_what_is_left_and_a_minute_at_least()
{
    for (duration, left) in [(600_000, 590_000), (20_000, 60_000), (5_000, 0)] {
        let call = Call::new().await;
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/org.example.here/1?{STICKY}={duration}",
            call.room
        );
        let content = json!({ "body": "here", "m.will_expire": 10 });
        let (_, sent) = call.server.put(&path, &call.alice.token, content).await;
        let event_id = sent["event_id"].as_str().unwrap();
        call.server.clock.advance(seconds(10)).await;
        call.until(event_id, "expired").await;
        let terminal = &call.terminals(event_id)[0];
        let told = terminal["unsigned"].get(TTL).map_or(0, |ttl| ttl.as_u64().unwrap());
        assert_eq!(told, left, "{duration}");
    }
}

#[tokio::test]
async fn a_sticky_event_is_written_whole_or_not_at_all() {
    at_each_commit(
        async |_: &Call| {},
        async |struck| struck.call.stick(&struck.call.alice, "1", 60_000).await,
        async |struck, _, (status, _)| {
            assert_eq!((status, struck.call.rows()), (StatusCode::OK, 1));
        },
    )
    .await;
    at_firing(
        async |call: &Call| {
            let path = format!(
                "/_matrix/client/v3/rooms/{}/send/a/1?org.matrix.msc4140.delay=10000&{STICKY}=60000",
                call.room
            );
            delay_id(&call.server.put(&path, &call.alice.token, json!({})).await);
        },
        seconds(10),
        async |struck| {
            struck.call.server.clock.advance(seconds(5)).await;
            struck
                .call
                .until_so(|| "it was not sent".to_owned(), || struck.call.rows() == 1)
                .await;
        },
    )
    .await;
}

#[tokio::test]
async fn sticky_events_survive_a_kill_and_their_rows_go_after_their_end() {
    let mut call = Call::new().await;
    let event_id = call.sticky("1", 60_000).await;
    call.sticky("2", 3_600_000).await;
    call.server.crash().await;
    call.server.clock.advance(seconds(30)).await;
    let sticky = call.stuck(&call.alice).await;
    assert_eq!((ids(&sticky)[0], &sticky[0]["unsigned"][TTL]), (&*event_id, &json!(30_000)));
    call.server.clock.advance(seconds(600)).await;
    assert_eq!(call.stuck(&call.alice).await.len(), 1);
    let deleted = async {
        while call.rows() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, deleted).await.unwrap();
}
