//! What processes have used, from `/proc`.

use std::{collections::BTreeMap, fs, iter::Sum, ops::Add};

use serde::Serialize;

use crate::{Failure, Result};

/// `USER_HZ`: the unit of `/proc/PID/stat`, 100 on every Linux architecture that matters here.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time and memory of some processes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// User and system time, in seconds, that of ended children included.
    pub cpu_seconds: f64,
    /// Resident set, in KiB. What several processes share is counted in each.
    pub rss_kib: u64,
    /// The largest resident set so far, in KiB.
    pub peak_kib: u64,
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            rss_kib: self.rss_kib + other.rss_kib,
            peak_kib: self.peak_kib + other.peak_kib,
        }
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// What the processes `roots` and all below them have used.
pub(crate) fn usage(roots: &[u32]) -> Result<Usage> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        // A process may end while we look.
        let stat = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        if let (Some(pid), Some(parent)) = (pid, stat.as_deref().and_then(parent)) {
            parents.insert(pid, parent);
        }
    }
    if let Some(pid) = roots.iter().find(|pid| !parents.contains_key(pid)) {
        return Err(Failure::Other(format!("there is no process {pid}")));
    }
    let below = parents.keys().filter(|pid| is_below(**pid, roots, &parents));
    Ok(below.filter_map(|pid| usage_of(*pid)).sum())
}

/// Whether `pid` or a process above it is one of `roots`.
fn is_below(pid: u32, roots: &[u32], parents: &BTreeMap<u32, u32>) -> bool {
    // Each step leads to another process, unless a pid was given anew while we looked.
    std::iter::successors(Some(pid), |pid| parents.get(pid).copied())
        .take(parents.len())
        .any(|pid| roots.contains(&pid))
}

fn usage_of(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse(&stat, &status)
}

/// The bytes that a process has written to disk.
pub(crate) fn written_bytes(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}

/// The fields of `/proc/PID/stat` from the third on: the second, the command's name, may hold spaces and brackets.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

fn parent(stat: &str) -> Option<u32> {
    fields(stat)?.nth(1)?.parse().ok()
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // utime, stime, and both of the children that were waited for.
    let ticks: f64 =
        fields(stat)?.skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(Usage {
        cpu_seconds: ticks / TICKS_PER_SECOND,
        rss_kib: kib(status, "VmRSS:")?,
        peak_kib: kib(status, "VmHWM:")?,
    })
}

fn kib(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_brackets() {
        let stat = "42 (a) b (c)) S 7 42 42 0 -1 4194560 100 0 0 0 250 50 70 30 20 0 1 0 100 1 2 3";
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        let expected = Usage { cpu_seconds: 4.0, rss_kib: 1024, peak_kib: 2048 };
        assert_eq!(parse(stat, status), Some(expected));
        assert_eq!(parent(stat), Some(7));
    }

    #[test]
    fn a_process_its_children_and_theirs_are_below_it_and_no_others() {
        let parents =
            BTreeMap::from([(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (30, 31), (31, 30)]);
        let below = |roots: &[u32]| -> Vec<u32> {
            parents.keys().copied().filter(|pid| is_below(*pid, roots, &parents)).collect()
        };
        assert_eq!(below(&[10]), [10, 11, 12]);
        assert_eq!(below(&[20, 11]), [11, 12, 20]);
        assert!(below(&[]).is_empty());
    }

    #[test]
    fn a_process_can_read_its_own_usage_and_not_that_of_none() {
        assert!(usage(&[std::process::id()]).unwrap().rss_kib > 0);
        assert!(usage(&[u32::MAX]).is_err());
        assert_eq!(usage(&[]).unwrap(), Usage::default());
    }
}
