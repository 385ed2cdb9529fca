//! The figures of all rounds, and the tables that they make.

use super::session::{Cost, Rest};
use super::watcher::Kind;
use super::{Rate, first_line};
use crate::measure::table::{Table, mb, ms, percentile};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use testkit::Failure;

/// What has been measured so far.
pub(super) struct Figures {
    rounds: u32,
    rests: BTreeMap<Kind, Vec<Rest>>,
    /// By round, so that what a watcher adds is the difference to none in the same round.
    costs: BTreeMap<(Rate, Kind), BTreeMap<u32, Cost>>,
    compilations: BTreeMap<Kind, Vec<Duration>>,
    compilation_missing: Option<String>,
    missing: BTreeMap<Kind, String>,
    pub(super) alerts: Alerts,
}

/// What came of timing alerts.
pub(super) enum Alerts {
    NotAsked,
    Missing(String),
    Timed { asked: u32, times: Vec<Duration> },
}

impl Figures {
    pub(super) fn new(rounds: u32) -> Self {
        Self {
            rounds,
            rests: BTreeMap::new(),
            costs: BTreeMap::new(),
            compilations: BTreeMap::new(),
            compilation_missing: None,
            missing: BTreeMap::new(),
            alerts: Alerts::NotAsked,
        }
    }

    pub(super) fn rest(&mut self, kind: Kind, rest: Rest) {
        self.rests.entry(kind).or_default().push(rest);
    }

    pub(super) fn cost(&mut self, kind: Kind, rate: Rate, round: u32, cost: Cost) {
        self.costs.entry((rate, kind)).or_default().insert(round, cost);
    }

    pub(super) fn compilation(&mut self, kind: Kind, time: Duration) {
        self.compilations.entry(kind).or_default().push(time);
    }

    pub(super) fn compilation_missing(&mut self, why: &Failure) {
        self.compilation_missing = Some(first_line(why));
    }

    pub(super) fn missing(&mut self, kind: Kind, why: &Failure) {
        self.missing.insert(kind, first_line(why));
    }

    pub(super) fn is_missing(&self, kind: Kind) -> bool {
        self.missing.contains_key(&kind)
    }

    fn costs_table(&self) -> Table {
        let mut table = Table::new(&[
            "exec/s",
            "watcher",
            "reached",
            "its processes, µs per exec",
            "added to what it watches",
            "added to the machine (least … most)",
            "captured with argv",
            "lost by its own count",
            "resident",
        ]);
        let nobody = BTreeMap::new();
        for ((rate, kind), costs) in &self.costs {
            let alone = self.costs.get(&(*rate, Kind::Nothing)).unwrap_or(&nobody);
            let all: Vec<&Cost> = costs.values().collect();
            let sum = |of: fn(&Cost) -> u64| all.iter().map(|cost| of(cost)).sum::<u64>();
            let over_none = |of: fn(&Cost) -> Duration| -> Vec<f64> {
                let both = costs.iter().filter_map(|(round, cost)| Some((cost, alone.get(round)?)));
                both.map(|(cost, none)| per_exec(cost, of) - per_exec(none, of)).collect()
            };
            let [own, watched, machine] = if *kind == Kind::Nothing {
                let all = |of: fn(&Cost) -> Duration| all.iter().map(|cost| per_exec(cost, of)).collect::<Vec<_>>();
                [None, Some(all(|cost| cost.watched)), Some(all(|cost| cost.machine))]
            } else {
                let own = all.iter().map(|cost| per_exec(cost, |cost| cost.watcher)).collect();
                [Some(own), Some(over_none(|cost| cost.watched)), Some(over_none(|cost| cost.machine))]
            };
            let unfinished = all.iter().any(|cost| cost.unfinished);
            let own =
                own.map_or(DASH.to_owned(), |own| format!("{}{}", if unfinished { "> " } else { "" }, middle(&own)));
            let whole = |what: Option<Vec<f64>>, spread: bool| match what {
                Some(values) if *kind == Kind::Nothing => format!("({} in all)", middle(&values)),
                Some(values) if spread => middle_of(&values),
                Some(values) => middle(&values),
                None => DASH.to_owned(),
            };
            let [captured, lost, resident] = if *kind == Kind::Nothing {
                [DASH; 3].map(str::to_owned)
            } else {
                let most = all.iter().map(|cost| cost.resident).max().unwrap_or(0);
                [
                    share(sum(|cost| cost.captured), sum(|cost| cost.spawned)),
                    sum(|cost| cost.lost).to_string(),
                    mb(most),
                ]
            };
            table.row([
                rate.to_string(),
                kind.name().to_owned(),
                reached(&all),
                own,
                whole(watched, false),
                whole(machine, true),
                captured,
                lost,
                resident,
            ]);
        }
        table
    }

