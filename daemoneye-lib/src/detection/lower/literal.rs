//! Literals and parameters.

use super::{Lowerer, Parameter, unsupported};
use crate::detection::error::Refusal;
use crate::detection::functions::Cell;
use datafusion::sql::sqlparser::ast::{Expr, UnaryOperator, Value, ValueWithSpan};
use datafusion::sql::sqlparser::tokenizer::Span;

impl Lowerer<'_> {
    pub(super) fn literal(&mut self, literal: ValueWithSpan) -> Result<Expr, Refusal> {
        let span = literal.span;
        let value = match literal.value {
            // The parser takes 0x1F for x'1F', which is a character longer.
            Value::HexStringLiteral(hex) if span.end.column - span.start.column == hex.len() as u64 + 2 => {
                let number = i64::from_str_radix(&hex, 16)
                    .map_err(|_| Refusal::new(format!("`0x{hex}` is not a number that fits 64 bits")).at(span))?;
                return Ok(number_literal(number, span));
            }
            Value::Boolean(truth) => return Ok(number_literal(truth.into(), span)),
            value @ (Value::Number(_, false) | Value::SingleQuotedString(_) | Value::Null) => value,
            Value::Placeholder(name) => return self.parameter(&name, span),
            other => return Err(unsupported(&format!("the literal {other}")).at(span)),
        };
        Ok(Expr::Value(value.with_span(span)))
    }

    fn parameter(&mut self, name: &str, span: Span) -> Result<Expr, Refusal> {
        let missing = |what: String| {
            Err(Refusal::new(format!("no value was given for {what}")).hint("give one with --param").at(span))
        };
        if let (Some(_), Some(list)) = (self.lists, name.strip_prefix('@')) {
            let refusal = Refusal::new(format!("the list @{list} stands outside of IN (…)"));
            return Err(refusal.hint(format!("write column IN (@{list})")).at(span));
        }
        let value = if let Some(number) = name.strip_prefix('?') {
            let index = match number {
                "" => self.next_positional,
                number => match number.parse::<usize>() {
                    Ok(number) if number > 0 => number - 1,
                    _ => return Err(Refusal::new(format!("`{name}` is not a parameter")).at(span)),
                },
            };
            self.next_positional = self.next_positional.max(index + 1);
            self.used_positional.insert(index);
            let Some(value) = self.parameters.positional.get(index) else {
                return missing(format!("parameter {}", index + 1));
            };
            value
        } else {
            let own = name.trim_start_matches([':', '@', '$']);
            self.used_named.insert(own.to_owned());
            let Some(value) = self.parameters.named.get(own) else { return missing(format!("parameter `{name}`")) };
            value
        };
        Ok(given(value, span))
    }
}

/// A given value as a literal of the tree.
pub(super) fn given(value: &Parameter, span: Span) -> Expr {
    match value {
        Parameter::Null => constant(&Cell::Null, span),
        Parameter::Integer(number) => constant(&Cell::Integer(*number), span),
        Parameter::Real(number) => constant(&Cell::Real(*number), span),
        Parameter::Text(text) => constant(&Cell::Text(text.as_str().into()), span),
    }
}

/// A cell as a literal of the tree.
pub(super) fn constant(cell: &Cell<'_>, span: Span) -> Expr {
    match cell {
        Cell::Null => Expr::Value(Value::Null.with_span(span)),
        Cell::Integer(number) => number_literal(*number, span),
        Cell::Real(number) if number.is_finite() => signed(*number < 0.0, format!("{:e}", number.abs()), span),
        Cell::Real(_) => Expr::Value(Value::Null.with_span(span)),
        Cell::Text(text) => Expr::Value(Value::SingleQuotedString(text.to_string()).with_span(span)),
    }
}

fn number_literal(number: i64, span: Span) -> Expr {
    signed(number < 0, number.unsigned_abs().to_string(), span)
}

fn signed(negative: bool, digits: String, span: Span) -> Expr {
    let number = Expr::Value(Value::Number(digits, false).with_span(span));
    if negative { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) } } else { number }
}

/// The value of an expression that is a literal.
pub(super) fn cell_of(expr: &Expr) -> Option<Cell<'_>> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            Some(Cell::Text(text.as_str().into()))
        }
        Expr::Value(ValueWithSpan { value: Value::Null, .. }) => Some(Cell::Null),
        Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => {
            text.parse().map(Cell::Integer).or_else(|_| text.parse().map(Cell::Real)).ok()
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match cell_of(expr)? {
            Cell::Integer(number) => number.checked_neg().map(Cell::Integer),
            Cell::Real(number) => Some(Cell::Real(-number)),
            _ => None,
        },
        _ => None,
    }
}
