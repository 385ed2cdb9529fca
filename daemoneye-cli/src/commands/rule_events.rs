//! `rules test … --events FILE`: every match of rules in recorded events, without an agent.

use super::rule_test::Arguments;
use super::tasks::heading;
use super::validate;
use crate::failure::{Failure, Kind};
use crate::output::{Outcome, Screen, Sheet, Style};
use daemoneye_lib::alerting::replay::{scheduled, standing};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::detection::engine::{CompiledRule, Match};
use daemoneye_lib::models::event::IdentifiedEvent;
use daemoneye_lib::models::jsonl::{self, Recording};
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, cell};
use daemoneye_lib::sigma::events;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

/// The longest line, in bytes.
const MAX_LINE: u64 = 8 << 20;
/// Events that are shown to rules at once.
const BATCH: usize = 2_000;
/// The most events over which scheduled rules run: they are all kept.
const MAX_KEPT: usize = 200_000;

/// What the fields of the events are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Map {
    /// As Sigma calls them: Image, CommandLine, …
    Sigma,
}

/// A line for each match.
pub(crate) async fn run(
    arguments: &Arguments,
    file: &Path,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let loaded = validate::load_all(&arguments.paths()).await?;
    let (later, now): (Vec<_>, Vec<_>) = loaded.rules.into_iter().partition(|rule| rule.schedule().is_some());
    let mut lines = Lines::open(file, arguments.map)?;
    let mut failed: BTreeMap<String, String> = BTreeMap::new();
    let mut told = Told::new(screen.sheet(format, Style::default()), format);
    told.begin()?;
    let mut kept: Vec<IdentifiedEvent> = Vec::new();
    loop {
        let batch = lines.batch()?;
        if batch.is_empty() {
            break;
        }
        let failures = standing(&now, &batch, |rule, matched| told.tell(rule, &matched, &lines.ids));
        failed.extend(failures);
        told.result()?;
        if later.is_empty() {
            lines.ids.clear();
            continue;
        }
        kept.extend(batch);
        if kept.len() > MAX_KEPT {
            let message = format!("{} has more than {MAX_KEPT} events", file.display());
            return Err(Failure::new(Kind::Failed, message).hint("try the scheduled rules on a part of them"));
        }
    }
    let kept: Arc<[IdentifiedEvent]> = kept.into();
    for rule in &later {
        let ran = scheduled(rule, &kept, |rule, matched| told.tell(rule, &matched, &lines.ids)).await;
        failed.extend(ran.err());
        told.result()?;
    }
    told.end()?;
    screen.out.flush()?;
    complain(&loaded.problems, &failed, screen)
}

/// What could not be tried, so that nobody takes silence for it.
fn complain(
    problems: &[daemoneye_lib::detection::rules::RuleProblem],
    failed: &BTreeMap<String, String>,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    for problem in problems {
        Failure::new(Kind::Refused, problem.to_string()).print(screen.err);
    }
    for (rule, why) in failed {
        Failure::new(Kind::Failed, format!("the rule {rule} could not be evaluated: {why}")).print(screen.err);
    }
    Ok(match (problems.is_empty(), failed.is_empty()) {
        (true, true) => Outcome::Done,
        (true, false) => Outcome::Wanting,
        (false, _) => Outcome::Refused,
    })
}

/// The events of a file, line by line.
struct Lines<'f> {
    path: &'f Path,
    from: BufReader<File>,
    map: Option<Map>,
    number: usize,
    recording: Recording,
    /// What the file itself calls the events that have been read, by the ids that they have here.
    ids: HashMap<String, Json>,
}

impl<'f> Lines<'f> {
    fn open(path: &'f Path, map: Option<Map>) -> Result<Self, Failure> {
        let from = File::open(path).map_err(|error| cannot(path, &error))?;
        let (recording, ids) = (Recording::default(), HashMap::new());
        Ok(Self { path, from: BufReader::new(from), map, number: 0, recording, ids })
    }

    /// The next events; none at the end.
    fn batch(&mut self) -> Result<Vec<IdentifiedEvent>, Failure> {
        let mut events = Vec::new();
        while events.len() < BATCH {
            let mut line = Vec::new();
            self.number += 1;
            let read = (&mut self.from).take(MAX_LINE + 1).read_until(b'\n', &mut line);
            if read.map_err(|error| cannot(self.path, &error))? == 0 {
                break;
            }
            if line.len() as u64 > MAX_LINE {
                return Err(self.wrong(&format!("line {} is longer than {MAX_LINE} bytes", self.number)));
            }
            let line = std::str::from_utf8(&line)
                .map_err(|_| self.wrong(&format!("line {} is no UTF-8", self.number)))?
                .trim();
            if !line.is_empty() {
                events.push(self.event(line)?);
            }
        }
        Ok(events)
    }

    fn event(&mut self, line: &str) -> Result<IdentifiedEvent, Failure> {
        let number = self.number;
        let mut object = jsonl::object(line, number).map_err(|error| self.wrong(&error.to_string()))?;
        let event_id = format!("line-{number}");
        let own = object.remove("event_id").filter(|own| !own.is_null());
        self.ids.insert(event_id.clone(), own.unwrap_or_else(|| Json::from(event_id.as_str())));
        if self.map == Some(Map::Sigma) {
            object = events::columns(object).map_err(|problem| self.wrong(&format!("line {number}: {problem}")))?;
        }
        let event = self.recording.event_of(object, number).map_err(|error| self.wrong(&error.to_string()))?;
        Ok(IdentifiedEvent { event_id, event })
    }

    fn wrong(&self, why: &str) -> Failure {
        Failure::new(Kind::Failed, format!("{}: {why}", self.path.display()))
    }
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("cannot read {}: {error}", path.display()))
}

/// Where matches are told; people get fewer columns.
struct Told<'s> {
    sheet: Box<dyn Sheet + 's>,
    people: bool,
    error: Option<io::Error>,
}

impl<'s> Told<'s> {
    fn new(sheet: Box<dyn Sheet + 's>, format: OutputFormat) -> Self {
        Self { sheet, people: format == OutputFormat::Table, error: None }
    }

    fn begin(&mut self) -> Result<(), Failure> {
        let mut columns: Vec<_> =
            ["rule_id", "event_id", "severity", "title"].map(|name| heading(name, ColumnKind::Text)).to_vec();
        if !self.people {
            columns.push(heading("author", ColumnKind::Text));
        }
        columns.push(heading("row", ColumnKind::Json));
        Ok(self.sheet.begin(&columns)?)
    }

    /// A match; when it cannot be printed, [`Told::result`] says so.
    fn tell(&mut self, rule: &CompiledRule, matched: &Match, ids: &HashMap<String, Json>) {
        let text = |text: &str| Cell { value: Some(cell::Value::Text(text.to_owned())) };
        let event_id = match ids.get(&matched.event_id) {
            Some(Json::String(own)) => text(own),
            Some(own) => match own.as_i64() {
                Some(number) => Cell { value: Some(cell::Value::Integer(number)) },
                None => text(&own.to_string()),
            },
            // Of a row that names no event.
            None => Cell::default(),
        };
        let rule = &rule.rule;
        let mut cells = vec![text(&rule.id), event_id, text(rule.severity.name()), text(&rule.title)];
        if !self.people {
            cells.push(text(&rule.author));
        }
        cells.push(text(&matched.row));
        if self.error.is_none() {
            self.error = self.sheet.row(cells).err();
        }
    }

    fn result(&mut self) -> Result<(), Failure> {
        self.error.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn end(mut self) -> Result<(), Failure> {
        Ok(self.sheet.end(&Completeness::default())?)
    }
}
