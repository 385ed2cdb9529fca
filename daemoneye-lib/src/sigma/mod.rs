//! Sigma: from its YAML to rule files.
//!
//! ```text
//! YAML ──yaml──► documents ──rule──► selections, condition ──lower──► condition in SQL ──render──► rule file
//! ```
//!
//! A Sigma rule becomes a rule as an operator would write it, with the Sigma rule's id; a correlation becomes a scheduled rule over
//! the conditions of the rules that it names. What cannot be said in such a rule is
//! refused, with its place and the reason: a rule is never weakened. Files come from anywhere: what is in them becomes
//! literals of SQL and strings of TOML, never more, and their size and depth are bounded.
//!
//! [`events`] reads events in Sigma's fields. What is supported is described in `docs/sigma.md`.

mod condition;
mod correlation;
mod encode;
pub mod events;
mod expr;
mod fields;
mod lower;
mod modifiers;
mod pattern;
mod problem;
mod render;
mod rule;
#[cfg(test)]
mod tests;
mod yaml;

pub use problem::SigmaProblem;
pub use yaml::MAX_BYTES;

use correlation::{Base, Correlation};
use expr::Expr;
use fields::Source;
use rule::About;
use std::collections::HashMap;
use yaml::Node;

/// A rule file that was made of a Sigma rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The rule's id.
    pub id: String,
    /// The text of the file.
    pub text: String,
}

/// What a document became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// A rule file.
    Rule(Compiled),
    /// Part of the correlation rule of this title: by itself it raises no alert.
    Part(String),
}

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which file it was in: as it was given to [`Compiler::add`].
    pub file: usize,
    /// The rule's id, as far as it could be read.
    pub id: Option<String>,
    /// The rule's title, as far as it could be read.
    pub title: Option<String>,
    /// What it became, or why nothing.
    pub made: Result<Made, SigmaProblem>,
}

/// What a caller may add to rules.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The licence of rules that say none.
    pub license: String,
}

/// Compiles rules, of which those that are correlations may name others, in whatever order and files they come.
#[derive(Default)]
pub struct Compiler {
    options: Options,
    rules: Vec<Rule>,
}

/// A document that was read.
struct Rule {
    file: usize,
    id: Option<String>,
    about: Option<About>,
    read: Result<Read, SigmaProblem>,
}

enum Read {
    Detection(Source, Expr),
    Correlation(Correlation),
}

impl Compiler {
    /// A compiler that knows no rule.
    pub const fn new(options: Options) -> Self {
        Self { options, rules: Vec::new() }
    }

    /// Reads the rules of a file; `file` is the caller's name for it.
    pub fn add(&mut self, file: usize, source: &str) {
        let refused = |problem| Rule { file, id: None, about: None, read: Err(problem) };
        match yaml::documents(source) {
            Err(problem) => self.rules.push(refused(problem)),
            Ok(documents) if documents.is_empty() => {
                self.rules.push(refused(SigmaProblem::new("the file holds no rule")));
            }
            Ok(documents) => self.rules.extend(documents.iter().map(|document| rule_of(file, document))),
        }
    }

    /// What became of each rule, in the order in which they came.
    pub fn finish(self) -> Vec<Outcome> {
        let bases: Vec<Base> = self.rules.iter().map(Rule::base).collect();
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (index, base) in bases.iter().enumerate() {
            for name in base.name.iter().chain(&base.id) {
                names.entry(name).or_insert(index);
            }
        }
        let mut parts: HashMap<usize, &str> = HashMap::new();
        let mut alone: Vec<bool> = vec![false; self.rules.len()];
        for rule in &self.rules {
            let (Ok(Read::Correlation(correlation)), Some(about)) = (&rule.read, &rule.about) else { continue };
            for index in correlation.rules.iter().filter_map(|name| names.get(name.as_str())) {
                match correlation.generate {
                    true => alone[*index] = true,
                    false => _ = parts.entry(*index).or_insert(&about.title),
                }
            }
        }
        let outcomes = self.rules.iter().enumerate().map(|(index, rule)| {
            let part = parts.get(&index).filter(|_| !alone[index]);
            let made = match (&rule.read, &rule.about) {
                (Err(problem), _) => Err(problem.clone()),
                (Ok(_), None) => Err(SigmaProblem::new("nothing is known of the rule")),
                (Ok(Read::Detection(..)), Some(_)) if let Some(title) = part => Ok(Made::Part((*title).to_owned())),
                (Ok(Read::Detection(source, condition)), Some(about)) => {
                    standing(about, *source, condition, &self.options).map(Made::Rule)
                }
                (Ok(Read::Correlation(correlation)), Some(about)) => {
                    let named: Result<Vec<&Base>, SigmaProblem> =
                        correlation.rules.iter().map(|name| find(name, &names, &bases)).collect();
                    named.and_then(|named| scheduled(about, correlation, &named, &self.options)).map(Made::Rule)
                }
            };
            let title = rule.about.as_ref().map(|about| about.title.clone());
            Outcome { file: rule.file, id: rule.id.clone(), title, made }
        });
        outcomes.collect()
    }
}

