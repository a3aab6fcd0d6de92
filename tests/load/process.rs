//! What a process has used, from `/proc`.

use std::fs;

use serde::Serialize;

use crate::{Failure, Result};

/// `USER_HZ`: the unit of `/proc/PID/stat`, 100 on every Linux architecture that matters here.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time and memory of a process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Resident set, in KiB.
    pub rss_kib: u64,
    /// The largest resident set so far, in KiB.
    pub peak_kib: u64,
}

/// Reads the usage of process `pid`.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse(&stat, &status).ok_or_else(|| Failure::Other(format!("/proc/{pid} is unreadable")))
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The command's name may hold spaces and brackets; numbers begin after the last one, at field 3.
    let (_, numbers) = stat.rsplit_once(')')?;
    let mut fields = numbers.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(Usage {
        cpu_seconds: (user + system) / TICKS_PER_SECOND,
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
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1 2 3";
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        let expected = Usage { cpu_seconds: 3.0, rss_kib: 1024, peak_kib: 2048 };
        assert_eq!(parse(stat, status), Some(expected));
    }

    #[test]
    fn a_process_can_read_its_own_usage() {
        assert!(usage(std::process::id()).unwrap().rss_kib > 0);
    }
}
