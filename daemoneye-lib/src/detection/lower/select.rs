//! Queries: `SELECT`, common table expressions, set operations, joins; and the narrower shape of a rule.

use super::functions::is_aggregate;
use super::literal::cell_of;
use super::{Lowered, Lowerer, absent, quoted, unsupported};
use crate::detection::error::{Refusal, nearest};
use crate::detection::functions::Cell;
use crate::models::catalog::Table;
use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, LimitClause, ObjectName,
    ObjectNamePart, Offset, OffsetRows, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Spanned as _, Statement, TableAlias,
    TableFactor, TableWithJoins, Visit, Visitor, WildcardAdditionalOptions, With,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// What can be told of a rule's result from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::detection) struct RuleShape {
    /// The table that the rule reads.
    pub(in crate::detection) table: Table,
    /// How many hidden columns stand at the end.
    pub(in crate::detection) hidden: usize,
}

impl Lowerer<'_> {
    pub(super) fn statement(&mut self, statement: Statement) -> Result<Statement, Refusal> {
        match statement {
            Statement::Query(query) => Ok(Statement::Query(Box::new(self.query(*query)?))),
            other => {
                let text = other.to_string();
                let verb = text.split_whitespace().next().unwrap_or_default().to_uppercase();
                let refusal = Refusal::new(format!("{verb} is not allowed: only SELECT is")).at(other.span());
                Err(refusal.hint("DaemonEye's data is read-only; nothing was executed"))
            }
        }
    }

    /// A rule: one `SELECT` of rows of one table of processes, each row a match of its own.
    pub(super) fn rule(&mut self, statement: Statement, hidden: &[&str]) -> Result<(Statement, RuleShape), Refusal> {
        let Statement::Query(query) = statement else {
            return self
                .statement(statement)
                .map(|statement| (statement, RuleShape { table: Table::Processes, hidden: 0 }));
        };
        let Query { body, .. } = query.as_ref();
        let SetExpr::Select(select) = body.as_ref() else {
            return Err(unsupported("a UNION, EXCEPT or INTERSECT in a rule").hint("write a rule for each part"));
        };
        let span = select.select_token.0.span;
        absent(query.with.is_none(), "WITH in a rule", || span)?;
        let unwanted =
            |what: &str, why: &str| Err(unsupported(&format!("{what} in a rule")).hint(why.to_owned()).at(span));
        let [TableWithJoins { relation: TableFactor::Table { name, alias, .. }, joins }] = select.from.as_slice()
        else {
            return unwanted("anything but one table after FROM", "rules are evaluated over the rows of one table");
        };
        if !joins.is_empty() {
            return unwanted("JOIN", "columns of the parent are in the row: parent_name, parent_executable_path, …");
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
            return unwanted("an aggregate or a sub-query", "a rule looks at one row at a time");
        }
        let table = self.find_table(name, span)?;
        if !table.is_observed() {
            return unwanted(&format!("the table {name}"), "rules read processes.events or processes");
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
        self.expressions.push(HashSet::new());
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
                .hint("join processes on parent_key for each level that you need")
                .at(span));
        }
        let mut tables = Vec::with_capacity(cte_tables.len());
        for Cte { alias, query, from, materialized, closing_paren_token } in cte_tables {
            absent(from.is_none(), "FROM after a common table expression", || alias.name.span)?;
            let query = Box::new(self.query(*query)?);
            let alias = self.alias(alias)?;
            if let Some(scope) = self.expressions.last_mut() {
                scope.insert(alias.name.value.clone());
            }
            tables.push(Cte { alias, query, from: None, materialized, closing_paren_token });
        }
        Ok(With { with_token, recursive: false, cte_tables: tables })
    }

    fn alias(&mut self, alias: TableAlias) -> Result<TableAlias, Refusal> {
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

    /// Result columns. One that is not a plain column is called by its text, as SQLite does; a name that was there
    /// before gets `:1`, `:2`, ….
    fn projection(&mut self, items: Vec<SelectItem>) -> Result<Vec<SelectItem>, Refusal> {
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
                    let name = match &expr {
                        Expr::Identifier(ident) => ident.value.to_ascii_lowercase(),
                        Expr::CompoundIdentifier(parts) => {
                            parts.last().map_or_else(String::new, |part| part.value.to_ascii_lowercase())
                        }
                        other => other.to_string(),
                    };
                    (expr, name)
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.aliases.insert(alias.value.to_ascii_lowercase(), alias.value.clone());
                    (expr, alias.value)
                }
                other => return Err(unsupported(&format!("the result column {other}")).at(other.span())),
            };
            let expr = self.expression(expr)?;
            let mut name = written.clone();
            let mut again = 0;
            while !taken.insert(name.clone()) {
                again += 1;
                name = format!("{written}:{again}");
            }
            lowered.push(SelectItem::ExprWithAlias { expr, alias: quoted(name, Span::empty()) });
        }
        Ok(lowered)
    }

    fn from(&mut self, from: TableWithJoins) -> Result<TableWithJoins, Refusal> {
        let TableWithJoins { relation, joins } = from;
        let relation = self.relation(relation)?;
        let joins = joins.into_iter().map(|join| self.join(join)).collect::<Result<_, _>>()?;
        Ok(TableWithJoins { relation, joins })
    }

    fn join(&mut self, join: Join) -> Result<Join, Refusal> {
        use JoinOperator as Op;
        let Join { relation, global, join_operator } = join;
        absent(!global, "GLOBAL JOIN", Span::empty)?;
        let relation = self.relation(relation)?;
        let join_operator = match join_operator {
            Op::Join(on) | Op::Inner(on) => Op::Inner(self.constraint(on)?),
            Op::Left(on) | Op::LeftOuter(on) => Op::Left(self.constraint(on)?),
            Op::Right(on) | Op::RightOuter(on) => Op::Right(self.constraint(on)?),
            Op::FullOuter(on) => Op::FullOuter(self.constraint(on)?),
            Op::CrossJoin(JoinConstraint::None) => Op::CrossJoin(JoinConstraint::None),
            _ => {
                return Err(
                    unsupported("this kind of JOIN").hint("use JOIN, LEFT JOIN, RIGHT JOIN, FULL JOIN or CROSS JOIN")
                );
            }
        };
        // A join without a condition is a cross join, as in SQLite.
        let join_operator = match join_operator {
            Op::Inner(JoinConstraint::None) => Op::CrossJoin(JoinConstraint::None),
            other => other,
        };
        Ok(Join { relation, global: false, join_operator })
    }

    fn constraint(&mut self, constraint: JoinConstraint) -> Result<JoinConstraint, Refusal> {
        Ok(match constraint {
            JoinConstraint::On(condition) => JoinConstraint::On(self.condition(condition)?),
            JoinConstraint::Using(columns) => {
                let mut lowered = Vec::with_capacity(columns.len());
                for column in columns {
                    let [ObjectNamePart::Identifier(ident)] = column.0.as_slice() else {
                        return Err(unsupported(&format!("USING ({column})")).at(column.span()));
                    };
                    lowered.push(ObjectName::from(self.name(ident.clone())));
                }
                JoinConstraint::Using(lowered)
            }
            JoinConstraint::None => JoinConstraint::None,
            JoinConstraint::Natural => return Err(unsupported("NATURAL JOIN").hint("write USING or ON")),
        })
    }

    fn relation(&mut self, relation: TableFactor) -> Result<TableFactor, Refusal> {
        match relation {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let span = name.span();
                absent(args.is_none(), &format!("the table function {name}"), || span)?;
                absent(
                    with_hints.is_empty()
                        && version.is_none()
                        && !with_ordinality
                        && partitions.is_empty()
                        && json_path.is_none()
                        && sample.is_none()
                        && index_hints.is_empty(),
                    "what follows the table's name",
                    || span,
                )?;
                let (name, default_alias) = self.table_name(&name, span)?;
                let alias = match alias {
                    Some(alias) => Some(self.alias(alias)?),
                    None => Some(TableAlias { explicit: true, name: default_alias, columns: Vec::new(), at: None }),
                };
                Ok(TableFactor::Table {
                    name,
                    alias,
                    args: None,
                    with_hints: Vec::new(),
                    version: None,
                    with_ordinality: false,
                    partitions: Vec::new(),
                    json_path: None,
                    sample: None,
                    index_hints: Vec::new(),
                })
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let subquery = Box::new(self.query(*subquery)?);
                let alias = alias.map(|alias| self.alias(alias)).transpose()?;
                Ok(TableFactor::Derived { lateral: false, subquery, alias, sample: None })
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                let table_with_joins = Box::new(self.deeper(Span::empty, |lowerer| lowerer.from(*table_with_joins))?);
                Ok(TableFactor::NestedJoin { table_with_joins, alias: None })
            }
            other => Err(unsupported(&format!("`{other}` after FROM"))),
        }
    }

    /// The engine's name of a table or of a common table expression, and how expressions call it.
    fn table_name(&mut self, name: &ObjectName, span: Span) -> Result<(ObjectName, Ident), Refusal> {
        if let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() {
            let lower = ident.value.to_ascii_lowercase();
            if self.expressions.iter().any(|scope| scope.contains(&lower)) {
                let ident = quoted(lower, ident.span);
                return Ok((ObjectName::from(ident.clone()), ident));
            }
        }
        let table = self.find_table(name, span)?;
        self.tables.push(table);
        let (schema, own) = table.qualified_name();
        let last = name.0.last().and_then(ObjectNamePart::as_ident).map_or(own, |ident| ident.value.as_str());
        let alias = quoted(last.to_ascii_lowercase(), span);
        Ok((ObjectName::from(vec![quoted(schema.to_owned(), span), quoted(own.to_owned(), span)]), alias))
    }

    fn find_table(&self, name: &ObjectName, span: Span) -> Result<Table, Refusal> {
        let parts: Option<Vec<&str>> =
            name.0.iter().map(|part| part.as_ident().map(|ident| ident.value.as_str())).collect();
        let written = parts.map_or_else(|| name.to_string(), |parts| parts.join("."));
        Table::find(&written).ok_or_else(|| {
            let names: Vec<String> = Table::ALL
                .into_iter()
                .flat_map(|table| {
                    let (schema, own) = table.qualified_name();
                    [Some(format!("{schema}.{own}")), table.short_name().map(str::to_owned)]
                })
                .flatten()
                .collect();
            let refusal = Refusal::new(format!("no such table: {written}")).at(span);
            match nearest(&written, names.iter().map(String::as_str)) {
                Some(nearest) => refusal.hint(format!("did you mean `{nearest}`?")),
                None => refusal.hint(format!("tables: {}", names.join(", "))),
            }
        })
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

impl Lowered {
    /// Gives a planner's error about a name the place where the name stands.
    pub(in crate::detection) fn place(&self, mut refusal: Refusal) -> Refusal {
        let Some(name) = refusal
            .message
            .strip_prefix("no such column: ")
            .or_else(|| refusal.message.strip_prefix("the column name "))
        else {
            return refusal;
        };
        let name = name.trim_matches('`');
        let name = name.split('`').next().unwrap_or(name);
        let name = name.rsplit('.').next().unwrap_or(name).to_owned();
        if let Some((_, span, quote)) = self.names.iter().find(|(own, _, _)| *own == name) {
            if *quote == Some('"') {
                refusal = refusal.hint("text is written in single quotes: 'like this'");
            }
            return refusal.at(*span);
        }
        refusal
    }
}
