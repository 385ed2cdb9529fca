//! Sigma: from its YAML to rule files.
//!
//! ```text
//! YAML ──yaml──► documents ──rule──► selections, condition ──lower──► condition in SQL ──render──► rule file
//! ```
//!
//! A Sigma rule becomes a rule as an operator would write it, with the Sigma rule's id. What cannot be said in such a rule is
//! refused, with its place and the reason: a rule is never weakened. Files come from anywhere: what is in them becomes
//! literals of SQL and strings of TOML, never more, and their size and depth are bounded.
//!
//! [`events`] reads events in Sigma's fields. What is supported is described in `docs/sigma.md`.

mod condition;
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
mod yaml;

pub use problem::SigmaProblem;
pub use yaml::MAX_BYTES;

use fields::Source;
use rule::About;
use yaml::Node;

/// A rule file that was made of a Sigma rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The rule's id.
    pub id: String,
    /// The text of the file.
    pub text: String,
}

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The rule's id, as far as it could be read.
    pub id: Option<String>,
    /// The rule's title, as far as it could be read.
    pub title: Option<String>,
    /// The file, or why there is none.
    pub compiled: Result<Compiled, SigmaProblem>,
}

/// What a caller may add to rules.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The licence of rules that say none.
    pub license: String,
}

/// Compiles each rule of a file.
pub fn compile(source: &str, options: &Options) -> Vec<Outcome> {
    let documents = match yaml::documents(source) {
        Ok(documents) => documents,
        Err(problem) => return vec![Outcome { id: None, title: None, compiled: Err(problem) }],
    };
    if documents.is_empty() {
        let problem = SigmaProblem::new("the file holds no rule");
        return vec![Outcome { id: None, title: None, compiled: Err(problem) }];
    }
    documents.iter().map(|document| outcome(document, options)).collect()
}

fn outcome(document: &Node, options: &Options) -> Outcome {
    let about = match rule::about(document) {
        Ok(about) => about,
        Err(problem) => {
            let id = rule::text(document, "id", 128).ok().flatten();
            return Outcome { id, title: None, compiled: Err(problem.at(document.place)) };
        }
    };
    let compiled = compile_rule(document, &about, options).map_err(|problem| problem.at(document.place));
    Outcome { id: about.id, title: Some(about.title), compiled }
}

fn compile_rule(document: &Node, about: &About, options: &Options) -> Result<Compiled, SigmaProblem> {
    for (key, what) in [("action", "a part of several documents (`action`)"), ("filter", "a filter")] {
        if document.get(key).is_some() {
            return Err(document.problem(format!("{what} is not supported")));
        }
    }
    let id = rule_id(about)?;
    let severity = render::severity(about.level.as_deref()).map_err(SigmaProblem::new)?;
    let log_source = rule::log_source(document)?;
    let source = Source::of(&log_source.category, log_source.product.as_deref());
    let source = source.map_err(|problem| problem.at(log_source.place))?;
    let detection = rule::detection(document)?;
    let condition = lower::lower(&detection, source)?;
    let (schema, table) = source.table.qualified_name();
    let sql = format!(
        "SELECT {}\nFROM {schema}.{table}\nWHERE {}\n  AND {}",
        source.columns(),
        source.events,
        condition.to_sql()
    );
    let file = render::File { id: &id, about, license: &options.license, dedup: source.dedup(), window: None, sql };
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
