//! Correlation rules: what several events say together, as a scheduled rule.
//!
//! The events that match one of the rules are `hits`. Each hit is looked at together with the hits of its group in the timespan before it,
//! so that no boundary between two runs or two windows hides anything; a row is a hit that completes what the rule asks
//! for, by which an alert is told once however often the rule runs.

use super::condition::{Condition, parse};
use super::expr::{Expr, literal};
use super::fields::{Operand, Source};
use super::lower::combine;
use super::problem::{Place, SigmaProblem, shortened};
use super::rule::{text, texts};
use super::yaml::{Content, Node, Value};
use std::fmt::Write as _;

/// The most rules that a correlation may name.
const MAX_RULES: usize = 10;
/// The most fields by which it may group.
const MAX_GROUPS: usize = 10;
/// The longest timespan: 90 days, in seconds.
const MAX_TIMESPAN: u64 = 90 * 86_400;
/// How late an event may arrive and still be seen with all that was before it, in seconds.
const LATE: u64 = 60;

/// A rule that correlations may name.
pub(super) struct Base {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// Where its events are and what they must be, or why that cannot be said.
    pub(super) matches: Result<(Source, Expr), &'static str>,
}

/// A correlation rule.
#[derive(Clone, Debug)]
pub(super) struct Correlation {
    kind: Kind,
    /// Names or ids.
    pub(super) rules: Vec<String>,
    group_by: Vec<String>,
    /// In seconds.
    timespan: u64,
    aliases: Vec<Alias>,
    /// Whether the rules that it names raise alerts of their own.
    pub(super) generate: bool,
    place: Place,
}

#[derive(Clone, Debug)]
enum Kind {
    Events(Vec<Bound>),
    Values(String, Vec<Bound>),
    Temporal(Which),
    Ordered,
}

/// Which rules must have matched.
#[derive(Clone, Debug)]
enum Which {
    All,
    Number(Vec<Bound>),
    Condition(Condition),
}

/// Another name of fields: the name, and which field it is in the events of which rule.
type Alias = (String, Vec<(String, String)>);

