//! Expressions.

use super::functions::engine_call;
use super::literal::{cell_of, constant, given};
use super::{Lowerer, absent, quoted, unsupported};
use crate::detection::error::Refusal;
use crate::detection::functions::{Cell, JSON_VALUE, SEARCHES};
use crate::detection::rules::lists::MAX_VALUES;
use crate::models::catalog::Table;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, Expr, Function, FunctionArguments, Ident, ObjectNamePart, Query,
    SetExpr, UnaryOperator, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// The name under which the place of `EXISTS` and of `IN` with a query is kept.
pub(super) const SUB_QUERY: &str = "(SELECT)";

impl Lowerer<'_> {
    /// An expression whose value is wanted: a truth value is 1 or 0.
    pub(super) fn expression(&mut self, expr: Expr) -> Result<Expr, Refusal> {
        Ok(as_number(self.lowered(expr)?))
    }

    /// An expression of which only the truth counts: numbers and texts are true as in SQLite.
    pub(super) fn condition(&mut self, expr: Expr) -> Result<Expr, Refusal> {
        Ok(as_condition(self.lowered(expr)?))
    }

    fn lowered(&mut self, expr: Expr) -> Result<Expr, Refusal> {
        let place = place(&expr);
        self.deeper(|| place, |lowerer| lowerer.shallow(expr, place))
    }

    /// An expression with which is reckoned: a text counts as the number with which it begins.
    fn number(&mut self, expr: Expr) -> Result<Expr, Refusal> {
        let place = place(&expr);
        Ok(as_numeric(self.expression(expr)?, place))
    }

    fn integer(&mut self, expr: Expr) -> Result<Expr, Refusal> {
        let place = place(&expr);
        Ok(engine_call("__integer", place, vec![self.expression(expr)?]))
    }

    fn boxed(&mut self, expr: Expr) -> Result<Box<Expr>, Refusal> {
        Ok(Box::new(self.expression(expr)?))
    }

    fn shallow(&mut self, expr: Expr, place: Span) -> Result<Expr, Refusal> {
        Ok(match expr {
            Expr::Identifier(ident) => Expr::Identifier(self.name(ident)),
            Expr::CompoundIdentifier(parts) => self.compound(parts)?,
            Expr::Value(literal) => self.literal(literal)?,
            Expr::Nested(inner) => Expr::Nested(Box::new(self.lowered(*inner)?)),
            Expr::IsNull(inner) => Expr::IsNull(self.boxed(*inner)?),
            Expr::IsNotNull(inner) => Expr::IsNotNull(self.boxed(*inner)?),
            Expr::IsTrue(inner) => Expr::IsTrue(Box::new(self.condition(*inner)?)),
            Expr::IsNotTrue(inner) => Expr::IsNotTrue(Box::new(self.condition(*inner)?)),
            Expr::IsFalse(inner) => Expr::IsFalse(Box::new(self.condition(*inner)?)),
            Expr::IsNotFalse(inner) => Expr::IsNotFalse(Box::new(self.condition(*inner)?)),
            Expr::IsDistinctFrom(left, right) => Expr::IsDistinctFrom(self.boxed(*left)?, self.boxed(*right)?),
            Expr::IsNotDistinctFrom(left, right) => Expr::IsNotDistinctFrom(self.boxed(*left)?, self.boxed(*right)?),
            Expr::UnaryOp { op, expr } => self.unary(op, *expr, place)?,
            Expr::BinaryOp { left, op, right } => self.binary(*left, op, *right, place)?,
            Expr::Between { expr, negated, low, high } => {
                Expr::Between { expr: self.boxed(*expr)?, negated, low: self.boxed(*low)?, high: self.boxed(*high)? }
            }
            Expr::InList { expr, list, negated } => {
                let list = self.values(list, place)?;
                let expr = self.boxed(*expr)?;
                if list.is_empty() {
                    Expr::Value(Value::Boolean(negated).with_span(place))
                } else {
                    Expr::InList { expr, list, negated }
                }
            }
            Expr::InSubquery { expr, subquery, negated } => {
                self.names.push((SUB_QUERY.to_owned(), place, None));
                Expr::InSubquery { expr: self.boxed(*expr)?, subquery: self.subquery(*subquery)?, negated }
            }
            Expr::Exists { subquery, negated } => {
                self.names.push((SUB_QUERY.to_owned(), place, None));
                Expr::Exists { subquery: self.subquery(*subquery)?, negated }
            }
            Expr::Subquery(query) => Expr::Subquery(self.subquery(*query)?),
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(negated, *expr, *pattern, escape_char, place)?
            }
            Expr::RLike { negated, expr, pattern, regexp: true } => {
                let arguments = vec![self.expression(*pattern)?, self.expression(*expr)?];
                negate_if(negated, self.pattern("__regexp", place, arguments)?)
            }
            Expr::Function(function) => self.function(function)?,
            Expr::Case { case_token, end_token, operand, conditions, else_result } => {
                let has_operand = operand.is_some();
                let operand = operand.map(|operand| self.boxed(*operand)).transpose()?;
                let conditions = conditions
                    .into_iter()
                    .map(|CaseWhen { condition, result }| {
                        let condition =
                            if has_operand { self.expression(condition)? } else { self.condition(condition)? };
                        Ok(CaseWhen { condition, result: self.expression(result)? })
                    })
                    .collect::<Result<_, Refusal>>()?;
                let else_result = else_result.map(|result| self.boxed(*result)).transpose()?;
                Expr::Case { case_token, end_token, operand, conditions, else_result }
            }
            Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None } => {
                let target = cast_target(&data_type).ok_or_else(|| {
                    unsupported(&format!("a cast to {data_type}")).hint("cast to TEXT, INTEGER or REAL").at(place)
                })?;
                engine_call(target, place, vec![self.expression(*expr)?])
            }
            Expr::Substring { expr, substring_from: Some(from), substring_for, special: _, shorthand: _ } => {
                let mut arguments = vec![self.expression(*expr)?, self.expression(*from)?];
                if let Some(length) = substring_for {
                    arguments.push(self.expression(*length)?);
                }
                engine_call("substr", place, arguments)
            }
            Expr::Trim { trim_where: None, trim_what: None, expr, trim_characters } => {
                let mut arguments = vec![self.expression(*expr)?];
                for characters in trim_characters.unwrap_or_default() {
                    arguments.push(self.expression(characters)?);
                }
                absent(arguments.len() <= 2, "TRIM with more than two arguments", || place)?;
                engine_call("trim", place, arguments)
            }
            other => return Err(unsupported(&describe(&other)).at(place)),
        })
    }

    /// What stands in `IN (…)`, a rule's lists by their values.
    pub(super) fn values(&mut self, list: Vec<Expr>, place: Span) -> Result<Vec<Expr>, Refusal> {
        let mut values = Vec::with_capacity(list.len());
        for item in list {
            match (self.lists, &item) {
                (Some(lists), Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }))
                    if name.starts_with('@') =>
                {
                    let name = name.trim_start_matches('@');
                    let Some(list) = lists.get(name) else {
                        return Err(Refusal::new(format!("no such list: @{name}"))
                            .hint(lists.hint_for(name))
                            .at(*span));
                    };
                    values.extend(list.iter().map(|value| given(value, *span)));
                }
                _ => values.push(self.expression(item)?),
            }
            if values.len() > MAX_VALUES {
                return Err(Refusal::new(format!("more than {MAX_VALUES} values in IN (…)")).at(place));
            }
        }
        Ok(values)
    }

    /// `table.column`, or `schema.table.column` for a table that is called by its own name.
    fn compound(&mut self, parts: Vec<Ident>) -> Result<Expr, Refusal> {
        let place = parts.first().map_or(Span::empty(), |part| part.span);
        let mut parts = parts;
        if let [schema, table, _] = parts.as_slice()
            && Table::find(&format!("{}.{}", schema.value, table.value)).is_some()
        {
            parts.remove(0);
        }
        match <[Ident; 2]>::try_from(parts) {
            Ok([table, column]) => {
                let table = quoted(table.value.to_ascii_lowercase(), table.span);
                let qualified = format!("{}.{}", table.value, column.value.to_ascii_lowercase());
                self.names.push((qualified, table.span, column.quote_style));
                Ok(Expr::CompoundIdentifier(vec![table, self.name(column)]))
            }
            Err(parts) => Err(unsupported(&format!("a name of {} parts", parts.len())).at(place)),
        }
    }

    fn unary(&mut self, op: UnaryOperator, expr: Expr, place: Span) -> Result<Expr, Refusal> {
        match op {
            UnaryOperator::Not => Ok(negate_if(true, self.condition(expr)?)),
            UnaryOperator::Minus | UnaryOperator::Plus => Ok(Expr::UnaryOp { op, expr: Box::new(self.number(expr)?) }),
            other => Err(unsupported(&format!("the operator {other}")).at(place)),
        }
    }

    fn binary(&mut self, left: Expr, op: BinaryOperator, right: Expr, place: Span) -> Result<Expr, Refusal> {
        use BinaryOperator as Op;
        match op {
            Op::And | Op::Or => self.chain(left, &op, right),
            Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => {
                Ok(binary(self.expression(left)?, op, self.expression(right)?))
            }
            Op::Spaceship => Err(unsupported("the operator <=>").hint("write IS NOT DISTINCT FROM").at(place)),
            Op::Plus | Op::Minus | Op::Multiply => Ok(binary(self.number(left)?, op, self.number(right)?)),
            Op::BitwiseAnd | Op::BitwiseOr => Ok(binary(self.integer(left)?, op, self.integer(right)?)),
            // Division by zero is NULL; a remainder is that of whole numbers.
            Op::Divide | Op::Modulo => {
                let whole = op == Op::Modulo;
                let divisor = if whole { self.integer(right)? } else { self.number(right)? };
                let zero = Expr::Value(Value::Number("0".to_owned(), false).with_span(place));
                let divisor = engine_call("nullif", place, vec![divisor, zero]);
                let dividend = if whole { self.integer(left)? } else { self.number(left)? };
                Ok(binary(dividend, op, divisor))
            }
            Op::StringConcat => {
                let mut text = |expr| Ok::<_, Refusal>(engine_call("__text", place, vec![self.expression(expr)?]));
                Ok(binary(text(left)?, op, text(right)?))
            }
            Op::LongArrow => Ok(engine_call(JSON_VALUE, place, vec![self.expression(left)?, self.expression(right)?])),
            other => Err(unsupported(&format!("the operator {other}")).at(place)),
        }
    }

    /// A chain of `AND` or of `OR`, however long, becomes a balanced tree: the engine's recursion stays shallow.
    fn chain(&mut self, left: Expr, op: &BinaryOperator, right: Expr) -> Result<Expr, Refusal> {
        let mut operands = vec![right];
        let mut rest = left;
        loop {
            match rest {
                Expr::BinaryOp { left, op: own, right } if own == *op => {
                    operands.push(*right);
                    rest = *left;
                }
                first => {
                    operands.push(first);
                    break;
                }
            }
        }
        let mut terms =
            operands.into_iter().rev().map(|operand| self.condition(operand)).collect::<Result<Vec<_>, _>>()?;
        while terms.len() > 1 {
            let mut paired = Vec::with_capacity(terms.len().div_ceil(2));
            let mut rest = terms.into_iter();
            while let Some(left) = rest.next() {
                paired.push(match rest.next() {
                    Some(right) => Expr::Nested(Box::new(binary(left, op.clone(), right))),
                    None => left,
                });
            }
            terms = paired;
        }
        terms.pop().ok_or_else(|| Refusal::new("an empty condition"))
    }

    fn like(
        &mut self,
        negated: bool,
        expr: Expr,
        pattern: Expr,
        escape: Option<ValueWithSpan>,
        place: Span,
    ) -> Result<Expr, Refusal> {
        let mut arguments = vec![self.expression(pattern)?, self.expression(expr)?];
        if let Some(escape) = escape {
            let span = escape.span;
            match &escape.value {
                Value::SingleQuotedString(text) if text.chars().count() == 1 => arguments.push(self.literal(escape)?),
                _ => return Err(Refusal::new("ESCAPE must be one character").at(span)),
            }
        }
        Ok(negate_if(negated, self.pattern("__like", place, arguments)?))
    }

    fn subquery(&mut self, query: Query) -> Result<Box<Query>, Refusal> {
        Ok(Box::new(self.query(query)?))
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    // Without parentheses of its own the tree needs none: it is never written as text again.
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn negate_if(negated: bool, expr: Expr) -> Expr {
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) } } else { expr }
}

