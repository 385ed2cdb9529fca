//! From a syntax tree to the one that the engine gets.
//!
//! The walk takes the tree apart and builds a new one. Every construct that it does not name is refused, at any depth: in
//! sub-queries, common table expressions, `CASE`, casts and joins alike. Structures are taken apart field by field, so that
//! a construct which a later parser adds does not slip through.

mod expression;
mod functions;
mod literal;
mod rule;
mod select;
mod tables;

use super::error::Refusal;
use super::limits;
use super::rules::lists::Lists;
use crate::models::catalog::Table;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Select, SelectItem, SetExpr, Statement, TableFactor, TableWithJoins,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) use rule::RuleShape;
pub(super) use select::not_select;

/// Levels of nesting in an expression or of queries within each other, counted together.
const MAX_DEPTH: usize = 64;

/// `WITH` within `WITH`: the engine's work doubles with each level.
const MAX_WITH_DEPTH: usize = 8;
/// Tables that a statement reads, those of a common table expression counted each time it is named.
const MAX_SCANS: usize = 256;

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
    /// What results are called.
    pub(super) written: Written,
}

/// Result names as they were written, by the names that the engine has for them.
#[derive(Debug, Default)]
pub(super) struct Written(HashMap<String, (usize, String)>);

impl Written {
    /// What a name is called in the part of the statement that has been read.
    fn shown(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|(_, written)| written.clone())
    }

    /// Of several with the same name the outermost query's counts.
    fn show(&mut self, name: &str, written: String, level: usize) {
        match self.0.get(name) {
            Some((outer, _)) if *outer <= level => {}
            _ => drop(self.0.insert(name.to_owned(), (level, written))),
        }
    }

    /// Names for people, each once: one that was there before gets `:1`, `:2`, ….
    pub(super) fn names<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<String> {
        let mut taken = HashSet::new();
        names
            .map(|name| {
                let written = self.0.get(name).map_or(name, |(_, written)| written.as_str());
                let mut shown = written.to_owned();
                let mut again = 0;
                while !taken.insert(shown.clone()) {
                    again += 1;
                    shown = format!("{written}:{again}");
                }
                shown
            })
            .collect()
    }
}

/// Parses and lowers a statement. `now` is the moment that it calls now.
pub(super) fn lower_query(sql: &str, parameters: &Parameters, now: i64) -> Result<Lowered, Refusal> {
    let statement = limits::parse(sql)?;
    let mut lowerer = Lowerer::new(parameters, Some(now), None);
    let statement = lowerer.statement(statement).map_err(|refusal| limits::placed(sql, refusal))?;
    lowerer.check_all_used()?;
    Ok(lowerer.finish(statement))
}

/// Parses and lowers a standing rule's query: its own columns stay first, and behind them stand hidden ones by which a match
/// is known.
pub(super) fn lower_rule(sql: &str, hidden: &[&str], lists: &Lists) -> Result<(Lowered, RuleShape), Refusal> {
    let statement = limits::parse(sql)?;
    let nothing = Parameters::default();
    let mut lowerer = Lowerer::new(&nothing, None, Some(lists));
    let (statement, shape) = lowerer.rule(statement, hidden).map_err(|refusal| limits::placed(sql, refusal))?;
    Ok((lowerer.finish(statement), shape))
}

/// Parses and lowers a standing rule's exception: the events of its table that it is true of.
pub(super) fn lower_exception(condition: &str, table: Table, lists: &Lists) -> Result<Lowered, Refusal> {
    let (schema, name) = table.qualified_name();
    let mut statement = limits::parse(&format!("SELECT pid FROM {schema}.{name}"))?;
    select_of(&mut statement)?.selection = Some(limits::parse_condition(condition)?);
    let nothing = Parameters::default();
    let mut lowerer = Lowerer::new(&nothing, None, Some(lists));
    let (statement, _) = lowerer.rule(statement, &[]).map_err(|refusal| limits::placed(condition, refusal))?;
    Ok(lowerer.finish(statement))
}

/// Parses and lowers a scheduled rule's query. Behind its own columns stands one for each exception: whether it is true of the row.
pub(super) fn lower_scheduled(sql: &str, exceptions: &[&str], lists: &Lists, now: i64) -> Result<Lowered, Refusal> {
    let mut statement = limits::parse(sql)?;
    if !exceptions.is_empty() {
        let mut outer = limits::parse("SELECT * FROM (SELECT 1) AS matches")?;
        let select = select_of(&mut outer)?;
        if let (Statement::Query(inner), [TableWithJoins { relation: TableFactor::Derived { subquery, .. }, .. }]) =
            (statement, select.from.as_mut_slice())
        {
            *subquery = inner;
        }
        for (index, condition) in exceptions.iter().enumerate() {
            let condition = Box::new(Expr::Nested(Box::new(limits::parse_condition(condition)?)));
            let alias = quoted(format!("exception {index}"), Span::empty());
            select.projection.push(SelectItem::ExprWithAlias { expr: Expr::IsTrue(condition), alias });
        }
        statement = outer;
    }
    let nothing = Parameters::default();
    let mut lowerer = Lowerer::new(&nothing, Some(now), Some(lists));
    let statement = lowerer.statement(statement).map_err(|refusal| limits::placed(sql, refusal))?;
    Ok(lowerer.finish(statement))
}

/// The `SELECT` of a statement that is one.
fn select_of(statement: &mut Statement) -> Result<&mut Select, Refusal> {
    if let Statement::Query(query) = statement
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        return Ok(select);
    }
    Err(unsupported("anything but SELECT"))
}

/// The state of one walk.
struct Lowerer<'p> {
    parameters: &'p Parameters,
    /// Absent for a rule, whose now is the moment of its evaluation.
    now: Option<i64>,
    /// What `@name` means in a rule; absent for a query, where it is a parameter.
    lists: Option<&'p Lists>,
    depth: usize,
    tables: Vec<Table>,
    names: Vec<(String, Span, Option<char>)>,
    /// Common table expressions in force, and how many tables each reads.
    expressions: Vec<HashMap<String, usize>>,
    with_depth: usize,
    scans: usize,
    written: Written,
    next_positional: usize,
    used_positional: HashSet<usize>,
    used_named: HashSet<String>,
}

impl<'p> Lowerer<'p> {
    fn new(parameters: &'p Parameters, now: Option<i64>, lists: Option<&'p Lists>) -> Self {
        Self {
            parameters,
            now,
            lists,
            depth: 0,
            tables: Vec::new(),
            names: Vec::new(),
            expressions: Vec::new(),
            with_depth: 0,
            scans: 0,
            written: Written::default(),
            next_positional: 0,
            used_positional: HashSet::new(),
            used_named: HashSet::new(),
        }
    }

    fn finish(self, statement: Statement) -> Lowered {
        Lowered { statement, tables: self.tables, names: self.names, written: self.written }
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

    /// Counts tables that the statement reads.
    fn count_scans(&mut self, scans: usize, span: Span) -> Result<(), Refusal> {
        self.scans = self.scans.saturating_add(scans);
        if self.scans > MAX_SCANS {
            let message = format!("the statement reads more than {MAX_SCANS} tables");
            let hint = "a common table expression counts each time that it is named";
            return Err(Refusal::new(message).hint(hint).at(span));
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
        quoted(lower, ident.span)
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
