//! What kind of values a result column has, where its values are those of a table's column.

use crate::models::batch::{KIND, kind_of};
use crate::proto::ipc::ColumnKind;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

/// The kind of the plan's column, followed back through aliases, `min`, `max`, sub-queries, joins and unions to the tables;
/// nothing where its values are computed.
pub(super) fn column_kind(plan: &LogicalPlan, column: usize) -> Option<ColumnKind> {
    match plan {
        LogicalPlan::Projection(projection) => expression_kind(projection.expr.get(column)?, &projection.input),
        LogicalPlan::Aggregate(aggregate) => {
            expression_kind(aggregate.group_expr.iter().chain(&aggregate.aggr_expr).nth(column)?, &aggregate.input)
        }
        LogicalPlan::Filter(filter) => column_kind(&filter.input, column),
        LogicalPlan::Sort(sort) => column_kind(&sort.input, column),
        LogicalPlan::Limit(limit) => column_kind(&limit.input, column),
        LogicalPlan::Distinct(Distinct::All(input)) => column_kind(input, column),
        LogicalPlan::SubqueryAlias(alias) => column_kind(&alias.input, column),
        LogicalPlan::Union(union) => same(union.inputs.iter().map(|input| column_kind(input, column))),
        LogicalPlan::Join(join) => match column.checked_sub(join.left.schema().fields().len()) {
            None => column_kind(&join.left, column),
            Some(right) => column_kind(&join.right, right),
        },
        LogicalPlan::TableScan(scan) => {
            let field = scan.projected_schema.fields().get(column)?;
            field.metadata().contains_key(KIND).then(|| kind_of(field))
        }
        _ => None,
    }
}

fn expression_kind(expr: &Expr, input: &LogicalPlan) -> Option<ColumnKind> {
    match expr {
        Expr::Alias(alias) => expression_kind(&alias.expr, input),
        Expr::Column(column) => column_kind(input, input.schema().maybe_index_of_column(column)?),
        Expr::AggregateFunction(call) if matches!(call.func.name(), "min" | "max") => {
            expression_kind(call.params.args.first()?, input)
        }
        Expr::ScalarFunction(call) if call.func.name() == "coalesce" => {
            same(call.args.iter().map(|argument| expression_kind(argument, input)))
        }
        Expr::ScalarSubquery(query) => column_kind(&query.subquery, 0),
        _ => None,
    }
}

/// The kind that all of them have.
fn same(mut kinds: impl Iterator<Item = Option<ColumnKind>>) -> Option<ColumnKind> {
    let first = kinds.next()??;
    kinds.all(|kind| kind == Some(first)).then_some(first)
}