/// An SQL operator and a number.
type Bound = (&'static str, u64);

/// Reads the part of a document that makes it a correlation.
pub(super) fn read(document: &Node, node: &Node) -> Result<Correlation, SigmaProblem> {
    if !matches!(node.content, Content::Map(_)) {
        return Err(node.problem("`correlation` should be a map"));
    }
    for key in ["window", "gap"] {
        if node.get(key).is_some() || document.get(&format!("rsigma.{key}")).is_some() {
            return Err(node.problem(format!("`{key}` of a correlation is not supported")));
        }
    }
    let word = |key: &str| text(node, key, 200);
    let rules = texts(node, "rules")?;
    if rules.is_empty() || rules.len() > MAX_RULES {
        return Err(node.problem(format!("a correlation names one to {MAX_RULES} `rules`, not {}", rules.len())));
    }
    if let Some(twice) = rules.iter().enumerate().find(|(index, name)| rules[..*index].contains(name)) {
        return Err(node.problem(format!("`rules` names `{}` twice", shortened(twice.1))));
    }
    let group_by = texts(node, "group-by")?;
    if group_by.len() > MAX_GROUPS {
        return Err(node.problem(format!("`group-by` names more than {MAX_GROUPS} fields")));
    }
    let timespan = word("timespan")?.map_or_else(|| word("timeframe"), |own| Ok(Some(own)))?;
    let timespan = timespan.ok_or_else(|| node.problem("the correlation has no `timespan`"))?;
    let timespan = seconds(&timespan).map_err(|problem| problem.at(node.place))?;
    let kind = word("type")?.ok_or_else(|| node.problem("the correlation has no `type`"))?;
    let condition = node.get("condition");
    let kind = match kind.as_str() {
        "event_count" => Kind::Events(bounds(condition, node)?),
        "value_count" => {
            let field = condition.map(|condition| texts(condition, "field")).transpose()?.unwrap_or_default();
            match <[String; 1]>::try_from(field) {
                Ok([field]) => Kind::Values(field, bounds(condition, node)?),
                Err(_) => return Err(node.problem("`value_count` counts the values of one `field` of its condition")),
            }
        }
        "temporal" => Kind::Temporal(match condition.map(|condition| (condition, &condition.content)) {
            None => Which::All,
            Some((condition, Content::Scalar(scalar))) => {
                Which::Condition(parse(&scalar.text).map_err(|problem| problem.at(condition.place))?)
            }
            Some(_) => Which::Number(bounds(condition, node)?),
        }),
        "temporal_ordered" => match condition {
            None if rules.len() < 2 => return Err(node.problem("`temporal_ordered` wants two rules at least")),
            None => Kind::Ordered,
            Some(condition) => return Err(condition.problem("`temporal_ordered` with a condition is not supported")),
        },
        other => {
            let problem = node.problem(format!("the correlation type `{}` is not supported", shortened(other)));
            return Err(problem.hint("event_count, value_count, temporal and temporal_ordered are"));
        }
    };
    let flag = document.get("generate").or_else(|| node.get("generate"));
    let generate =
        flag.is_some_and(|flag| matches!(&flag.content, Content::Scalar(own) if own.value() == Value::Boolean(true)));
    Ok(Correlation { kind, rules, group_by, timespan, aliases: aliases(node)?, generate, place: node.place })
}

fn aliases(node: &Node) -> Result<Vec<Alias>, SigmaProblem> {
    let Some(node) = node.get("aliases") else { return Ok(Vec::new()) };
    let Content::Map(aliases) = &node.content else { return Err(node.problem("`aliases` should be a map")) };
    let mut read = Vec::with_capacity(aliases.len());
    for (name, fields) in aliases {
        let Content::Map(entries) = &fields.content else {
            return Err(fields.problem(format!("the alias `{}` should be a map of rules to fields", shortened(name))));
        };
        let mut of = Vec::with_capacity(entries.len());
        for (rule, _) in entries {
            let field = text(fields, rule, 200)?;
            of.push((rule.clone(), field.ok_or_else(|| fields.problem("an alias names no field"))?));
        }
        read.push((name.clone(), of));
    }
    Ok(read)
}

/// `90s`, `5m`, `1h`, `7d`, `2w`.
fn seconds(text: &str) -> Result<u64, SigmaProblem> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        Some('w') => 604_800,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u64>().ok());
    let seconds = number.and_then(|number| number.checked_mul(unit)).filter(|own| (1..=MAX_TIMESPAN).contains(own));
    seconds.ok_or_else(|| {
        let problem = SigmaProblem::new(format!("`{}` is no timespan that can be looked back", shortened(text)));
        problem.hint("write for example 90s, 5m, 1h, 7d or 2w, at most 90 days")
    })
}

fn bounds(condition: Option<&Node>, node: &Node) -> Result<Vec<Bound>, SigmaProblem> {
    let condition = condition.ok_or_else(|| node.problem("the correlation has no `condition`"))?;
    let Content::Map(entries) = &condition.content else {
        return Err(condition.problem("the condition of this correlation should be a map, such as gte: 10"));
    };
    let mut bounds = Vec::new();
    for (key, value) in entries {
        let operator = match key.as_str() {
            "gt" => ">",
            "gte" => ">=",
            "lt" => "<",
            "lte" => "<=",
            "eq" => "=",
            "neq" => "<>",
            "field" => continue,
            other => return Err(value.problem(format!("unknown operator `{}` in the condition", shortened(other)))),
        };
        let number = match &value.content {
            Content::Scalar(scalar) => match scalar.value() {
                Value::Integer(number) => u64::try_from(number).ok(),
                _ => None,
            },
            _ => None,
        };
        bounds.push((operator, number.ok_or_else(|| value.problem(format!("`{key}` wants a whole number from 0")))?));
    }
    if bounds.is_empty() {
        return Err(condition.problem("the condition has none of gt, gte, lt, lte, eq, neq"));
    }
    Ok(bounds)
}

/// The parts of a rule file that a correlation makes.
pub(super) struct Scheduled {
    pub(super) sql: String,
    pub(super) window: String,
    pub(super) every: String,
    pub(super) dedup: Vec<String>,
}