fn cast_target(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Text | DataType::Varchar(_) | DataType::Char(_) | DataType::String(_) => Some("__text"),
        DataType::Integer(_) | DataType::Int(_) | DataType::BigInt(_) | DataType::SmallInt(_) => Some("__integer"),
        DataType::Real | DataType::Double(_) | DataType::DoublePrecision | DataType::Float(_) => Some("__real"),
        _ => None,
    }
}

/// Whether the engine's type of a lowered expression is a truth value.
fn is_truth(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_truth(inner),
        Expr::UnaryOp { op, .. } => *op == UnaryOperator::Not,
        Expr::BinaryOp { op, .. } => matches!(
            op,
            BinaryOperator::And
                | BinaryOperator::Or
                | BinaryOperator::Eq
                | BinaryOperator::NotEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq
        ),
        Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::Between { .. }
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Exists { .. }
        | Expr::Value(ValueWithSpan { value: Value::Boolean(_), .. }) => true,
        Expr::Function(Function { name, args: FunctionArguments::List(_), .. }) => {
            matches!(name.0.as_slice(), [ObjectNamePart::Identifier(name)]
                if matches!(name.value.as_str(), "__like" | "__regexp" | "glob") || SEARCHES.contains(&name.value.as_str()))
        }
        _ => false,
    }
}

