//! From a syntax tree to the one that the engine gets.
//!
//! The walk takes the tree apart and builds a new one. Every construct that it does not name is refused, at any depth: in
//! sub-queries, common table expressions, `CASE`, casts and joins alike. Structures are taken apart field by field, so that
//! a construct which a later parser adds does not slip through.

mod expression;
mod functions;
mod literal;
mod select;

use super::error::Refusal;
use super::limits;
use crate::models::catalog::Table;
use datafusion::sql::sqlparser::ast::{Ident, Statement};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) use select::RuleShape;

/// Levels of nesting in an expression or of queries within each other, counted together.
const MAX_DEPTH: usize = 64;

/// A value for a parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// NULL.
    Null,
    /// A whole number.
    Integer(i64),
    /// A real number.
    Real(f64),
    /// Text.
    Text(String),
}

/// The values for `?`, `?1` and `:name`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// In the order of `?`.
    pub positional: Vec<Parameter>,
    /// By name, without the sign before it.
    pub named: BTreeMap<String, Parameter>,
}

/// A statement as the engine may plan it.
#[derive(Debug)]
pub(super) struct Lowered {
    pub(super) statement: Statement,
    /// The tables that it reads.
    pub(super) tables: Vec<Table>,
    /// Where each name stands, for errors that the planner finds.
    pub(super) names: Vec<(String, Span, Option<char>)>,
}

/// Parses and lowers a statement. `now` is the moment that it calls now.
pub(super) fn lower_query(sql: &str, parameters: &Parameters, now: i64) -> Result<Lowered, Refusal> {
    let statement = limits::parse(sql)?;
    let mut lowerer = Lowerer::new(parameters, Some(now));
    let statement = lowerer.statement(statement)?;
    lowerer.check_all_used()?;
    Ok(lowerer.finish(statement))
}

/// Parses and lowers a rule's query: its own columns stay first, and behind them stand hidden ones by which a match is
/// known. Returns also how many columns are the rule's own where that can be told (`None` with a wildcard).
pub(super) fn lower_rule(sql: &str, hidden: &[&str]) -> Result<(Lowered, RuleShape), Refusal> {
    let statement = limits::parse(sql)?;
    let nothing = Parameters::default();
    let mut lowerer = Lowerer::new(&nothing, None);
    let (statement, shape) = lowerer.rule(statement, hidden)?;
    Ok((lowerer.finish(statement), shape))
}

/// The state of one walk.
struct Lowerer<'p> {
    parameters: &'p Parameters,
    /// Absent for a rule, whose now is the moment of its evaluation.
    now: Option<i64>,
    depth: usize,
    tables: Vec<Table>,
    names: Vec<(String, Span, Option<char>)>,
    /// Names of common table expressions in force.
    expressions: Vec<HashSet<String>>,
    /// Result names as they were written, by their lower-case form.
    aliases: HashMap<String, String>,
    next_positional: usize,
    used_positional: HashSet<usize>,
    used_named: HashSet<String>,
}

impl<'p> Lowerer<'p> {
    fn new(parameters: &'p Parameters, now: Option<i64>) -> Self {
        Self {
            parameters,
            now,
            depth: 0,
            tables: Vec::new(),
            names: Vec::new(),
            expressions: Vec::new(),
            aliases: HashMap::new(),
            next_positional: 0,
            used_positional: HashSet::new(),
            used_named: HashSet::new(),
        }
    }

    fn finish(self, statement: Statement) -> Lowered {
        Lowered { statement, tables: self.tables, names: self.names }
    }

    /// A parameter that was given and that the statement does not have is a mistake of the caller.
    fn check_all_used(&self) -> Result<(), Refusal> {
        if let Some(extra) = (0..self.parameters.positional.len()).find(|index| !self.used_positional.contains(index)) {
            let message = format!("parameter {} was given, but the statement has no place for it", extra + 1);
            return Err(Refusal::new(message).hint("write ? where a value belongs"));
        }
        if let Some(extra) = self.parameters.named.keys().find(|name| !self.used_named.contains(*name)) {
            let message = format!("parameter `{extra}` was given, but the statement has no :{extra}");
            return Err(Refusal::new(message));
        }
        Ok(())
    }

    /// Counts a level of nesting while `work` runs.
    fn deeper<T>(
        &mut self,
        span: impl FnOnce() -> Span,
        work: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        if self.depth >= MAX_DEPTH {
            let message = format!("the statement is nested more than {MAX_DEPTH} levels deep");
            return Err(Refusal::new(message).at(span()));
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }

    /// A name of a column or an alias, as the engine knows it: ASCII case does not count.
    fn name(&mut self, ident: Ident) -> Ident {
        let lower = ident.value.to_ascii_lowercase();
        self.names.push((lower.clone(), ident.span, ident.quote_style));
        let value = self.aliases.get(&lower).cloned().unwrap_or(lower);
        quoted(value, ident.span)
    }
}

fn quoted(value: String, span: Span) -> Ident {
    Ident { value, quote_style: Some('"'), span }
}

/// What is not part of the dialect.
fn unsupported(what: &str) -> Refusal {
    Refusal::new(format!("{what} is not supported"))
}

/// Refuses a part of a structure that must be absent.
fn absent(is_absent: bool, what: &str, span: impl FnOnce() -> Span) -> Result<(), Refusal> {
    if is_absent { Ok(()) } else { Err(unsupported(what).at(span())) }
}