    fn rests_table(&self) -> Table {
        let mut table = Table::new(&[
            "watcher",
            "its processes at rest",
            "resident",
            "compilation, median (least … most)",
            "slower by",
        ]);
        let median = |kind: Kind| self.compilations.get(&kind).map(|times| percentile(times, 50));
        for kind in Kind::ALL {
            if let Some(why) = self.missing.get(&kind) {
                let [dash, again, more] = [DASH; 3].map(str::to_owned);
                table.row([kind.name().to_owned(), format!("not measured: {why}"), dash, again, more]);
                continue;
            }
            let rests = self.rests.get(&kind).map_or(&[][..], Vec::as_slice);
            let at_rest: Vec<f64> = rests.iter().map(|rest| rest.watcher * 100.0).collect();
            let [used, most] = if kind == Kind::Nothing {
                [DASH; 2].map(str::to_owned)
            } else {
                let most = rests.iter().map(|rest| rest.resident).max().unwrap_or(0);
                [format!("{:.2} % of a processor", median_of(&at_rest)), mb(most)]
            };
            let times = self.compilations.get(&kind).map_or(&[][..], Vec::as_slice);
            let time = match (times.iter().min(), times.iter().max()) {
                (Some(least), Some(most)) => {
                    format!("{} ({} … {})", ms(percentile(times, 50)), ms(*least), ms(*most))
                }
                _ => DASH.to_owned(),
            };
            let slower = match (median(kind), median(Kind::Nothing)) {
                (Some(beside), Some(alone)) if kind != Kind::Nothing => {
                    format!("{:+.1} %", (beside.as_secs_f64() / alone.as_secs_f64() - 1.0) * 100.0)
                }
                _ => DASH.to_owned(),
            };
            table.row([kind.name().to_owned(), used, most, time, slower]);
        }
        table
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Medians of {} rounds; captured and lost are sums of all.\n", self.rounds)?;
        writeln!(f, "{}", self.costs_table())?;
        writeln!(f, "{}", self.rests_table())?;
        if let Some(why) = &self.compilation_missing {
            writeln!(f, "No compilation: {why}.\n")?;
        }
        let rate = super::alerts::RATE;
        match &self.alerts {
            Alerts::NotAsked => Ok(()),
            Alerts::Missing(why) => writeln!(f, "Alerts beside {rate} exec/s were not timed: {why}"),
            Alerts::Timed { asked, times } => {
                let mut table = Table::new(&[
                    &format!("from the exec to the alert on stdout, beside {rate} exec/s"),
                    "p50",
                    "p99",
                    "most",
                ]);
                let came = format!("{} alerts of {asked}", times.len());
                let [p50, p99, most] = [50, 99, 100].map(|per_cent| ms(percentile(times, per_cent)));
                table.row([came, p50, p99, most]);
                write!(f, "{table}")
            }
        }
    }
}

/// In the place of what there is no figure for.
const DASH: &str = "—";

fn per_exec(cost: &Cost, of: fn(&Cost) -> Duration) -> f64 {
    if cost.spawned == 0 { 0.0 } else { of(cost).as_secs_f64() * 1e6 / cost.spawned as f64 }
}

/// How many were started in a second, and how many of them too late, or not at all.
fn reached(all: &[&Cost]) -> String {
    let rates: Vec<f64> =
        all.iter().map(|cost| cost.spawned as f64 / cost.duration.as_secs_f64().max(f64::EPSILON)).collect();
    let late: u64 = all.iter().map(|cost| cost.late).sum();
    let left_out: u64 = all.iter().map(|cost| cost.left_out).sum();
    let rate = format!("{:.0}", median_of(&rates));
    match (late, left_out) {
        (0, 0) => rate,
        (late, 0) => format!("{rate}, {late} late"),
        (late, left_out) => format!("{rate}, {late} late, {left_out} left out"),
    }
}

