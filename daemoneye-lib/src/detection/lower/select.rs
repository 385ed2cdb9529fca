//! Queries: `SELECT`, common table expressions, set operations.

use super::expression::SUB_QUERY;
use super::literal::cell_of;
use super::{Lowered, Lowerer, MAX_WITH_DEPTH, absent, quoted, unsupported};
use crate::detection::error::{MISPLACED_QUERY, Refusal};
use crate::detection::functions::Cell;
use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, LimitClause, ObjectName, ObjectNamePart, Offset, OffsetRows, OrderBy,
    OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    SetOperator, SetQuantifier, Spanned as _, Statement, TableAlias, WildcardAdditionalOptions, With,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::collections::{HashMap, HashSet};

impl Lowerer<'_> {
    pub(super) fn statement(&mut self, statement: Statement) -> Result<Statement, Refusal> {
        match statement {
            Statement::Query(query) => Ok(Statement::Query(Box::new(self.query(*query)?))),
            other => {
                let text = other.to_string();
                let verb = text.split_whitespace().next().unwrap_or_default().to_uppercase();
                Err(not_select(&verb))
            }
        }
    }

    pub(super) fn query(&mut self, query: Query) -> Result<Query, Refusal> {
        let span = query.with.as_ref().map_or(Span::empty(), |with| with.with_token.0.span);
        self.deeper(|| span, |lowerer| lowerer.query_parts(query))
    }

    fn query_parts(&mut self, query: Query) -> Result<Query, Refusal> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let none = Span::empty;
        absent(fetch.is_none(), "FETCH", none)?;
        absent(locks.is_empty(), "FOR UPDATE", none)?;
        absent(for_clause.is_none(), "FOR", none)?;
        absent(settings.is_none(), "SETTINGS", none)?;
        absent(format_clause.is_none(), "FORMAT", none)?;
        absent(pipe_operators.is_empty(), "the pipe operator", none)?;
        self.expressions.push(HashMap::new());
        let with = with.map(|with| self.with(with)).transpose()?;
        let body = Box::new(self.set_expression(*body)?);
        let order_by = order_by.map(|order_by| self.order_by(order_by)).transpose()?;
        let limit_clause = limit_clause.map(|limit| self.limit(limit)).transpose()?.flatten();
        self.expressions.pop();
        Ok(Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch: None,
            locks: Vec::new(),
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators: Vec::new(),
        })
    }

    fn with(&mut self, with: With) -> Result<With, Refusal> {
        let With { with_token, recursive, cte_tables } = with;
        let span = with_token.0.span;
        if recursive {
            return Err(unsupported("WITH RECURSIVE")
                .hint("join processes.ancestors: it has every ancestor of each process, with its depth")
                .at(span));
        }
        if self.with_depth == MAX_WITH_DEPTH {
            return Err(Refusal::new(format!("WITH is nested more than {MAX_WITH_DEPTH} levels deep")).at(span));
        }
        self.with_depth += 1;
        let mut tables = Vec::with_capacity(cte_tables.len());
        for Cte { alias, query, from, materialized, closing_paren_token } in cte_tables {
            absent(from.is_none(), "FROM after a common table expression", || alias.name.span)?;
            let before = self.scans;
            let query = Box::new(self.query(*query)?);
            let alias = self.alias(alias)?;
            if let Some(scope) = self.expressions.last_mut() {
                scope.insert(alias.name.value.clone(), (self.scans - before).max(1));
            }
            tables.push(Cte { alias, query, from: None, materialized, closing_paren_token });
        }
        self.with_depth -= 1;
        Ok(With { with_token, recursive: false, cte_tables: tables })
    }

    pub(super) fn alias(&mut self, alias: TableAlias) -> Result<TableAlias, Refusal> {
        let TableAlias { explicit, name, columns, at } = alias;
        absent(at.is_none(), "AT", || name.span)?;
        let name = quoted(name.value.to_ascii_lowercase(), name.span);
        let mut lowered = Vec::with_capacity(columns.len());
        for mut column in columns {
            absent(column.data_type.is_none(), "a type in a list of column names", || column.name.span)?;
            column.name = quoted(column.name.value.to_ascii_lowercase(), column.name.span);
            lowered.push(column);
        }
        Ok(TableAlias { explicit, name, columns: lowered, at: None })
    }

    fn set_expression(&mut self, body: SetExpr) -> Result<SetExpr, Refusal> {
        match body {
            SetExpr::Select(select) => Ok(SetExpr::Select(Box::new(self.select(*select)?))),
            SetExpr::Query(query) => Ok(SetExpr::Query(Box::new(self.query(*query)?))),
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                if op == SetOperator::Minus
                    || !matches!(set_quantifier, SetQuantifier::All | SetQuantifier::None | SetQuantifier::Distinct)
                {
                    return Err(unsupported(&format!("{op} {set_quantifier}")));
                }
                self.deeper(Span::empty, |lowerer| {
                    let left = Box::new(lowerer.set_expression(*left)?);
                    let right = Box::new(lowerer.set_expression(*right)?);
                    Ok(SetExpr::SetOperation { left, op, set_quantifier, right })
                })
            }
            other => {
                let text = other.to_string();
                let word = text.split_whitespace().next().unwrap_or_default().to_uppercase();
                Err(unsupported(&format!("{word} in place of SELECT")))
            }
        }
    }

    fn select(&mut self, select: Select) -> Result<Select, Refusal> {
        let Select {
            select_token,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        let span = select_token.0.span;
        let here = || span;
        absent(select_modifiers.is_none(), "a modifier after SELECT", here)?;
        absent(top.is_none(), "TOP", here)?;
        absent(exclude.is_none(), "EXCLUDE", here)?;
        absent(into.is_none(), "INTO", here)?;
        absent(lateral_views.is_empty(), "LATERAL VIEW", here)?;
        absent(prewhere.is_none(), "PREWHERE", here)?;
        absent(connect_by.is_empty(), "CONNECT BY", here)?;
        absent(cluster_by.is_empty() && distribute_by.is_empty() && sort_by.is_empty(), "CLUSTER BY", here)?;
        absent(named_window.is_empty(), "WINDOW", here)?;
        absent(qualify.is_none(), "QUALIFY", here)?;
        absent(value_table_mode.is_none(), "SELECT AS", here)?;
        absent(matches!(flavor, SelectFlavor::Standard), "FROM before SELECT", here)?;
        absent(!matches!(distinct, Some(Distinct::On(_))), "DISTINCT ON", here)?;
        // Hints are comments to everybody else.
        drop(optimizer_hints);
        let from = from.into_iter().map(|from| self.from(from)).collect::<Result<_, _>>()?;
        let projection = self.projection(projection)?;
        let selection = selection.map(|condition| self.condition(condition)).transpose()?;
        let group_by = match group_by {
            GroupByExpr::Expressions(expressions, modifiers) if modifiers.is_empty() => {
                let expressions =
                    expressions.into_iter().map(|expr| self.expression(expr)).collect::<Result<_, _>>()?;
                GroupByExpr::Expressions(expressions, Vec::new())
            }
            other => return Err(unsupported(&other.to_string()).at(span)),
        };
        let having = having.map(|condition| self.condition(condition)).transpose()?;
        Ok(Select {
            select_token,
            optimizer_hints: Vec::new(),
            distinct,
            select_modifiers: None,
            top: None,
            top_before_distinct: false,
            projection,
            exclude: None,
            into: None,
            from,
            lateral_views: Vec::new(),
            prewhere: None,
            selection,
            connect_by: Vec::new(),
            group_by,
            cluster_by: Vec::new(),
            distribute_by: Vec::new(),
            sort_by: Vec::new(),
            having,
            named_window: Vec::new(),
            qualify: None,
            window_before_qualify: false,
            value_table_mode: None,
            flavor: SelectFlavor::Standard,
        })
    }

    /// Result columns. The engine knows them by names in lower case, each once; they are shown as they were written, and one
    /// that is not a plain column is called by its text, as SQLite does.
    fn projection(&mut self, items: Vec<SelectItem>) -> Result<Vec<SelectItem>, Refusal> {
        let is_wildcard =
            |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        let beside_wildcard = items.iter().any(is_wildcard);
        let mut taken: HashSet<String> = HashSet::new();
        let mut lowered = Vec::with_capacity(items.len());
        for item in items {
            let (expr, written) = match item {
                SelectItem::Wildcard(options) => {
                    plain(&options)?;
                    lowered.push(SelectItem::Wildcard(options));
                    continue;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    plain(&options)?;
                    let [ObjectNamePart::Identifier(table)] = name.0.as_slice() else {
                        return Err(unsupported(&format!("{name}.*")).hint("give the table an alias").at(name.span()));
                    };
                    let name = ObjectName::from(quoted(table.value.to_ascii_lowercase(), table.span));
                    lowered.push(SelectItem::QualifiedWildcard(
                        SelectItemQualifiedWildcardKind::ObjectName(name),
                        options,
                    ));
                    continue;
                }
                SelectItem::UnnamedExpr(expr) => {
                    let column = match &expr {
                        Expr::Identifier(ident) => Some(ident),
                        Expr::CompoundIdentifier(parts) => parts.last(),
                        _ => None,
                    };
                    let column = column.map(|ident| ident.value.to_ascii_lowercase());
                    // A column that has an alias further in is called by that.
                    let name = column.map(|column| self.written.shown(&column).unwrap_or(column));
                    let name = name.unwrap_or_else(|| expr.to_string());
                    (expr, name)
                }
                SelectItem::ExprWithAlias { expr, alias } => (expr, alias.value),
                other => return Err(unsupported(&format!("the result column {other}"))),
            };
            let expr = self.expression(expr)?;
            let lower = written.to_ascii_lowercase();
            let mut name = lower.clone();
            // A column of its own and the same one among all columns are two to the engine.
            if beside_wildcard && self.tables.iter().any(|table| table.columns().iter().any(|(own, _)| *own == lower)) {
                name.push('\0');
            }
            let mut again = 0;
            while !taken.insert(name.clone()) {
                again += 1;
                name = format!("{lower}\0{again}");
            }
            self.written.show(&name, written, self.expressions.len());
            lowered.push(SelectItem::ExprWithAlias { expr, alias: quoted(name, Span::empty()) });
        }
        Ok(lowered)
    }

    fn order_by(&mut self, order_by: OrderBy) -> Result<OrderBy, Refusal> {
        let OrderBy { kind, interpolate } = order_by;
        absent(interpolate.is_none(), "INTERPOLATE", Span::empty)?;
        let OrderByKind::Expressions(expressions) = kind else { return Err(unsupported("ORDER BY ALL")) };
        let mut lowered = Vec::with_capacity(expressions.len());
        for OrderByExpr { expr, options, with_fill } in expressions {
            absent(with_fill.is_none(), "WITH FILL", Span::empty)?;
            lowered.push(OrderByExpr { expr: self.expression(expr)?, options, with_fill: None });
        }
        Ok(OrderBy { kind: OrderByKind::Expressions(lowered), interpolate: None })
    }

    /// `LIMIT n`, `LIMIT n OFFSET m`, `LIMIT m, n`; a negative limit is none.
    fn limit(&mut self, limit: LimitClause) -> Result<Option<LimitClause>, Refusal> {
        let (limit, offset) = match limit {
            LimitClause::LimitOffset { limit, offset, limit_by } => {
                absent(limit_by.is_empty(), "LIMIT BY", Span::empty)?;
                (limit, offset.map(|Offset { value, rows: _ }| value))
            }
            LimitClause::OffsetCommaLimit { offset, limit } => (Some(limit), Some(offset)),
        };
        let limit = limit.map(|limit| self.expression(limit)).transpose()?;
        let offset = offset.map(|offset| self.expression(offset)).transpose()?;
        let negative = |expr: &Expr| matches!(cell_of(expr), Some(Cell::Integer(number)) if number < 0);
        let limit = limit.filter(|limit| !negative(limit));
        let offset = offset.filter(|offset| !negative(offset)).map(|value| Offset { value, rows: OffsetRows::None });
        Ok((limit.is_some() || offset.is_some()).then_some(LimitClause::LimitOffset {
            limit,
            offset,
            limit_by: Vec::new(),
        }))
    }
}

