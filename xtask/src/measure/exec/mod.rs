//! `cargo xtask bench-exec`: what watching programs that are started costs, and what of them is seen, beside other watchers
//! and beside none.
//!
//! A round is each task (rest, the rates, a compilation) beside each watcher, one session after the other, so that what else
//! happens on the host meets all of them; which one is first changes with the round. A session begins with a fresh watcher
//! and ends with its end. A watcher that does not work here is a row with the reason.
//!
//! It refuses to conclude anything from figures that a watcher gives about itself, but for what only that one knows: what it
//! has lost. Time is taken from the kernel, and whether a start was seen from what the watcher tells of it.

mod alerts;
mod audit_log;
mod auditd;
mod bpftrace;
mod compile;
mod cpu;
mod daemoneye;
mod host;
mod report;
mod session;
mod watcher;

use super::{from_profile, note};
use crate::interrupt::Interrupt;
use crate::programs;
use alerts::Latencies;
use compile::Project;
use report::{Alerts, Figures};
use session::Rest;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;
use testkit::{Failure, is_root};
use watcher::Kind;

/// What the load starts: about as little as a program can be.
const PROGRAM: &str = "/bin/true";

/// How often something is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rate {
    Fixed(NonZeroU32),
    /// As fast as can be.
    Full,
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "full" => Ok(Self::Full),
            _ => {
                text.parse().map(Self::Fixed).map_err(|_| format!("{text:?} is neither a number of starts nor `full`"))
            }
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(rate) => rate.fmt(f),
            Self::Full => f.write_str("full"),
        }
    }
}

/// What is measured, how long and with which programs.
pub(crate) struct Exec {
    pub(crate) rates: Vec<Rate>,
    /// Of each load.
    pub(crate) seconds: u32,
    pub(crate) rounds: u32,
    /// Alerts whose way is timed.
    pub(crate) alerts: u32,
    /// Source files of the compilation, and how often it is done in a session. Without files there is none.
    pub(crate) files: u32,
    pub(crate) compilations: u32,
    pub(crate) profile: String,
    /// A directory of programs that are built already.
    pub(crate) programs: Option<PathBuf>,
    /// Whether to build them first.
    pub(crate) build: bool,
}

/// What every session has in common.
struct Bench<'a> {
    options: &'a Exec,
    /// The directory of programs, should it not be that of this one.
    programs: Option<PathBuf>,
    interrupt: &'a Interrupt,
    runs: Cell<u64>,
}

/// What a watcher is put beside.
#[derive(Clone, Copy)]
enum Task {
    Rest,
    Load(Rate),
    Compilation,
}

pub(crate) fn run(options: &Exec, out: &mut impl Write) -> Result<(), Failure> {
    if !is_root() {
        return Err(Failure::new("watchers of all processes need root"));
    }
    if options.programs.is_none() {
        if options.build {
            programs::build(Some(&options.profile))?;
        }
        if !programs::is_built_in(&options.profile)? {
            let arguments = options.arguments();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            return Err(from_profile(&options.profile, &arguments)?);
        }
    }
    let interrupt = Interrupt::watch()?;
    let absolute = |dir: &PathBuf| {
        dir.canonicalize().map_err(|error| Failure::new(format!("no directory {}: {error}", dir.display())))
    };
    // Programs run in directories of their own.
    let programs = options.programs.as_ref().map(absolute).transpose()?;
    let bench = Bench { options, programs, interrupt: &interrupt, runs: Cell::new(0) };
    let host = host::facts(options)?;
    let figures = bench.all()?;
    writeln!(out, "{host}\n{figures}").map_err(|error| Failure::new(format!("cannot write: {error}")))
}

impl Exec {
    /// How this is said on a command line.
    fn arguments(&self) -> Vec<String> {
        let rates: Vec<_> = self.rates.iter().map(Rate::to_string).collect();
        let numbers = [
            ("--seconds", self.seconds),
            ("--rounds", self.rounds),
            ("--alerts", self.alerts),
            ("--files", self.files),
            ("--compilations", self.compilations),
        ];
        let mut arguments = vec!["bench-exec".to_owned(), "--rates".to_owned(), rates.join(",")];
        arguments.extend(numbers.iter().flat_map(|(name, number)| [(*name).to_owned(), number.to_string()]));
        arguments
    }

    fn tasks(&self) -> Vec<Task> {
        let compilation = (self.files > 0).then_some(Task::Compilation);
        [Task::Rest].into_iter().chain(self.rates.iter().copied().map(Task::Load)).chain(compilation).collect()
    }
}