impl Correlation {
    /// The scheduled rule that it is over these rules, which are those that it names, in their order.
    pub(super) fn scheduled(&self, bases: &[&Base]) -> Result<Scheduled, SigmaProblem> {
        self.lower(bases).map_err(|problem| problem.at(self.place))
    }

    fn lower(&self, bases: &[&Base]) -> Result<Scheduled, SigmaProblem> {
        let groups = self.group_names();
        let mut hits = Vec::with_capacity(bases.len());
        for (named, base) in self.rules.iter().zip(bases) {
            let (source, condition) = base
                .matches
                .as_ref()
                .map_err(|why| SigmaProblem::new(format!("the rule `{}` that it names is {why}", shortened(named))))?;
            hits.push(self.hits(named, base, *source, condition, &groups)?);
        }
        let mut sql = format!("WITH hits AS (\n  {}\n)", hits.join("\n  UNION ALL\n  "));
        sql.push_str(&match &self.kind {
            Kind::Ordered => self.ordered(&groups),
            _ => self.counted(&groups)?,
        });
        let every = (self.timespan / 10).clamp(1, 60);
        let window = self.timespan + every + LATE;
        let dedup = if groups.is_empty() { vec!["correlation".to_owned()] } else { groups };
        Ok(Scheduled { sql, window: format!("{window}s"), every: format!("{every}s"), dedup })
    }

