//! Messages from device to device: a fan-out to many, and the syncs that deliver them.

use std::cell::{Cell, RefCell};

use serde::{Deserialize, de::IgnoredAny};

use super::{Bench, sync::sync_call};
use crate::{
    Failure, Result,
    cli::Span,
    keys,
    matrix::{self, Account},
    report::Measure,
    workers::Worker,
};

/// Requests when the command line names no count.
const REQUESTS: u64 = 300;

/// Messages that a sync delivers at most.
const PORTION: u64 = 100;

#[derive(Deserialize)]
struct Answer {
    next_batch: String,
    #[serde(default)]
    to_device: ToDevice,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ToDevice {
    events: Vec<IgnoredAny>,
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<Vec<Measure>> {
    let devices = bench.devices().await?;
    let mut since = Vec::with_capacity(devices.len());
    for device in &devices {
        let answer: Answer =
            matrix::patient(&mut bench.connection(), &sync_call(device, None)).await?;
        since.push(answer.next_batch);
    }
    let span = match bench.plan.span {
        Span::Time(_) => Span::Count(REQUESTS),
        count => count,
    };
    let messages = keys::messages(&devices);
    let mut workers = bench.askers().await?;
    let sent = bench
        .measure_cold("send", &mut workers, span, async |worker: &mut Worker, serial| {
            let txn = format!("d{serial}");
            let call = keys::send_to_device_call(&worker.account, &txn, messages.clone());
            worker.connection.call(&call).await.map(drop)
        })
        .await;
    let delivered = deliver(bench, &mut workers, (&devices, since), sent.count).await?;
    Ok(vec![sent, delivered])
}

/// Every device syncs until it has its `sent` messages.
async fn deliver(
    bench: &Bench<'_>,
    workers: &mut [Worker],
    (devices, since): (&[Account], Vec<String>),
    sent: u64,
) -> Result<Measure> {
    let count = u64::try_from(devices.len()).unwrap_or(0);
    let (since, first) = (RefCell::new(since), bench.serial.get());
    let arrived = Cell::new(0);
    // The turns of one device are far apart: its last answer is there.
    let operation = async |worker: &mut Worker, serial: u64| {
        let turn = usize::try_from((serial - first) % count.max(1)).unwrap_or(0);
        let from = since.borrow().get(turn).cloned();
        let device =
            devices.get(turn).ok_or_else(|| Failure::Other("there is no device".to_owned()))?;
        let answer: Answer =
            worker.connection.call_json(&sync_call(device, from.as_deref())).await?;
        arrived.set(arrived.get() + u64::try_from(answer.to_device.events.len()).unwrap_or(0));
        if let Some(since) = since.borrow_mut().get_mut(turn) {
            *since = answer.next_batch;
        }
        Ok(())
    };
    let span = Span::Count(count * sent.div_ceil(PORTION));
    let measure = bench.measure_cold("sync", workers, span, operation).await;
    Ok(measure.with_errors("messages missing", (sent * count).saturating_sub(arrived.get())))
}