impl Bench<'_> {
    /// All rounds, and then the alerts.
    fn all(&self) -> Result<Figures, Failure> {
        let mut figures = Figures::new(self.options.rounds);
        let project = if self.options.files > 0 { Some(Project::make(self.options.files)) } else { None };
        let project = match project.transpose() {
            Ok(project) => project,
            Err(failure) => {
                figures.compilation_missing(&failure);
                None
            }
        };
        for round in 0..self.options.rounds {
            let mut rests = BTreeMap::new();
            for (turn, task) in self.options.tasks().into_iter().enumerate() {
                for kind in in_turn(round as usize + turn) {
                    if figures.is_missing(kind) {
                        continue;
                    }
                    note(&format!("round {} of {}: {task}, {}", round + 1, self.options.rounds, kind.name()));
                    let done = self.session(kind, task, round, &mut rests, project.as_ref(), &mut figures);
                    self.interrupt.check()?;
                    if let Err(failure) = done {
                        if kind == Kind::Nothing {
                            return Err(failure);
                        }
                        note(&format!("{} is left out from here on: {failure}", kind.name()));
                        figures.missing(kind, &failure);
                    }
                }
            }
        }
        if self.options.alerts > 0 && !figures.is_missing(Kind::DaemonEye) {
            note(&format!("{} alerts beside {} starts a second", self.options.alerts, alerts::RATE));
            let timed = self.alerts();
            self.interrupt.check()?;
            figures.alerts = match timed {
                Ok(Latencies { asked, times }) => Alerts::Timed { asked, times },
                Err(failure) => Alerts::Missing(first_line(&failure)),
            };
        }
        Ok(figures)
    }

    fn session(
        &self,
        kind: Kind,
        task: Task,
        round: u32,
        rests: &mut BTreeMap<Kind, Rest>,
        project: Option<&Project>,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        match task {
            Task::Rest => {
                let watcher = self.begin(kind)?;
                let rest = self.rest(&*watcher)?;
                rests.insert(kind, rest);
                figures.rest(kind, rest);
            }
            Task::Load(rate) => {
                let watcher = self.begin(kind)?;
                let rest = rests.get(&kind).copied().unwrap_or_default();
                figures.cost(kind, rate, round, self.load(&*watcher, rate, &rest)?);
            }
            Task::Compilation => {
                let Some(project) = project else { return Ok(()) };
                let _watcher = self.begin(kind)?;
                for _ in 0..self.options.compilations {
                    self.interrupt.check()?;
                    figures.compilation(kind, project.compile()?);
                }
            }
        }
        Ok(())
    }

    fn time(&self) -> Duration {
        Duration::from_secs(u64::from(self.options.seconds))
    }

    /// A name that no other run on this host has: what a watcher told of an earlier one is not this one's.
    fn next_run(&self) -> String {
        let number = self.runs.get();
        self.runs.set(number + 1);
        format!("bench-{:x}-{number}", daemoneye_lib::models::time::now_ns())
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rest => f.write_str("at rest"),
            Self::Load(Rate::Fixed(rate)) => write!(f, "{rate} starts a second"),
            Self::Load(Rate::Full) => f.write_str("full speed"),
            Self::Compilation => f.write_str("a compilation"),
        }
    }
}

/// The watchers, another one first each time.
fn in_turn(turn: usize) -> impl Iterator<Item = Kind> {
    let watchers = Kind::ALL.len();
    Kind::ALL.into_iter().cycle().skip(turn % watchers).take(watchers)
}

/// What of a failure has room in a table.
fn first_line(failure: &Failure) -> String {
    failure.to_string().lines().next().unwrap_or_default().replace('|', "\\|")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn a_rate_is_a_number_or_full() {
        let rates: Vec<Rate> = ["10", "full"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(rates, [Rate::Fixed(NonZeroU32::new(10).unwrap()), Rate::Full]);
        assert_eq!(rates.iter().map(Rate::to_string).collect::<Vec<_>>(), ["10", "full"]);
        assert!(["0", "-1", "", "fast"].iter().all(|text| text.parse::<Rate>().is_err()));
    }

    /// What a program of another profile is started with.
    #[test]
    fn what_was_asked_for_can_be_said_again() {
        let said = ["xtask", "bench-exec", "--rates", "7,full", "--seconds", "2", "--alerts", "0", "--files", "3"];
        let again = |arguments: &[&str]| match crate::Arguments::try_parse_from(arguments).unwrap().command {
            crate::Command::BenchExec { rates, seconds, rounds, alerts, files, compilations, profile, .. } => {
                let (programs, build) = (None, false);
                Exec { rates, seconds, rounds, alerts, files, compilations, profile, programs, build }.arguments()
            }
            _ => Vec::new(),
        };
        let first = again(&said);
        let words: Vec<&str> = ["xtask"].into_iter().chain(first.iter().map(String::as_str)).collect();
        assert_eq!(again(&words), first);
        assert!(first.join(" ").contains("--rates 7,full --seconds 2 --rounds 3 --alerts 0 --files 3"), "{first:?}");
    }

    #[test]
    fn every_watcher_has_its_turn_at_every_place() {
        let firsts: Vec<_> = (0..4).map(|turn| in_turn(turn).next().unwrap()).collect();
        assert_eq!(firsts, Kind::ALL);
        for turn in 0..5 {
            let mut all: Vec<_> = in_turn(turn).collect();
            all.sort();
            assert_eq!(all, Kind::ALL);
        }
    }
}
