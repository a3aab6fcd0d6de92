//! Calls whose leaves are delegated: what it costs to keep participants in, and how late a disconnected participant leaves.
//!
//! Each user schedules its leave as a delayed event, and hands it over with the request for its token. The lateness
//! of a leave begins before the web hook about the disconnect is sent.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{Bench, GRACE, PREPARING};
use crate::{
    Result,
    cli::Span,
    clock,
    connection::{Call, Connection},
    histogram::Histogram,
    livekit::{LiveKit, Seat, hook, hook_call},
    matrix::{self, Account, Scheduled},
    process,
    report::Measure,
    watcher::Watcher,
};

/// Disconnects a second, if the command line names no rate.
const RATE: u64 = 100;

/// A user in a call.
struct Participant {
    /// The content of its leave.
    leave: String,
    seat: Seat,
    sid: String,
}

#[derive(Deserialize)]
struct Token {
    jwt: String,
}

pub(super) async fn run(
    bench: &Bench<'_>,
    livekit: &LiveKit,
) -> Result<(Vec<Measure>, Vec<String>)> {
    let reader = bench.account().await?;
    let rooms = bench.rooms(std::slice::from_ref(&reader), bench.plan.rooms).await?;
    let users = bench.accounts(bench.plan.users).await?;
    let (before, begun) = (bench.usage(), clock::now());
    let times = RefCell::new(Histogram::default());
    let participants: Vec<Participant> =
        stream::iter(users.iter().zip(rooms.iter().cycle()).enumerate())
            .map(async |(number, (user, room))| {
                let (participant, took) = enter(bench, livekit, (number, user), room).await?;
                times.borrow_mut().record(took);
                Ok::<_, crate::Failure>(participant)
            })
            .buffered(PREPARING)
            .try_collect()
            .await?;
    let entered = Measure::new("tokens with a delayed event", &times.into_inner(), begun.elapsed())
        .with_cost(before, bench.usage());
    let mut watcher = Watcher::start(bench.connection(), reader).await?;

    let (before, asked, written) = (bench.usage(), livekit.asked(), written(bench));
    let begun = clock::now();
    let sent_early = watch_steady(&mut watcher, bench).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let kept = Measure::single("all connected", begun.elapsed())
        .with_cost(before, bench.usage())
        .with_errors("left although connected", sent_early);
    let notes = vec![format!(
        "while all are connected: LiveKit is asked {:.1} times a second, {:.1} KiB a second are written",
        rate(livekit.asked() - asked, seconds),
        rate(self::written(bench).saturating_sub(written) / 1024, seconds),
    )];
    let left = leave_all(bench, livekit, &mut watcher, &participants).await?;
    Ok((vec![entered, kept, left], notes))
}

/// Schedules a leave, hands it over with the request for a token, and connects. Returns how long the token took.
async fn enter(
    bench: &Bench<'_>,
    livekit: &LiveKit,
    (number, user): (usize, &Account),
    room: &str,
) -> Result<(Participant, Duration)> {
    let mut connection = bench.connection();
    matrix::join(&mut connection, user, room).await?;
    let leave = format!("leave {number}");
    let call = matrix::send_call(user, room, "leave", matrix::message(leave.clone()))
        .delayed(Duration::from_secs(bench.plan.duration));
    let Scheduled { delay_id } = matrix::patient(&mut connection, &call).await?;
    let path = format!("/_matrix/client/v3/user/{}/openid/request_token", user.user_id);
    let call = Call::post(&path, Some(&user.access_token), json!({}));
    let openid: Value = matrix::patient(&mut connection, &call).await?;
    let body = json!({
        "room_id": room, "slot_id": "m.call#ROOM", "openid_token": openid, "delay_id": delay_id,
        "member": {
            "id": "m", "claimed_user_id": user.user_id, "claimed_device_id": user.device_id,
        },
    });
    let began = clock::now();
    let call = Call::post("/_matrix/livekit/jwt/get_token", None, body);
    let Token { jwt } = matrix::patient(&mut connection, &call).await?;
    let took = began.elapsed();
    let seat = Seat::of(&jwt)?;
    let sid = livekit.connect(&seat);
    let joined = hook("participant_joined", &seat, &sid)?;
    matrix::patient::<IgnoredAny>(&mut connection, &hook_call(&joined)).await?;
    Ok((Participant { leave, seat, sid }, took))
}

