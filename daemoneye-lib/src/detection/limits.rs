//! What is refused before a parser sees it, so that hostile text costs next to nothing.

use super::dialect::Dialect;
use super::error::Refusal;
use datafusion::sql::sqlparser::ast::Statement;
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

/// The one `SELECT` that the text holds.
pub(super) fn parse(sql: &str) -> Result<Statement, Refusal> {
    let tokens = tokens(sql)?;
    let mut statements = Parser::new(&Dialect)
        .with_recursion_limit(PARSER_DEPTH)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(Refusal::from_parser)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        (None, _) => Err(Refusal::new("the statement is empty").hint("write a SELECT")),
        (Some(_), false) => Err(Refusal::new("more than one statement").hint("send one SELECT at a time")),
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
        assert_eq!(why("SELECT 1; SELECT 2"), "more than one statement");
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
        assert!(why(&format!("SELECT {} 1", "NOT ".repeat(5_000))).contains("nested"));
        assert!(why(&format!("SELECT {}1{}", "CASE WHEN 1 THEN ".repeat(900), " END".repeat(900))).contains("nested"));
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
