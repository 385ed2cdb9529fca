//! SQLite's syntax, with `GLOB` and `REGEXP` bound as SQLite binds them.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    UnaryOperator, Visit as _, Visitor,
};
use datafusion::sql::sqlparser::dialect::{self, Precedence, SQLiteDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use std::any::TypeId;
use std::ops::ControlFlow;

/// The dialect of queries and rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect;

/// Levels of an expression before `GLOB` or `REGEXP`, which is copied: more than any statement may have.
const MAX_COPIED_DEPTH: usize = 128;

/// The parser's own dialect, for all that it does right.
const SQLITE: SQLiteDialect = SQLiteDialect {};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Matching {
    Glob,
    Regexp,
}

fn matching(token: &Token) -> Option<Matching> {
    match token {
        Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("GLOB") => {
            Some(Matching::Glob)
        }
        Token::Word(word) if word.keyword == Keyword::REGEXP => Some(Matching::Regexp),
        _ => None,
    }
}

fn is_not(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.keyword == Keyword::NOT)
}

impl dialect::Dialect for Dialect {
    fn dialect(&self) -> TypeId {
        SQLITE.dialect()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        SQLITE.is_delimited_identifier_start(ch)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        SQLITE.identifier_quote_style(identifier)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        SQLITE.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        SQLITE.is_identifier_part(ch)
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_in_empty_list(&self) -> bool {
        true
    }

    fn supports_limit_comma(&self) -> bool {
        true
    }

    fn supports_dollar_placeholder(&self) -> bool {
        true
    }

    fn supports_notnull_operator(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        let first = &parser.peek_token_ref().token;
        // As in SQLite, nothing binds closer.
        if *first == Token::LongArrow {
            return Some(Ok(self.prec_value(Precedence::DoubleColon)));
        }
        let operator = if is_not(first) { parser.peek_nth_token(1).token } else { first.clone() };
        matching(&operator).map(|_| Ok(self.prec_value(Precedence::Like)))
    }

    fn parse_infix(&self, parser: &mut Parser<'_>, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        let negated = is_not(&parser.peek_token_ref().token);
        let matching = matching(&parser.peek_nth_token(usize::from(negated)).token)?;
        if is_deep(left) {
            return Some(Err(ParserError::RecursionLimitExceeded));
        }
        for _ in 0..=usize::from(negated) {
            parser.advance_token();
        }
        let at = parser.get_current_token().span;
        let pattern = match parser.parse_subexpr(precedence) {
            Ok(pattern) => pattern,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(match matching {
            Matching::Regexp => {
                Expr::RLike { negated, expr: Box::new(left.clone()), pattern: Box::new(pattern), regexp: true }
            }
            Matching::Glob => {
                let glob = call(Ident::with_span(at, "glob"), vec![pattern, left.clone()]);
                if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(glob) } } else { glob }
            }
        }))
    }
}

/// Whether copying the expression would take more of the stack than is safe.
fn is_deep(expr: &Expr) -> bool {
    struct Depth(usize);
    impl Visitor for Depth {
        type Break = ();

        fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
            self.0 += 1;
            if self.0 > MAX_COPIED_DEPTH { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }

        fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
            self.0 -= 1;
            ControlFlow::Continue(())
        }
    }
    expr.visit(&mut Depth(0)).is_break()
}

/// A call of a scalar function.
pub(super) fn call(name: Ident, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(name),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