/// For how long all stay connected: at least until each delay has begun anew.
fn steady_time(bench: &Bench<'_>) -> Duration {
    let Span::Time(span) = bench.plan.span else { return Duration::from_secs(10) };
    span.max(Duration::from_secs(bench.plan.duration.saturating_mul(3) / 2))
}

/// Reads as long as all are connected. Returns how many leaves came.
async fn watch_steady(watcher: &mut Watcher, bench: &Bench<'_>) -> Result<u64> {
    let end = clock::now() + steady_time(bench);
    let mut leaves = 0_u64;
    while clock::now() < end {
        let events = watcher.next(500).await?;
        let is_leave = |body: &str| body.starts_with("leave ");
        let left =
            events.iter().filter(|event| event.content.body.as_deref().is_some_and(is_leave));
        leaves += u64::try_from(left.count()).unwrap_or(0);
    }
    Ok(leaves)
}

/// Disconnects all, one after the other, and reads until each has left.
async fn leave_all(
    bench: &Bench<'_>,
    livekit: &LiveKit,
    watcher: &mut Watcher,
    participants: &[Participant],
) -> Result<Measure> {
    let (before, begun) = (bench.usage(), clock::now());
    let (gone, is_done) = (RefCell::new(HashMap::<&str, Instant>::new()), Cell::new(false));
    let disconnecting = async {
        let mut connections: Vec<Connection> =
            (0..bench.plan.connections).map(|_| bench.connection()).collect();
        let first = bench.serial.get();
        let count = u64::try_from(participants.len()).unwrap_or(u64::MAX);
        let rate = bench.plan.rate.or(Some(RATE));
        let seen = bench
            .drive(&mut connections, Span::Count(count), rate, async |connection, serial| {
                let number = usize::try_from(serial - first).unwrap_or(usize::MAX);
                let Some(one) = participants.get(number) else { return Ok(()) };
                let left = hook("participant_left", &one.seat, &one.sid)?;
                gone.borrow_mut().insert(&one.leave, clock::now());
                livekit.disconnect(&one.seat);
                connection.call(&hook_call(&left)).await.map(drop)
            })
            .await;
        is_done.set(true);
        seen
    };
    let reading = async {
        let (mut lateness, mut early) = (Histogram::default(), 0_u64);
        let mut missing = participants.len();
        let mut end = clock::now() + GRACE;
        while missing > 0 && clock::now() < end {
            let events = watcher.next(500).await?;
            let moment = clock::now();
            for body in events.iter().filter_map(|event| event.content.body.as_deref()) {
                match gone.borrow_mut().remove(body) {
                    Some(at) => lateness.record(moment.saturating_duration_since(at)),
                    None if body.starts_with("leave ") => early += 1,
                    None => continue,
                }
                missing = missing.saturating_sub(1);
            }
            if !is_done.get() {
                end = moment + GRACE;
            }
        }
        Ok::<_, crate::Failure>((lateness, early, missing))
    };
    let (seen, read) = tokio::join!(disconnecting, reading);
    let (lateness, early, missing) = read?;
    let row = Measure::new("left: in /sync after the disconnect", &lateness, begun.elapsed())
        .with_cost(before, bench.usage())
        .with_errors("never seen", u64::try_from(missing).unwrap_or(u64::MAX))
        .with_errors("left although connected", early);
    Ok(seen.errors.iter().fold(row, |row, (kind, count)| row.with_errors(kind, *count)))
}

/// The bytes that the server has written to disk.
fn written(bench: &Bench<'_>) -> u64 {
    bench.server.as_ref().and_then(|server| process::written_bytes(server.pid())).unwrap_or(0)
}

fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}