/// Per cent, with two decimals, of which none is rounded up: all is all.
fn share(part: u64, whole: u64) -> String {
    match part * 10_000 / whole.max(1) {
        _ if part == whole => "100 %".to_owned(),
        hundredths => format!("{}.{:02} %", hundredths / 100, hundredths % 100),
    }
}

fn median_of(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

fn middle(values: &[f64]) -> String {
    rounded(median_of(values))
}

fn middle_of(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({} … {})", middle(values), rounded(least), rounded(most))
}

fn rounded(value: f64) -> String {
    match value {
        value if !value.is_finite() => DASH.to_owned(),
        value if value.abs() < 10.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    fn cost(spawned: u64, watcher: u32, watched: u32, machine: u32) -> Cost {
        let [watcher, watched, machine] = [watcher, watched, machine].map(|us| US * us);
        let duration = Duration::from_secs(1);
        Cost { spawned, duration, watcher, watched, machine, captured: spawned, ..Cost::default() }
    }

    fn rows(figures: &Figures) -> Vec<String> {
        figures.costs_table().to_string().lines().skip(2).map(str::to_owned).collect()
    }

    #[test]
    fn what_a_watcher_adds_is_the_difference_to_none_in_the_same_round() {
        let mut figures = Figures::new(3);
        let rate = "100".parse().unwrap();
        for (round, other) in [(0, 0), (1, 5_000), (2, 90_000)] {
            figures.cost(Kind::Nothing, rate, round, cost(100, 0, 20_000, 30_000 + other));
            figures.cost(Kind::DaemonEye, rate, round, cost(100, 4_000, 21_000, 36_000 + other + round));
        }
        assert_eq!(
            rows(&figures),
            [
                "| 100 | nothing | 100 | — | (200 in all) | (350 in all) | — | — | — |",
                "| 100 | DaemonEye | 100 | 40 | 10 | 60 (60 … 60) | 100 % | 0 | 0.0 MB |",
            ]
        );
    }

    #[test]
    fn what_was_late_lost_or_unfinished_is_told() {
        let mut figures = Figures::new(1);
        let cost = Cost { captured: 399, late: 3, left_out: 2, lost: 7, unfinished: true, ..cost(400, 4_000, 0, 0) };
        figures.cost(Kind::Auditd, Rate::Full, 0, cost);
        assert_eq!(
            rows(&figures),
            ["| full | auditd | 400, 3 late, 2 left out | > 10 | — | — (— … —) | 99.75 % | 7 | 0.0 MB |"]
        );
        assert_eq!(
            (share(99_999, 100_000), share(1, 1), share(0, 0)),
            ("99.99 %".into(), "100 %".into(), "100 %".into())
        );
    }

    #[test]
    fn a_watcher_that_does_not_work_here_is_a_row_with_the_reason() {
        let mut figures = Figures::new(1);
        figures.missing(Kind::Bpftrace, &Failure::new("it | says\nmore"));
        figures.compilation(Kind::Nothing, Duration::from_millis(2_000));
        figures.compilation(Kind::Auditd, Duration::from_millis(2_100));
        assert!(figures.is_missing(Kind::Bpftrace) && !figures.is_missing(Kind::Auditd));
        let table = figures.to_string();
        assert!(table.contains("| bpftrace | not measured: it \\| says | — | — | — |"), "{table}");
        assert!(table.contains("| 2100 ms (2100 ms … 2100 ms) | +5.0 % |"), "{table}");
    }

    #[test]
    fn alerts_that_did_not_come_are_told() {
        let mut figures = Figures::new(1);
        figures.alerts = Alerts::Timed { asked: 3, times: vec![20_000 * US, 5_000 * US] };
        assert!(figures.to_string().contains("| 2 alerts of 3 | 5.00 ms | 20 ms | 20 ms |"), "{figures}");
    }
}
