//! Two sets of reports side by side: what was measured of one server and of another, and their quotients.

use std::{fs, path::Path};

use crate::{
    Failure, Result,
    report::{MADE, Measure, Report},
};

/// The table of two files, each with reports as lines of JSON. Reports belong together by their scenario and
/// settings, rows by their label; a row that only one file has is left out.
///
/// # Errors
/// A file that cannot be read or holds something else, or two that have no row in common.
pub fn table(ours: &Path, theirs: &Path) -> Result<String> {
    let names = [ours, theirs].map(name);
    let table = render(&names, &read(ours)?, &read(theirs)?);
    if table.is_empty() {
        return Err(Failure::Other("the files have nothing in common".to_owned()));
    }
    Ok(table)
}

fn name(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

fn read(path: &Path) -> Result<Vec<Report>> {
    let text = fs::read_to_string(path)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn render([ours, theirs]: &[String; 2], left: &[Report], right: &[Report]) -> String {
    let mut out = String::new();
    for report in left {
        let Some(other) = right.iter().find(|other| settings(other) == settings(report)) else {
            continue;
        };
        // When an event claims to be made is no figure to compare: some servers write the deadline there.
        for row in report.measures.iter().filter(|row| !row.label.ends_with(MADE)) {
            let Some(other) = other.measures.iter().find(|other| other.label == row.label) else {
                continue;
            };
            let title = format!("{}: {}", report.scenario, row.label);
            line(&mut out, [&title, ours, theirs, &format!("{ours} / {theirs}")]);
            for ((what, left), (_, right)) in figures(row).into_iter().zip(figures(other)) {
                let text =
                    |figure: Option<f64>| figure.map_or("-".to_owned(), |is| format!("{is:.2}"));
                let quotient = left.zip(right).filter(|(_, right)| *right != 0.0);
                let quotient = text(quotient.map(|(left, right)| left / right));
                line(&mut out, [&format!("  {what}"), &text(left), &text(right), &quotient]);
            }
        }
    }
    out
}

/// What must be the same for two reports to be comparable: all but which server it was.
fn settings(report: &Report) -> (&str, Vec<(&String, &String)>) {
    let server = |key: &str| ["server", "durability"].contains(&key);
    (&report.scenario, report.parameters.iter().filter(|(key, _)| !server(key)).collect())
}

fn figures(row: &Measure) -> [(&'static str, Option<f64>); 6] {
    let failed: u64 = row.errors.values().sum();
    [
        ("done", Some(row.count as f64)),
        ("failed", Some(failed as f64)),
        ("per second", Some(row.per_second)),
        ("p50 ms", Some(row.latency_ms.p50)),
        ("p99 ms", Some(row.latency_ms.p99)),
        ("per CPU second", row.server.as_ref().map(|cost| cost.per_cpu_second)),
    ]
}

fn line(out: &mut String, [what, left, right, quotient]: [&str; 4]) {
    out.push_str(&format!("{what:<52} {left:>14} {right:>14} {quotient:>18}\n"));
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{histogram::Histogram, process::Usage};

    fn report(server: &str, users: &str, count: u64, cpu_seconds: f64) -> Report {
        let mut histogram = Histogram::default();
        (0..count).for_each(|_| histogram.record(Duration::from_millis(2)));
        let after = Usage { cpu_seconds, ..Usage::default() };
        let row = Measure::new("restart", &histogram, Duration::from_secs(2))
            .with_cost(Some(Usage::default()), Some(after));
        let parameters = [("server", server), ("users", users)];
        Report {
            scenario: "delayed-restart".to_owned(),
            parameters: parameters.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            measures: vec![row],
            notes: Vec::new(),
        }
    }

    /// The words of each line of the table of `left` and `right`, by the first.
    fn words(left: Report, right: Report) -> BTreeMap<String, String> {
        let names = ["wick".to_owned(), "other".to_owned()];
        let text = render(&names, &[left], &[right]);
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (what, figures) = words.split_at(words.len().saturating_sub(3));
            (what.join(" "), figures.join(" "))
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn each_figure_stands_beside_its_counterpart_with_the_quotient() {
        let words = words(report("a", "3", 100, 0.5), report("b", "3", 10, 1.0));
        assert_eq!(words["per second"], "50.00 5.00 10.00");
        assert_eq!(words["per CPU second"], "200.00 10.00 20.00");
        assert_eq!(words["p50 ms"], "2.00 2.00 1.00");
        assert_eq!(words["failed"], "0.00 0.00 -");
    }

    #[test]
    fn runs_with_other_settings_are_not_compared() {
        assert!(words(report("a", "3", 1, 1.0), report("b", "4", 1, 1.0)).is_empty());
    }

    #[test]
    fn a_report_survives_being_written_and_read() {
        let text = report("a", "3", 5, 0.25).json().unwrap();
        let read: Report = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(read.json().unwrap(), text);
    }
}