    /// What the fields by which it groups are called in the result, each differently.
    fn group_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::with_capacity(self.group_by.len());
        for field in &self.group_by {
            let plain: String = field.chars().filter(char::is_ascii_alphanumeric).collect();
            let name = format!("by_{}", plain.to_ascii_lowercase());
            let is_new = name.len() > 3 && name.len() <= 60 && !names.contains(&name);
            names.push(if is_new { name } else { format!("by_{}", names.len() + 1) });
        }
        names
    }

    /// A field of the events of a rule, by its own name or another one.
    fn field(&self, field: &str, named: &str, base: &Base, source: Source) -> Result<Operand, SigmaProblem> {
        let alias = self.aliases.iter().find(|(alias, _)| alias == field);
        let own = match alias {
            None => field,
            Some((_, of)) => {
                let is_this = |rule: &str| {
                    rule == named || Some(rule) == base.id.as_deref() || Some(rule) == base.name.as_deref()
                };
                let found = of.iter().find(|(rule, _)| is_this(rule)).map(|(_, field)| field.as_str());
                found.ok_or_else(|| {
                    let alias = shortened(field);
                    SigmaProblem::new(format!("the alias `{alias}` says nothing of the rule `{}`", shortened(named)))
                })?
            }
        };
        source.field(own)
    }

    /// The hits of one rule.
    fn hits(
        &self,
        named: &str,
        base: &Base,
        source: Source,
        condition: &Expr,
        groups: &[String],
    ) -> Result<String, SigmaProblem> {
        let (schema, table) = source.table.qualified_name();
        let mut columns = String::new();
        let mut key = Vec::with_capacity(groups.len());
        for (field, name) in self.group_by.iter().zip(groups) {
            let operand = self.field(field, named, base, source)?;
            let own = operand.tight();
            // With its length before it no value can be taken for two.
            key.push(format!("ifnull(length({own}) || ':' || {own}, '-')"));
            let _ = write!(columns, ",\n    CAST({} AS TEXT) AS {name}", operand.sql);
        }
        if let Kind::Values(field, _) = &self.kind {
            let operand = self.field(field, named, base, source)?;
            let _ = write!(columns, ",\n    CAST({} AS TEXT) AS counted", operand.sql);
        }
        let condition = condition.to_sql();
        let key = if key.is_empty() { "''".to_owned() } else { key.join(" || ") };
        Ok(format!(
            "SELECT {} AS rule, event_id, process_key, pid, name, executable_path,\n    \
             unixepoch(event_time) * 1000000 + CAST(substr(event_time, 21) AS INTEGER) AS at_us,\n    \
             {key} AS group_key{columns}\n  FROM {schema}.{table}\n  WHERE {}\n    AND {}",
            literal(named),
            source.events(&condition),
            condition.replace('\n', "\n  "),
        ))
    }

    /// Each hit with the hits of its group before it.
    fn counted(&self, groups: &[String]) -> Result<String, SigmaProblem> {
        let (what, having) = match &self.kind {
            Kind::Events(bounds) => ("count(*) AS events".to_owned(), bounded("count(*)", bounds)),
            Kind::Values(_, bounds) => (
                "count(DISTINCT other.counted) AS different".to_owned(),
                bounded("count(DISTINCT other.counted)", bounds),
            ),
            Kind::Temporal(which) => {
                let rules = "count(DISTINCT other.rule)";
                let having = match which {
                    Which::All => format!("{rules} = {}", self.rules.len()),
                    Which::Number(bounds) => bounded(rules, bounds),
                    Which::Condition(condition) => self.having(condition)?,
                };
                (format!("{rules} AS rules"), having)
            }
            Kind::Ordered => return Err(SigmaProblem::new("an order is not counted")),
        };
        let own = ["event_id", "process_key", "pid", "name", "executable_path"];
        let own: Vec<String> =
            own.into_iter().chain(groups.iter().map(String::as_str)).map(|name| format!("last.{name}")).collect();
        let own = own.join(", ");
        let constant = if groups.is_empty() { ", 'all' AS correlation" } else { "" };
        let columns: Vec<&str> = groups.iter().map(String::as_str).collect();
        let columns: String = columns.iter().map(|name| format!(", {name}")).collect();
        Ok(format!(
            "\nSELECT {own}, {what}{constant}\n\
             FROM (SELECT DISTINCT event_id, process_key, pid, name, executable_path, at_us, group_key{columns} FROM hits) AS last\n\
             JOIN hits AS other\n  ON other.group_key = last.group_key AND other.at_us <= last.at_us \
             AND other.at_us >= last.at_us - {}\n\
             GROUP BY {own}\nHAVING {having}",
            self.timespan * 1_000_000
        ))
    }

    /// What a condition over rules says of the hits of a group.
    fn having(&self, condition: &Condition) -> Result<String, SigmaProblem> {
        let of = |name: &String| Expr::Sql(format!("sum(other.rule = {}) > 0", literal(name)));
        let rules: Vec<(&str, Expr)> = self.rules.iter().map(|name| (name.as_str(), of(name))).collect();
        Ok(combine(condition, &rules)?.to_sql())
    }

    /// A hit of the last rule after one of the rule before it, and so on: of those that are early enough the latest beginning counts.
    fn ordered(&self, groups: &[String]) -> String {
        let columns: String = groups.iter().map(|name| format!(", hits.{name}")).collect();
        let own = format!("hits.event_id, hits.process_key, hits.pid, hits.name, hits.executable_path{columns}");
        let mut sql = String::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let step = index + 1;
            let _ = match index {
                0 => write!(
                    sql,
                    ",\nstep_1 AS (\n  SELECT group_key, at_us, at_us AS began FROM hits WHERE rule = {}\n)",
                    literal(rule)
                ),
                _ => write!(
                    sql,
                    ",\nstep_{step} AS (\n  SELECT {own}, hits.group_key, hits.at_us, max(step_{index}.began) AS began\n  \
                     FROM hits JOIN step_{index} ON step_{index}.group_key = hits.group_key AND step_{index}.at_us <= hits.at_us\n  \
                     WHERE hits.rule = {}\n  GROUP BY {own}, hits.group_key, hits.at_us\n)",
                    literal(rule)
                ),
            };
        }
        let last = self.rules.len();
        let constant = if groups.is_empty() { ", 'all' AS correlation" } else { "" };
        let columns: String = groups.iter().map(|name| format!(", {name}")).collect();
        let _ = write!(
            sql,
            "\nSELECT event_id, process_key, pid, name, executable_path{columns}, (at_us - began) / 1000000 AS seconds{constant}\n\
             FROM step_{last}\nWHERE at_us - began <= {}",
            self.timespan * 1_000_000
        );
        sql
    }
}

fn bounded(what: &str, bounds: &[Bound]) -> String {
    let bounds: Vec<_> = bounds.iter().map(|(operator, number)| format!("{what} {operator} {number}")).collect();
    bounds.join(" AND ")
}
