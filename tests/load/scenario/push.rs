//! Notifications: how long after a message its gateway has it, and that a killed server loses none.
//!
//! Each user has a pusher and is in one room, beside the sender of all messages. What is printed begins when the request
//! that sends the message is sent.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use futures_util::{TryStreamExt, stream};
use serde::de::IgnoredAny;
use serde_json::json;

use super::{Bench, GRACE, PREPARING};
use crate::{
    Failure, Result,
    cli::Span,
    clock,
    connection::Call,
    gateway::Gateway,
    histogram::Histogram,
    matrix::{self, Account},
    report::Measure,
    workers::Worker,
};

/// Messages a second, unless the plan has another rate.
const RATE: u64 = 100;

/// What was sent, by text: when, and to which room.
type Sent = HashMap<String, (Instant, usize)>;

pub(super) async fn run(bench: &mut Bench<'_>) -> Result<Vec<Measure>> {
    let mut gateway = Gateway::start().await?;
    let sender = bench.account().await?;
    let rooms = bench.rooms(std::slice::from_ref(&sender), bench.plan.rooms).await?;
    let users = bench.accounts(bench.plan.users).await?;
    stream::iter(users.iter().zip(rooms.iter().cycle()).enumerate().map(Ok))
        .try_for_each_concurrent(PREPARING, async |(number, (user, room))| {
            prepare(bench, &gateway, (number, user), room).await
        })
        .await?;
    let before = bench.usage();
    let begun = clock::now();
    let (sent, errors) = send(bench, &sender, &rooms, bench.plan.span).await;
    let steady = collect(bench, &mut gateway, &sent, None).await;
    let steady = row("pushed", &steady, begun).with_cost(before, bench.usage());
    let steady = errors.iter().fold(steady, |row, (kind, count)| row.with_errors(kind, *count));

    gateway.refuse(true);
    let count = u64::try_from(rooms.len()).unwrap_or(u64::MAX).min(1_000);
    let (sent, errors) = send(bench, &sender, &rooms, Span::Count(count)).await;
    let server = bench.server.as_mut();
    let server = server.ok_or_else(|| Failure::Other("this scenario needs --spawn".to_owned()))?;
    server.kill()?;
    gateway.refuse(false);
    let begun = server.restart().await?;
    let resumed = collect(bench, &mut gateway, &sent, Some(begun)).await;
    let resumed = row("kept through kill -9, since the start", &resumed, begun);
    let resumed = errors.iter().fold(resumed, |row, (kind, count)| row.with_errors(kind, *count));
    Ok(vec![steady, resumed])
}

/// Lets a user join a room and set a pusher.
async fn prepare(
    bench: &Bench<'_>,
    gateway: &Gateway,
    (number, user): (usize, &Account),
    room: &str,
) -> Result<()> {
    let mut connection = bench.connection();
    matrix::join(&mut connection, user, room).await?;
    let pusher = json!({
        "kind": "http", "app_id": "load", "pushkey": number.to_string(), "lang": "en",
        "app_display_name": "load", "device_display_name": "load", "data": { "url": gateway.url },
    });
    let call = Call::post("/_matrix/client/v3/pushers/set", Some(&user.access_token), pusher);
    matrix::patient::<IgnoredAny>(&mut connection, &call).await.map(drop)
}

/// Sends messages to the rooms in turn. Returns them, and what failed.
async fn send(
    bench: &Bench<'_>,
    sender: &Account,
    rooms: &[String],
    span: Span,
) -> (Sent, Vec<(String, u64)>) {
    let worker = |_| Worker {
        connection: bench.connection(),
        account: sender.clone(),
        rooms: rooms.to_vec(),
    };
    let mut workers: Vec<_> = (0..bench.plan.connections).map(worker).collect();
    let (first, sent) = (bench.serial.get(), RefCell::new(Sent::new()));
    let seen = bench
        .drive(&mut workers, span, bench.plan.rate.or(Some(RATE)), async |worker, serial| {
            let number = usize::try_from(serial - first).unwrap_or(0) % rooms.len().max(1);
            let Some(room) = rooms.get(number) else { return Ok(()) };
            let (text, at) = (format!("message {serial}"), clock::now());
            let content = matrix::message(text.clone());
            let call = matrix::send_call(&worker.account, room, &format!("t{serial}"), content);
            worker.connection.call(&call).await?;
            sent.borrow_mut().insert(text, (at, number));
            Ok(())
        })
        .await;
    (sent.into_inner(), seen.errors.into_iter().collect())
}

/// What was pushed of it.
struct Seen {
    lag: Histogram,
    lost: u64,
    twice: u64,
    elapsed: Option<Instant>,
}

/// Waits until each pusher in the rooms has pushed what was sent there. `since`: the lag counts from then.
async fn collect(
    bench: &Bench<'_>,
    gateway: &mut Gateway,
    sent: &Sent,
    since: Option<Instant>,
) -> Seen {
    let pushers_of = |room: usize| {
        let (users, rooms) = (bench.plan.users, bench.plan.rooms.max(1));
        users / rooms + usize::from(room < users % rooms)
    };
    let expected: usize = sent.values().map(|(_, room)| pushers_of(*room)).sum();
    let mut seen = Seen { lag: Histogram::default(), lost: 0, twice: 0, elapsed: None };
    let mut known = HashSet::new();
    while known.len() < expected {
        let Some(pushed) = gateway.next(GRACE + Duration::from_secs(30)).await else { break };
        let Some((at, _)) = sent.get(&pushed.text) else { continue };
        if known.insert((pushed.text, pushed.push_key)) {
            seen.lag.record(pushed.at.saturating_duration_since(since.unwrap_or(*at)));
            seen.elapsed = Some(pushed.at);
        } else {
            seen.twice += 1;
        }
    }
    seen.lost = u64::try_from(expected - known.len()).unwrap_or(u64::MAX);
    seen
}

fn row(label: &str, seen: &Seen, begun: Instant) -> Measure {
    let end = seen.elapsed.unwrap_or(begun);
    Measure::new(label, &seen.lag, end.saturating_duration_since(begun))
        .with_errors("lost", seen.lost)
        .with_errors("twice", seen.twice)
}
