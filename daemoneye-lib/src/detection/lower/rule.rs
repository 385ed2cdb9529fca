//! The narrower shape of a rule: rows of one table, each a match of its own.

use super::functions::is_aggregate;
use super::{Lowerer, absent, quoted, unsupported};
use crate::detection::error::Refusal;
use crate::models::catalog::Table;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, ObjectNamePart, Query, Select, SelectItem, SetExpr, Statement, TableFactor, TableWithJoins,
    Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::ops::ControlFlow;

const SCHEDULED: &str = "a rule looks at one row at a time, in which the columns of the parent are; one that compares rows \
                         runs on a schedule: add window = \"10m\"";

/// What can be told of a rule's result from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::detection) struct RuleShape {
    /// The table that the rule reads.
    pub(in crate::detection) table: Table,
    /// How many hidden columns stand at the end.
    pub(in crate::detection) hidden: usize,
}

impl Lowerer<'_> {
    /// A rule: one `SELECT` of rows of one table that collectors fill, each row a match of its own.
    pub(super) fn rule(&mut self, statement: Statement, hidden: &[&str]) -> Result<(Statement, RuleShape), Refusal> {
        let Statement::Query(query) = statement else {
            return self
                .statement(statement)
                .map(|statement| (statement, RuleShape { table: Table::Processes, hidden: 0 }));
        };
        let Query { body, .. } = query.as_ref();
        let select = match body.as_ref() {
            SetExpr::Select(select) => select,
            SetExpr::SetOperation { .. } => {
                return Err(unsupported("a UNION, EXCEPT or INTERSECT in a rule").hint("write a rule for each part"));
            }
            other => {
                let text = other.to_string();
                let begins = text.split_whitespace().next().unwrap_or_default();
                return Err(Refusal::new(format!("{begins} in place of SELECT is not supported in a rule")));
            }
        };
        let span = select.select_token.0.span;
        absent(query.with.is_none(), "WITH in a rule", || span)?;
        let unwanted =
            |what: &str, why: &str| Err(unsupported(&format!("{what} in a rule")).hint(why.to_owned()).at(span));
        let [TableWithJoins { relation: TableFactor::Table { name, alias, .. }, joins }] = select.from.as_slice()
        else {
            return unwanted("anything but one table after FROM, without `window`,", SCHEDULED);
        };
        if !joins.is_empty() {
            return unwanted("JOIN without `window`", SCHEDULED);
        }
        if select.distinct.is_some() {
            return unwanted("DISTINCT", "`dedup` says which matches are the same alert");
        }
        if query.limit_clause.is_some() {
            return unwanted("LIMIT", "it would hide matches");
        }
        if query.order_by.is_some() {
            return unwanted("ORDER BY", "matches are reported in the order of their events");
        }
        let group = match &select.group_by {
            GroupByExpr::Expressions(expressions, modifiers) => !expressions.is_empty() || !modifiers.is_empty(),
            GroupByExpr::All(_) => true,
        };
        if group || select.having.is_some() || has_aggregate_or_query(select) {
            return unwanted("an aggregate or a sub-query without `window`", SCHEDULED);
        }
        let table = self.find_table(name, span)?;
        if table.events().is_none() {
            let hint = "without `window` rules read processes, or a table of events such as processes.events";
            return unwanted(&format!("the table {name}"), hint);
        }
        let relation =
            alias.as_ref().map_or_else(|| name.0.last().and_then(ObjectNamePart::as_ident), |alias| Some(&alias.name));
        let relation = relation.map_or_else(String::new, |name| name.value.to_ascii_lowercase());
        let mut statement = self.statement(Statement::Query(query))?;
        if let Statement::Query(query) = &mut statement
            && let SetExpr::Select(select) = query.body.as_mut()
        {
            select.projection.extend(hidden.iter().enumerate().map(|(index, column)| SelectItem::ExprWithAlias {
                expr: Expr::CompoundIdentifier(vec![
                    quoted(relation.clone(), Span::empty()),
                    quoted((*column).to_owned(), Span::empty()),
                ]),
                alias: quoted(format!("__hidden_{index}"), Span::empty()),
            }));
        }
        Ok((statement, RuleShape { table, hidden: hidden.len() }))
    }
}

fn has_aggregate_or_query(select: &Select) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function) if is_aggregate(&function.name.to_string().to_ascii_lowercase()) => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    select.visit(&mut Finder).is_break()
}
