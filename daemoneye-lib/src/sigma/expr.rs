//! Conditions in SQL, written so that people can read them.
//!
//! Only the truth of a condition counts: where an event lacks a field, a condition on it is not met, and its negation is. So `NOT`
//! is written `IS NOT TRUE`, which a NULL meets.

use super::fields::Operand;
use super::pattern::How;
use std::fmt::Write as _;

/// How wide lines of SQL are.
const WIDTH: usize = 110;

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// At least so many hold.
    AtLeast(usize, Vec<Self>),
    /// Whether the field is there.
    Given(Operand, bool),
    /// Whether one of the texts is met, without regard to case.
    Text(How, Operand, Vec<String>),
    /// A list of `lists.toml` in the place of texts.
    List(How, Operand, String),
    /// Anything else, which needs no parentheses beside `AND` and `OR`.
    Sql(String),
}

impl Expr {
    /// All of these; what is itself a conjunction becomes part of it.
    pub(super) fn all(terms: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(terms.len());
        for term in terms {
            match term {
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        one_or(flat, Self::And)
    }

    /// One of these; texts that are so looked for in the same field become one list.
    pub(super) fn any(terms: Vec<Self>) -> Self {
        let mut flat: Vec<Self> = Vec::with_capacity(terms.len());
        let mut add = |term: Self| {
            if let Self::Text(how, operand, texts) = &term {
                let same = flat.iter_mut().find_map(|own| match own {
                    Self::Text(own_how, own, texts) if own_how == how && own == operand => Some(texts),
                    _ => None,
                });
                if let Some(own) = same {
                    own.extend(texts.iter().filter(|text| !own.contains(text)).cloned().collect::<Vec<_>>());
                    return;
                }
            }
            flat.push(term);
        };
        for term in terms {
            match term {
                Self::Or(inner) => inner.into_iter().for_each(&mut add),
                other => add(other),
            }
        }
        one_or(flat, Self::Or)
    }

    /// What is met where this is not.
    pub(super) fn not(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            Self::Given(operand, given) => Self::Given(operand, !given),
            other => Self::Not(Box::new(other)),
        }
    }

    /// The condition as it stands after `WHERE`.
    pub(super) fn to_sql(&self) -> String {
        let mut sql = String::new();
        match self {
            Self::And(terms) => write_terms(&mut sql, terms, "AND", 2),
            other => other.write(&mut sql, 2),
        }
        sql
    }

    fn is_compound(&self) -> bool {
        matches!(self, Self::And(_) | Self::Or(_))
    }

    /// On one line.
    fn flat(&self) -> String {
        let joined = |terms: &[Self], operator: &str| {
            terms.iter().map(Self::flat_operand).collect::<Vec<_>>().join(&format!(" {operator} "))
        };
        match self {
            Self::And(terms) => joined(terms, "AND"),
            Self::Or(terms) => joined(terms, "OR"),
            Self::Not(inner) => format!("({}) IS NOT TRUE", inner.flat()),
            Self::AtLeast(count, terms) => {
                let terms: Vec<_> = terms.iter().map(|term| format!("(({}) IS TRUE)", term.flat())).collect();
                format!("{} >= {count}", terms.join(" + "))
            }
            Self::Given(operand, given) => {
                format!("{} IS {}NULL", operand.tight(), if *given { "NOT " } else { "" })
            }
            Self::Text(how, operand, texts) => {
                let texts: Vec<_> = texts.iter().map(|text| literal(text)).collect();
                format!("{}({}, {})", function(*how), operand.sql, texts.join(", "))
            }
            Self::List(how, operand, name) => format!("{}({}, @{name})", function(*how), operand.sql),
            Self::Sql(sql) => sql.clone(),
        }
    }

    fn flat_operand(&self) -> String {
        if self.is_compound() { format!("({})", self.flat()) } else { self.flat() }
    }

    /// Over several lines where it does not fit one; later lines begin after `indent` spaces.
    fn write(&self, sql: &mut String, indent: usize) {
        let flat = self.flat_operand();
        if flat.chars().count() + indent <= WIDTH {
            sql.push_str(&flat);
            return;
        }
        let pad = " ".repeat(indent);
        match self {
            Self::And(terms) | Self::Or(terms) => {
                let operator = if matches!(self, Self::And(_)) { "AND" } else { "OR" };
                let _ = write!(sql, "(\n{pad}  ");
                write_terms(sql, terms, operator, indent + 2);
                let _ = write!(sql, "\n{pad})");
            }
            Self::Not(inner) => {
                let _ = write!(sql, "(\n{pad}  ");
                match inner.as_ref() {
                    Self::And(terms) => write_terms(sql, terms, "AND", indent + 2),
                    Self::Or(terms) => write_terms(sql, terms, "OR", indent + 2),
                    other => other.write(sql, indent + 2),
                }
                let _ = write!(sql, "\n{pad}) IS NOT TRUE");
            }
            Self::Text(how, operand, texts) => {
                let _ = write!(sql, "{}({},", function(*how), operand.sql);
                let mut width = WIDTH;
                for (index, text) in texts.iter().enumerate() {
                    let text = literal(text);
                    let length = text.chars().count() + 2;
                    if width + length > WIDTH {
                        let _ = write!(sql, "\n{pad}  ");
                        width = indent + 2;
                    } else {
                        sql.push(' ');
                    }
                    width += length;
                    sql.push_str(&text);
                    sql.push_str(if index + 1 < texts.len() { "," } else { ")" });
                }
            }
            _ => sql.push_str(&flat),
        }
    }
}

fn write_terms(sql: &mut String, terms: &[Expr], operator: &str, indent: usize) {
    for (index, term) in terms.iter().enumerate() {
        if index > 0 {
            let _ = write!(sql, "\n{}{operator} ", " ".repeat(indent));
        }
        term.write(sql, indent);
    }
}

fn one_or(mut terms: Vec<Expr>, several: fn(Vec<Expr>) -> Expr) -> Expr {
    match (terms.pop(), terms.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            terms.extend(last);
            several(terms)
        }
    }
}