/// Compiles the rules of one file.
pub fn compile(source: &str, options: &Options) -> Vec<Outcome> {
    let mut compiler = Compiler::new(options.clone());
    compiler.add(0, source);
    compiler.finish()
}

impl Rule {
    fn base(&self) -> Base {
        let name = self.about.as_ref().and_then(|about| about.name.clone());
        let matches = match &self.read {
            Ok(Read::Detection(source, condition)) => Ok((*source, condition.clone())),
            Ok(Read::Correlation(_)) => Err("itself a correlation"),
            Err(_) => Err("refused"),
        };
        Base { id: self.id.clone(), name, matches }
    }
}

fn find<'b>(name: &str, names: &HashMap<&str, usize>, bases: &'b [Base]) -> Result<&'b Base, SigmaProblem> {
    names.get(name).and_then(|index| bases.get(*index)).ok_or_else(|| {
        let name = problem::shortened(name);
        SigmaProblem::new(format!("the rule `{name}` that the correlation names is not among what is imported"))
            .hint("import it together with the correlation")
    })
}

fn rule_of(file: usize, document: &Node) -> Rule {
    match rule::about(document) {
        Ok(about) => {
            let read = read(document, &about).map_err(|problem| problem.at(document.place));
            Rule { file, id: about.id.clone(), about: Some(about), read }
        }
        Err(problem) => {
            let id = rule::text(document, "id", 128).ok().flatten();
            Rule { file, id, about: None, read: Err(problem.at(document.place)) }
        }
    }
}

fn read(document: &Node, about: &About) -> Result<Read, SigmaProblem> {
    for (key, what) in [("action", "a part of several documents (`action`)"), ("filter", "a filter")] {
        if document.get(key).is_some() {
            return Err(document.problem(format!("{what} is not supported")));
        }
    }
    render::severity(about.level.as_deref()).map_err(SigmaProblem::new)?;
    if let Some(node) = document.get("correlation") {
        return correlation::read(document, node).map(Read::Correlation);
    }
    let log_source = rule::log_source(document)?;
    let source = Source::of(&log_source.category, log_source.product.as_deref());
    let source = source.map_err(|problem| problem.at(log_source.place))?;
    let detection = rule::detection(document)?;
    Ok(Read::Detection(source, lower::lower(&detection, source)?))
}

fn standing(about: &About, source: Source, condition: &Expr, options: &Options) -> Result<Compiled, SigmaProblem> {
    let (schema, table) = source.table.qualified_name();
    let condition = condition.to_sql();
    let sql = format!(
        "SELECT {}\nFROM {schema}.{table}\nWHERE {}\n  AND {condition}",
        source.columns(),
        source.events(&condition),
    );
    let dedup = source.dedup().map(|columns| columns.iter().map(|column| (*column).to_owned()).collect());
    written(about, options, dedup, None, sql)
}

fn scheduled(
    about: &About,
    correlation: &Correlation,
    named: &[&Base],
    options: &Options,
) -> Result<Compiled, SigmaProblem> {
    let correlation::Scheduled { sql, window, every, dedup } = correlation.scheduled(named)?;
    written(about, options, Some(dedup), Some((window, every)), sql)
}

fn written(
    about: &About,
    options: &Options,
    dedup: Option<Vec<String>>,
    window: Option<(String, String)>,
    sql: String,
) -> Result<Compiled, SigmaProblem> {
    let id = rule_id(about)?;
    let severity = render::severity(about.level.as_deref()).map_err(SigmaProblem::new)?;
    let file = render::File { id: &id, about, license: &options.license, dedup, window, sql };
    let text = file.text(severity);
    Ok(Compiled { id, text })
}

/// The rule's own id, in the form that rules have here.
fn rule_id(about: &About) -> Result<String, SigmaProblem> {
    let Some(id) = &about.id else {
        return Err(SigmaProblem::new("the rule has no `id`").hint("give it one, as `uuidgen` makes them"));
    };
    let id = id.to_ascii_lowercase();
    let fits = id.len() <= 128
        && id.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits {
        Ok(id)
    } else {
        let problem =
            SigmaProblem::new(format!("the id `{}` is of another form than ids are here", problem::shortened(&id)));
        Err(problem.hint("Sigma's ids are UUIDs; letters, digits and hyphens may be in an id"))
    }
}
