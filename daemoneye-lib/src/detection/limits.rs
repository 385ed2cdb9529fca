//! What is refused before a parser sees it, so that hostile text costs next to nothing.

use super::dialect::Dialect;
use super::error::Refusal;
use super::lower::not_select;
use datafusion::sql::sqlparser::ast::{Expr, Statement};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};

/// The longest statement.
pub const MAX_SQL_BYTES: usize = 64 * 1024;
/// Words, numbers and signs of a statement, white space left out.
const MAX_TOKENS: usize = 10_000;
/// Parentheses within parentheses.
const MAX_PARENTHESES: usize = 50;
/// The parser's own depth: several of its steps make one level of nesting.
const PARSER_DEPTH: usize = 300;

const SEVERAL: &str = "more than one statement";

/// The one `SELECT` that the text holds.
pub(super) fn parse(sql: &str) -> Result<Statement, Refusal> {
    parse_one(sql).map_err(|refusal| placed(sql, refusal))
}

/// The one condition that the text holds.
pub(super) fn parse_condition(sql: &str) -> Result<Expr, Refusal> {
    let tokens = tokens(sql)?;
    let mut parser = Parser::new(&Dialect).with_recursion_limit(PARSER_DEPTH).with_tokens_with_locations(tokens);
    let condition = parser.parse_expr().map_err(Refusal::from_parser)?;
    let next = parser.peek_token();
    if next.token == Token::EOF {
        return Ok(condition);
    }
    let refusal = Refusal::new(format!("syntax error: a condition should end before `{}`", next.token));
    Err(refusal.hint("write one condition, as it would stand after WHERE").at(next.span))
}

fn parse_one(sql: &str) -> Result<Statement, Refusal> {
    let tokens = tokens(sql)?;
    if let Some(verb) = tokens.iter().find_map(word)
        && NOT_SELECT.contains(&verb.as_str())
    {
        return Err(not_select(&verb));
    }
    let mut statements = Parser::new(&Dialect)
        .with_recursion_limit(PARSER_DEPTH)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(Refusal::from_parser)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        (None, _) => Err(Refusal::new("the statement is empty").hint("write a SELECT")),
        (Some(_), false) => Err(Refusal::new(SEVERAL).hint("send one SELECT at a time")),
    }
}

/// Verbs that begin other statements. The parser does not know all of them, and an operator means them all the same.
const NOT_SELECT: [&str; 30] = [
    "ALTER",
    "ANALYZE",
    "ATTACH",
    "BEGIN",
    "CALL",
    "COMMIT",
    "COPY",
    "CREATE",
    "DELETE",
    "DESCRIBE",
    "DETACH",
    "DROP",
    "EXECUTE",
    "EXPLAIN",
    "GRANT",
    "INSERT",
    "LOAD",
    "MERGE",
    "PRAGMA",
    "REINDEX",
    "RELEASE",
    "REPLACE",
    "ROLLBACK",
    "SAVEPOINT",
    "SET",
    "SHOW",
    "TRUNCATE",
    "UPDATE",
    "USE",
    "VACUUM",
];

fn word(token: &TokenWithSpan) -> Option<String> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    }
}

/// A place for a refusal that came without one: where the word stands with which it begins, where the second statement
/// begins, or the end of the text.
pub(super) fn placed(sql: &str, refusal: Refusal) -> Refusal {
    if refusal.line > 0 {
        return refusal;
    }
    let Ok(mut tokens) = tokens(sql) else { return refusal };
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let verb =
        refusal.message.split_whitespace().next().filter(|verb| !verb.contains(|c: char| !c.is_ascii_uppercase()));
    let place = if let Some(verb) = verb {
        tokens.iter().find(|token| word(token).as_deref() == Some(verb)).map(|token| token.span.start)
    } else if refusal.message == SEVERAL {
        let second = tokens.iter().skip_while(|token| token.token != Token::SemiColon);
        second.skip(1).find(|token| token.token != Token::SemiColon).map(|token| token.span.start)
    } else if refusal.message.ends_with("found: EOF") {
        tokens.last().map(|token| token.span.end)
    } else {
        None
    };
    match place {
        Some(place) => refusal.at_location(place),
        None => refusal,
    }
}

fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, Refusal> {
    if sql.len() > MAX_SQL_BYTES {
        let message = format!("the statement has {} bytes; {MAX_SQL_BYTES} are allowed", sql.len());
        return Err(Refusal::new(message).hint("shorten it, for example with parameters or a rule"));
    }
    let tokens = Tokenizer::new(&Dialect, sql).tokenize_with_location().map_err(Refusal::from_tokenizer)?;
    let mut words = 0;
    let mut depth = 0_usize;
    for token in &tokens {
        match &token.token {
            Token::Whitespace(Whitespace::SingleLineComment { .. } | _) => continue,
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        words += 1;
        if depth > MAX_PARENTHESES {
            let message = format!("more than {MAX_PARENTHESES} parentheses within each other");
            return Err(Refusal::new(message).at(token.span));
        }
        if words > MAX_TOKENS {
            return Err(
                Refusal::new(format!("the statement has more than {MAX_TOKENS} words and signs")).at(token.span)
            );
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(sql: &str) -> String {
        parse(sql).unwrap_err().to_string()
    }

    #[test]
    fn one_statement_is_taken() {
        assert!(parse("SELECT 1").is_ok());
        assert!(parse("SELECT 1;").is_ok());
        assert_eq!(why(""), "the statement is empty");
        assert_eq!(why("SELECT 1; SELECT 2"), "more than one statement (line 1, column 11)");
    }

    #[test]
    fn syntax_errors_have_their_place() {
        let refusal = parse("SELECT *\nFROM processes WHERE").unwrap_err();
        assert!(refusal.message.starts_with("syntax error"), "{refusal:?}");
        let refusal = parse("SELECT 'open").unwrap_err();
        assert_eq!((refusal.line, refusal.column), (1, 8), "{refusal:?}");
    }

    #[test]
    fn too_much_is_refused() {
        assert!(why(&"x".repeat(10 << 20)).contains("bytes"));
        assert!(why(&format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000))).contains("parentheses"));
        assert!(why(&format!("SELECT 1{}", "+1".repeat(6_000))).contains("words"));
        assert!(parse(&format!("SELECT {} 1", "NOT ".repeat(5_000))).is_err());
    }

    #[test]
    fn regexp_and_glob_bind_like_like() {
        for (sql, parsed) in [
            ("a REGEXP 'x' AND b", "a REGEXP 'x' AND b"),
            ("a NOT REGEXP 'x' OR b", "a NOT REGEXP 'x' OR b"),
            ("a GLOB 'x*' AND b", "glob('x*', a) AND b"),
            ("a NOT GLOB 'x*' AND NOT b", "NOT glob('x*', a) AND NOT b"),
        ] {
            assert_eq!(parse(&format!("SELECT {sql}")).unwrap().to_string(), format!("SELECT {parsed}"));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(sql in ".{0,200}") {
            let _ = parse(&sql);
        }

        #[test]
        fn arbitrary_words_never_panic(words in prop::collection::vec(
            prop::sample::select(vec!["SELECT", "FROM", "(", ")", ",", "*", "a", "'x'", "1", "WITH", "AS", "CASE", "END", "GLOB", "REGEXP", "NOT", "?", ":p", "x'", "--", "/*", ";"]), 0..40,
        )) {
            let _ = parse(&words.join(" "));
        }
    }
}