/// The function that so compares.
pub(super) const fn function(how: How) -> &'static str {
    match how {
        How::Equals => "iequals",
        How::Contains => "icontains",
        How::StartsWith => "istarts_with",
        How::EndsWith => "iends_with",
    }
}

/// A text as a literal: there is no other sign in it that SQL would take for something else.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::fields::Kind;
    use super::*;

    fn operand(sql: &str) -> Operand {
        Operand { sql: sql.to_owned(), kind: Kind::Text }
    }

    fn text(how: How, field: &str, texts: &[&str]) -> Expr {
        Expr::Text(how, operand(field), texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn conditions_are_written_as_people_would() {
        let a = || text(How::EndsWith, "a", &["/x", "it's"]);
        let b = || Expr::Sql("b = 1".to_owned());
        for (expr, wanted) in [
            (a(), "iends_with(a, '/x', 'it''s')"),
            (Expr::all(vec![a(), Expr::any(vec![b(), b()])]), "iends_with(a, '/x', 'it''s')\n  AND (b = 1 OR b = 1)"),
            (Expr::all(vec![Expr::all(vec![b(), b()]), b()]), "b = 1\n  AND b = 1\n  AND b = 1"),
            (
                Expr::any(vec![a(), b(), a(), text(How::EndsWith, "a", &["z"])]),
                "(iends_with(a, '/x', 'it''s', 'z') OR b = 1)",
            ),
            (Expr::any(vec![b(), b()]).not(), "(b = 1 OR b = 1) IS NOT TRUE"),
            (b().not().not(), "b = 1"),
            (Expr::Given(operand("c ->> 'd'"), true).not(), "(c ->> 'd') IS NULL"),
            (Expr::AtLeast(2, vec![a(), b()]), "((iends_with(a, '/x', 'it''s')) IS TRUE) + ((b = 1) IS TRUE) >= 2"),
            (Expr::List(How::Equals, operand("a"), "admins".to_owned()), "iequals(a, @admins)"),
        ] {
            assert_eq!(expr.to_sql(), wanted);
        }
    }

    #[test]
    fn long_lists_are_broken() {
        let words: Vec<String> = (0..40).map(|number| format!("word {number}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let long = text(How::Contains, "a", &words);
        let sql = Expr::all(vec![long.clone(), Expr::any(vec![long, Expr::Sql("b".into())]).not()]).to_sql();
        assert!(sql.lines().all(|line| line.len() <= WIDTH + 2), "{sql}");
        assert_eq!(sql.matches('(').count(), sql.matches(')').count());
        assert!(sql.ends_with("\n  ) IS NOT TRUE"), "{sql}");
    }
}
