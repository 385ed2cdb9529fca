//! Calls: which functions a statement may name, and what becomes of them.

use super::expression::{as_condition, as_numeric};
use super::literal::{cell_of, constant};
use super::{Lowerer, absent, unsupported};
use crate::detection::dialect::call;
use crate::detection::error::{Refusal, nearest};
use crate::detection::functions::{JSON_VALUE, SCALARS, SEARCHES, fold_constant, search};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectNamePart, Spanned as _, Value,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// Aggregates: name, and how many arguments.
const AGGREGATES: &[(&str, std::ops::RangeInclusive<usize>)] = &[
    ("avg", 1..=1),
    ("count", 0..=1),
    ("group_concat", 1..=2),
    ("max", 1..=1),
    ("min", 1..=1),
    ("sum", 1..=1),
    ("total", 1..=1),
];

/// Functions that are written in terms of others.
const REWRITTEN: &[(&str, std::ops::RangeInclusive<usize>)] =
    &[("ifnull", 2..=2), ("iif", 3..=3), ("regexp", 2..=2), ("like", 2..=3)];

/// Other names of functions.
const SYNONYMS: &[(&str, &str)] = &[("substring", "substr"), ("char_length", "length"), ("if", "iif")];

/// Whether a function is an aggregate.
pub(super) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.iter().any(|(own, _)| *own == name)
}

fn known() -> impl Iterator<Item = &'static str> {
    let scalars = SCALARS.iter().map(|scalar| scalar.name).filter(|name| is_called(name));
    scalars.chain(AGGREGATES.iter().map(|(name, _)| *name)).chain(REWRITTEN.iter().map(|(name, _)| *name))
}

/// Whether a function can be called by its name: the others are what operators become.
fn is_called(name: &str) -> bool {
    !name.starts_with("__") && name != JSON_VALUE
}

impl Lowerer<'_> {
    pub(super) fn function(&mut self, function: Function) -> Result<Expr, Refusal> {
        let Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } =
            function;
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
            return Err(unsupported(&format!("the function name {name}")).at(name.span()));
        };
        let span = ident.span;
        let written = ident.value.to_ascii_lowercase();
        absent(over.is_none(), "a window function (OVER)", || span)?;
        absent(!uses_odbc_syntax, "{fn …}", || span)?;
        absent(matches!(parameters, FunctionArguments::None), "a list of parameters before the arguments", || span)?;
        absent(null_treatment.is_none(), "IGNORE NULLS", || span)?;
        absent(within_group.is_empty(), "WITHIN GROUP", || span)?;
        let name = SYNONYMS.iter().find(|(synonym, _)| *synonym == written).map_or(written.as_str(), |(_, name)| *name);
        let aggregate = is_aggregate(name);
        absent(filter.is_none() || aggregate, "FILTER on a function that is no aggregate", || span)?;
        let arity = SCALARS
            .iter()
            .find(|scalar| scalar.name == name && is_called(name))
            .map(|scalar| scalar.arity.clone())
            .or_else(|| {
                AGGREGATES.iter().chain(REWRITTEN).find(|(own, _)| *own == name).map(|(_, arity)| arity.clone())
            });
        let Some(arity) = arity else {
            let refusal = Refusal::new(format!("the function `{written}` is not allowed")).at(span);
            return Err(match nearest(&written, known()) {
                Some(nearest) => refusal.hint(format!("did you mean `{nearest}`?")),
                None => {
                    let mut known: Vec<_> = known().collect();
                    known.sort_unstable();
                    refusal.hint(format!("functions that are: {}", known.join(", ")))
                }
            });
        };
        let search = SEARCHES.contains(&name);
        let names_list = search && matches!(&args, FunctionArguments::List(list) if list.args.len() > 1);
        let (distinct, wildcard, arguments) = self.arguments(args, search, span)?;
        if names_list && arguments.len() == 1 {
            // Nothing is in an empty list.
            return Ok(Expr::Value(Value::Boolean(false).with_span(span)));
        }
        absent(!distinct || aggregate, "DISTINCT in a function that is no aggregate", || span)?;
        absent(!wildcard || name == "count", "* as an argument of this function", || span)?;
        if !arity.contains(&arguments.len()) || (aggregate && arguments.is_empty() && !wildcard && name != "count") {
            let wanted = if arity.start() == arity.end() {
                arity.start().to_string()
            } else {
                format!("{} to {}", arity.start(), arity.end())
            };
            let message = format!("`{written}` takes {wanted} arguments, not {}", arguments.len());
            return Err(Refusal::new(message).at(span));
        }
        if aggregate {
            let filter = filter.map(|filter| self.condition(*filter)).transpose()?;
            return Ok(aggregate_call(name, span, distinct, wildcard, arguments, filter));
        }
        self.scalar_call(name, span, arguments)
    }

    /// Whether `DISTINCT` stands before them, whether they are `*`, and themselves; with `lists` a rule's lists by their values.
    fn arguments(
        &mut self,
        arguments: FunctionArguments,
        lists: bool,
        span: Span,
    ) -> Result<(bool, bool, Vec<Expr>), Refusal> {
        let list = match arguments {
            FunctionArguments::None => return Ok((false, false, Vec::new())),
            FunctionArguments::Subquery(_) => return Err(unsupported("a query as a function's argument list").at(span)),
            FunctionArguments::List(list) => list,
        };
        let FunctionArgumentList { duplicate_treatment, args, clauses } = list;
        absent(clauses.is_empty(), "a clause among the arguments", || span)?;
        let mut wildcard = false;
        let mut lowered = Vec::new();
        for argument in args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if lists && !lowered.is_empty() => {
                    lowered.extend(self.values(vec![expr], span)?);
                }
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => lowered.push(self.expression(expr)?),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => wildcard = true,
                other => return Err(unsupported(&format!("the argument {other}")).at(span)),
            }
        }
        if wildcard && !lowered.is_empty() {
            return Err(unsupported("* among other arguments").at(span));
        }
        Ok((duplicate_treatment == Some(DuplicateTreatment::Distinct), wildcard, lowered))
    }

    fn scalar_call(&mut self, name: &str, span: Span, mut arguments: Vec<Expr>) -> Result<Expr, Refusal> {
        if let Some(now) = self.now {
            let cells: Option<Vec<_>> = arguments.iter().map(cell_of).collect();
            if let Some(folded) = cells.and_then(|cells| fold_constant(name, &cells, now)) {
                return Ok(constant(&folded, span));
            }
        }
        Ok(match name {
            "ifnull" => engine_call("coalesce", span, arguments),
            "regexp" => self.pattern("__regexp", span, arguments)?,
            "like" => self.pattern("__like", span, arguments)?,
            "glob" => self.pattern("glob", span, arguments)?,
            name if SEARCHES.contains(&name) => {
                // What is wrong with a constant is told now.
                let constants: Vec<_> = arguments.iter().skip(1).filter_map(cell_of).collect();
                let texts: Vec<_> = constants.iter().filter_map(|cell| cell.text()).collect();
                search(name, &texts).map_err(|problem| Refusal::new(problem).at(span))?;
                engine_call(name, span, arguments)
            }
            "iif" => {
                let otherwise = arguments.pop();
                let (Some(then), Some(condition)) = (arguments.pop(), arguments.pop()) else {
                    return Err(unsupported("iif"));
                };
                case(as_condition(condition), then, otherwise)
            }
            name => engine_call(name, span, arguments),
        })
    }

    /// A pattern function, its pattern checked now where it is a literal.
    pub(super) fn pattern(&mut self, name: &str, span: Span, arguments: Vec<Expr>) -> Result<Expr, Refusal> {
        if let Some(pattern) = arguments.first().and_then(cell_of).as_ref().and_then(|cell| cell.text())
            && let Some(problem) = crate::detection::functions::pattern_problem(name, &pattern)
        {
            return Err(Refusal::new(problem).at(span));
        }
        Ok(engine_call(name, span, arguments))
    }
}

