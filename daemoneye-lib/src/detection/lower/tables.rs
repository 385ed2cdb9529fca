//! What stands after `FROM`: tables, sub-queries and joins.

use super::{Lowerer, absent, quoted, unsupported};
use crate::detection::error::{Refusal, nearest};
use crate::models::catalog::Table;
use datafusion::sql::sqlparser::ast::{
    Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Spanned as _, TableAlias, TableFactor,
    TableWithJoins,
};
use datafusion::sql::sqlparser::tokenizer::Span;

impl Lowerer<'_> {
    pub(super) fn from(&mut self, from: TableWithJoins) -> Result<TableWithJoins, Refusal> {
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
            if let Some(scans) = self.expressions.iter().rev().find_map(|scope| scope.get(&lower)).copied() {
                self.count_scans(scans, span)?;
                let ident = quoted(lower, ident.span);
                return Ok((ObjectName::from(ident.clone()), ident));
            }
        }
        let table = self.find_table(name, span)?;
        self.tables.push(table);
        self.count_scans(1, span)?;
        let (schema, own) = table.qualified_name();
        let last = name.0.last().and_then(ObjectNamePart::as_ident).map_or(own, |ident| ident.value.as_str());
        let alias = quoted(last.to_ascii_lowercase(), span);
        Ok((ObjectName::from(vec![quoted(schema.to_owned(), span), quoted(own.to_owned(), span)]), alias))
    }

    pub(super) fn find_table(&self, name: &ObjectName, span: Span) -> Result<Table, Refusal> {
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
}