/// A wildcard without the extensions that other databases have.
fn plain(options: &WildcardAdditionalOptions) -> Result<(), Refusal> {
    let WildcardAdditionalOptions {
        wildcard_token,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let is_plain = opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none();
    absent(is_plain, "what follows the *", || wildcard_token.0.span)
}

impl Lowered {
    /// Gives a planner's error about a name the place where the name stands.
    pub(in crate::detection) fn place(&self, mut refusal: Refusal) -> Refusal {
        let stands = |name: &str| self.names.iter().find(|(own, _, _)| own == name);
        if let (true, Some((_, span, _))) = (refusal.message.starts_with(MISPLACED_QUERY), stands(SUB_QUERY)) {
            return refusal.at(*span);
        }
        let Some(name) = refusal
            .message
            .strip_prefix("no such column: ")
            .or_else(|| refusal.message.strip_prefix("the column name "))
        else {
            return refusal;
        };
        let name = name.trim_matches('`');
        let name = name.split('`').next().unwrap_or(name).to_owned();
        let last = name.rsplit('.').next().unwrap_or(&name);
        if let Some((_, span, quote)) = stands(&name).or_else(|| stands(last)) {
            if *quote == Some('"') {
                refusal = refusal.hint("text is written in single quotes: 'like this'");
            }
            return refusal.at(*span);
        }
        refusal
    }
}

/// The refusal of a statement that begins with this word.
pub(in crate::detection) fn not_select(verb: &str) -> Refusal {
    Refusal::new(format!("{verb} is not allowed: only SELECT is"))
        .hint("DaemonEye's data is read-only; nothing was executed")
}
