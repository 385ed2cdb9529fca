//! The condition of a rule: `selection and not 1 of filter_*`.
//!
//! `not` binds closer than `and`, which binds closer than `or`. Words of the language may be written in capitals.

use super::problem::{SigmaProblem, shortened};

/// Parentheses and `not` within each other.
const MAX_DEPTH: usize = 32;
/// Words and signs of a condition.
const MAX_TOKENS: usize = 4_096;

/// A condition over named selections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Name(String),
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Of(Count, Names),
}

/// How many of the selections must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    All,
    AtLeast(usize),
}

/// Which selections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// All but those whose name begins with `_`.
    Them,
    /// Those that the pattern fits.
    Like(String),
}

impl Names {
    pub(super) fn fit(&self, name: &str) -> bool {
        match self {
            Self::Them => !name.starts_with('_'),
            Self::Like(pattern) => fits(pattern, name),
        }
    }
}

/// `*` stands for any characters, each other character for itself.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

#[derive(Clone, Debug, PartialEq)]
enum Token<'t> {
    Open,
    Close,
    Word(&'t str),
}

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Condition, SigmaProblem> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Err(SigmaProblem::new("the condition is empty"));
    }
    let mut reader = Reader { tokens: &tokens, at: 0, depth: 0 };
    let condition = reader.or()?;
    match reader.peek() {
        None => Ok(condition),
        Some(token) => Err(SigmaProblem::new(format!("the condition should end before {}", shown(token)))),
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, SigmaProblem> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' => {
                tokens.push(if first == '(' { Token::Open } else { Token::Close });
                1
            }
            '|' => {
                let problem = SigmaProblem::new("an aggregation (`|`) in the condition is not supported");
                return Err(problem.hint("write a correlation rule, which has taken its place in Sigma"));
            }
            _ => {
                let end = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
                if end == 0 {
                    return Err(SigmaProblem::new(format!("`{first}` cannot stand in a condition")));
                }
                tokens.push(Token::Word(&rest[..end]));
                end
            }
        };
        if tokens.len() > MAX_TOKENS {
            return Err(SigmaProblem::new(format!("the condition has more than {MAX_TOKENS} words")));
        }
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '.')
}

fn shown(token: &Token<'_>) -> String {
    match token {
        Token::Open => "`(`".to_owned(),
        Token::Close => "`)`".to_owned(),
        Token::Word(word) => format!("`{}`", shortened(word)),
    }
}

struct Reader<'t> {
    tokens: &'t [Token<'t>],
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<&'t Token<'t>> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(own)) if own.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Condition, SigmaProblem> {
        let mut terms = vec![self.and()?];
        while self.take("or") {
            terms.push(self.and()?);
        }
        Ok(one_or(terms, Condition::Or))
    }

    fn and(&mut self) -> Result<Condition, SigmaProblem> {
        let mut terms = vec![self.not()?];
        while self.take("and") {
            terms.push(self.not()?);
        }
        Ok(one_or(terms, Condition::And))
    }

    fn not(&mut self) -> Result<Condition, SigmaProblem> {
        if self.depth > MAX_DEPTH {
            return Err(SigmaProblem::new(format!("the condition is nested more than {MAX_DEPTH} levels deep")));
        }
        self.depth += 1;
        let condition =
            if self.take("not") { self.not().map(|inner| Condition::Not(Box::new(inner))) } else { self.primary() };
        self.depth -= 1;
        condition
    }

    fn primary(&mut self) -> Result<Condition, SigmaProblem> {
        let missing =
            |before: &str| SigmaProblem::new(format!("the condition has nothing where {before} should stand"));
        let token = self.peek().ok_or_else(|| missing("a selection"))?;
        self.at += 1;
        match token {
            Token::Open => {
                let inner = self.or()?;
                match self.peek() {
                    Some(Token::Close) => {
                        self.at += 1;
                        Ok(inner)
                    }
                    Some(token) => Err(SigmaProblem::new(format!("`)` should stand before {}", shown(token)))),
                    None => Err(SigmaProblem::new("a `(` of the condition is not closed")),
                }
            }
            Token::Close => Err(SigmaProblem::new("a selection should stand before `)`")),
            Token::Word(word) => {
                if let Some(count) = count(word)
                    && self.take("of")
                {
                    let Some(Token::Word(names)) = self.peek() else { return Err(missing("selections after `of`")) };
                    self.at += 1;
                    let names =
                        if names.eq_ignore_ascii_case("them") { Names::Them } else { Names::Like((*names).to_owned()) };
                    return Ok(Condition::Of(count, names));
                }
                let reserved = ["and", "or", "not", "of"].iter().any(|own| word.eq_ignore_ascii_case(own));
                if reserved || word.contains('*') {
                    let problem = SigmaProblem::new(format!("{} stands where a selection should", shown(token)));
                    return Err(problem.hint("write for example 1 of selection_*"));
                }
                Ok(Condition::Name((*word).to_owned()))
            }
        }
    }
}