/// A number is true unless it is 0; a text counts as the number with which it begins.
pub(super) fn as_condition(expr: Expr) -> Expr {
    if is_truth(&expr) || matches!(&expr, Expr::Value(ValueWithSpan { value: Value::Null, .. })) {
        return expr;
    }
    let place = place(&expr);
    let zero = Expr::Value(Value::Number("0.0".to_owned(), false).with_span(place));
    Expr::Nested(Box::new(binary(engine_call("__real", place, vec![expr]), BinaryOperator::NotEq, zero)))
}

/// A number as itself, and a text as the number with which it begins.
pub(super) fn as_numeric(expr: Expr, place: Span) -> Expr {
    match cell_of(&expr) {
        Some(Cell::Integer(_) | Cell::Real(_)) => expr,
        Some(Cell::Text(text)) => match text.trim().parse() {
            Ok(number) => constant(&Cell::Integer(number), place),
            Err(_) => engine_call("__real", place, vec![expr]),
        },
        _ => engine_call("__number", place, vec![expr]),
    }
}

/// A truth value counts as 1 or 0 where a value is wanted.
fn as_number(expr: Expr) -> Expr {
    if is_truth(&expr) { engine_call("__integer", place(&expr), vec![expr]) } else { expr }
}

/// Where an expression begins, found without walking down a long chain.
fn place(expr: &Expr) -> Span {
    match expr {
        Expr::BinaryOp { right, .. } => place(right),
        Expr::Nested(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::Cast { expr: inner, .. }
        | Expr::Collate { expr: inner, .. }
        | Expr::Like { expr: inner, .. }
        | Expr::RLike { expr: inner, .. }
        | Expr::InList { expr: inner, .. }
        | Expr::InSubquery { expr: inner, .. }
        | Expr::Between { expr: inner, .. } => place(inner),
        Expr::Case { case_token, .. } => case_token.0.span,
        Expr::Function(function) => match function.name.0.first() {
            Some(ObjectNamePart::Identifier(name)) => name.span,
            _ => Span::empty(),
        },
        Expr::Interval(interval) => place(&interval.value),
        Expr::Identifier(ident) => ident.span,
        Expr::CompoundIdentifier(parts) => parts.first().map_or(Span::empty(), |part| part.span),
        Expr::Value(value) => value.span,
        Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => match subquery.body.as_ref() {
            SetExpr::Select(select) => select.select_token.0.span,
            _ => Span::empty(),
        },
        _ => Span::empty(),
    }
}

/// What to call an expression that is refused.
fn describe(expr: &Expr) -> String {
    let text = expr.to_string();
    let short: String = text.chars().take(40).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("the expression `{short}{dots}`")
}