fn aggregate_call(
    name: &str,
    span: Span,
    distinct: bool,
    wildcard: bool,
    mut arguments: Vec<Expr>,
    filter: Option<Expr>,
) -> Expr {
    if matches!(name, "sum" | "avg") {
        arguments = arguments.into_iter().map(|argument| as_numeric(argument, span)).collect();
    }
    let engine_name = match name {
        "total" => {
            arguments = arguments.into_iter().map(|argument| engine_call("__real", span, vec![argument])).collect();
            "sum"
        }
        "group_concat" => {
            let separator = arguments.split_off(1).pop();
            arguments = arguments.into_iter().map(|argument| engine_call("__text", span, vec![argument])).collect();
            let comma = Expr::Value(Value::SingleQuotedString(",".to_owned()).with_span(span));
            arguments.push(separator.unwrap_or(comma));
            "string_agg"
        }
        name => name,
    };
    let mut expr = engine_call(engine_name, span, arguments);
    if let Expr::Function(function) = &mut expr {
        if let FunctionArguments::List(list) = &mut function.args {
            list.duplicate_treatment = distinct.then_some(DuplicateTreatment::Distinct);
            if wildcard || (name == "count" && list.args.is_empty()) {
                // The engine counts rows by a constant.
                let one = Expr::Value(Value::Number("1".to_owned(), false).with_span(span));
                list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(one)));
            }
        }
        function.filter = filter.map(Box::new);
    }
    if name == "total" {
        let zero = Expr::Value(Value::Number("0.0".to_owned(), false).with_span(span));
        expr = engine_call("coalesce", span, vec![expr, zero]);
    }
    expr
}

/// A call that the engine resolves.
pub(super) fn engine_call(name: &str, span: Span, arguments: Vec<Expr>) -> Expr {
    call(Ident::with_span(span, name), arguments)
}

/// `CASE WHEN … THEN … ELSE … END`.
fn case(condition: Expr, result: Expr, otherwise: Option<Expr>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: otherwise.map(Box::new),
    }
}