fn count(word: &str) -> Option<Count> {
    if word.eq_ignore_ascii_case("all") {
        Some(Count::All)
    } else if word.eq_ignore_ascii_case("any") {
        Some(Count::AtLeast(1))
    } else {
        word.parse().ok().map(Count::AtLeast)
    }
}

fn one_or(mut terms: Vec<Condition>, several: fn(Vec<Condition>) -> Condition) -> Condition {
    match (terms.pop(), terms.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            terms.extend(last);
            several(terms)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(name: &str) -> Condition {
        Condition::Name(name.to_owned())
    }

    fn not(inner: Condition) -> Condition {
        Condition::Not(Box::new(inner))
    }

    #[test]
    fn words_bind_as_in_sigma() {
        let like = |pattern: &str| Names::Like(pattern.to_owned());
        for (text, wanted) in [
            ("selection", name("selection")),
            ("a and not b or c", Condition::Or(vec![Condition::And(vec![name("a"), not(name("b"))]), name("c")])),
            ("a AND (b OR c)", Condition::And(vec![name("a"), Condition::Or(vec![name("b"), name("c")])])),
            ("not not a", not(not(name("a")))),
            ("1 of selection_*", Condition::Of(Count::AtLeast(1), like("selection_*"))),
            ("any of sel*", Condition::Of(Count::AtLeast(1), like("sel*"))),
            ("3 of them", Condition::Of(Count::AtLeast(3), Names::Them)),
            ("all of filter_main_x", Condition::Of(Count::All, like("filter_main_x"))),
            ("\n  a\n  and\tb", Condition::And(vec![name("a"), name("b")])),
            ("android", name("android")),
            ("all", name("all")),
            ("1", name("1")),
        ] {
            assert_eq!(parse(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for (text, why) in [
            ("", "is empty"),
            ("a and", "nothing where a selection"),
            ("a b", "should end before `b`"),
            ("(a or b", "not closed"),
            ("(a b)", "`)` should stand before `b`"),
            ("a)", "should end before `)`"),
            ("()", "before `)`"),
            ("and", "`and` stands where a selection should"),
            ("selection_*", "`selection_*` stands"),
            ("1 of", "selections after `of`"),
            ("a | count() > 5", "an aggregation"),
            ("a & b", "`&` cannot stand"),
            ("a;b", "`;` cannot stand"),
        ] {
            let problem = parse(text).unwrap_err().to_string();
            assert!(problem.contains(why), "{text}: {problem}");
        }
        assert!(parse(&"(".repeat(100)).unwrap_err().to_string().contains("levels deep"));
        assert!(parse(&"not ".repeat(100)).unwrap_err().to_string().contains("levels deep"));
        assert!(parse(&"a or ".repeat(10_000)).unwrap_err().to_string().contains("more than 4096 words"));
        assert!(matches!(parse(&vec!["a"; 2_000].join(" or ")).unwrap(), Condition::Or(terms) if terms.len() == 2_000));
    }

    #[test]
    fn patterns_choose_selections() {
        for (pattern, name, fits) in [
            ("selection_*", "selection_img", true),
            ("selection_*", "selection", false),
            ("*_img", "selection_img", true),
            ("sel*img", "selection_img", true),
            ("sel*main", "selection_img", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*", "_hidden", true),
            ("x", "x", true),
            ("x", "xy", false),
        ] {
            assert_eq!(Names::Like(pattern.to_owned()).fit(name), fits, "{pattern} {name}");
        }
        assert!(Names::Them.fit("selection") && !Names::Them.fit("_hidden"));
    }

    proptest! {
        #[test]
        fn arbitrary_words_never_panic(words in prop::collection::vec(
            prop::sample::select(vec!["a", "and", "or", "not", "1", "all", "of", "them", "b_*", "(", ")", "|", "é"]), 0..30,
        )) {
            let _ = parse(&words.join(" "));
        }
    }
}
