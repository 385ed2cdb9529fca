//! `lists.toml`: named lists of values, which rules use as `column IN (@name)`.
//!
//! The file is flat: each key is a list's name, each value an array of texts and whole numbers.

use super::directory::read;
use super::problem::RuleProblem;
use crate::detection::error::nearest;
use crate::detection::lower::Parameter;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;

/// What the file is called.
pub const FILE: &str = "lists.toml";
/// The most values of a list, and of all lists that one `IN (…)` names.
pub const MAX_VALUES: usize = 10_000;

/// Named lists of values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists(BTreeMap<String, Vec<Parameter>>);

impl Lists {
    /// Reads the file; gives its text too.
    pub(super) fn load(file: &Path) -> Result<(Self, String), RuleProblem> {
        let text = read(file).map_err(|error| RuleProblem::of_file(file, format!("cannot be read: {error}")))?;
        Ok((Self::parse(file, &text)?, text))
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// What is wrong with it, with its place.
    pub fn parse(file: &Path, source: &str) -> Result<Self, RuleProblem> {
        let lists: BTreeMap<Spanned<String>, Spanned<toml::Value>> =
            toml::from_str(source).map_err(|error| RuleProblem::of_toml(file, source, &error))?;
        let mut read = BTreeMap::new();
        for (name, values) in lists {
            let wrong = |offset: usize, message: String| Err(RuleProblem::of_file(file, message).at(source, offset));
            let (at, name) = (name.span().start, name.into_inner());
            let is_name = name.len() <= 128
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if !is_name {
                return wrong(at, format!("the list's name `{name}` is not of the form [a-z][a-z0-9_]*"));
            }
            let at = values.span().start;
            let toml::Value::Array(values) = values.into_inner() else {
                return wrong(at, format!("the list `{name}` is no array: write {name} = [\"…\", \"…\"]"));
            };
            if values.len() > MAX_VALUES {
                let message = format!("the list `{name}` has {} values; {MAX_VALUES} are allowed", values.len());
                return wrong(at, message);
            }
            let mut list = Vec::with_capacity(values.len());
            for value in values {
                list.push(match value {
                    toml::Value::String(text) => Parameter::Text(text),
                    toml::Value::Integer(number) => Parameter::Integer(number),
                    other => {
                        let kind = other.type_str();
                        return wrong(
                            at,
                            format!("the list `{name}` holds a {kind}: only texts and whole numbers may be in it"),
                        );
                    }
                });
            }
            read.insert(name, list);
        }
        Ok(Self(read))
    }

    /// The values of a list.
    pub(in crate::detection) fn get(&self, name: &str) -> Option<&[Parameter]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// What to say of a list that is not there.
    pub(in crate::detection) fn hint_for(&self, name: &str) -> String {
        match nearest(name, self.0.keys().map(String::as_str)) {
            Some(nearest) => format!("did you mean `@{nearest}`?"),
            None if self.0.is_empty() => format!("name it in {FILE} at the top of the rules directory"),
            None => {
                let names: Vec<_> = self.0.keys().take(60).map(|name| format!("@{name}")).collect();
                format!("the lists of {FILE} are {}", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Lists, RuleProblem> {
        Lists::parse(Path::new(FILE), text)
    }

    #[test]
    fn lists_hold_texts_and_numbers() {
        let lists = parse("shells = ['sh', 'bash']\nports = [1, 22]\nempty = []\n").unwrap();
        assert_eq!(lists.get("shells").map(<[_]>::len), Some(2));
        assert_eq!(lists.get("ports"), Some(&[Parameter::Integer(1), Parameter::Integer(22)][..]));
        assert_eq!(lists.get("empty"), Some(&[][..]));
        assert!(lists.get("none").is_none());
        assert_eq!(lists.hint_for("shell"), "did you mean `@shells`?");
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        for (text, message, line, column) in [
            ("a = 'x'\n", "the list `a` is no array", 1, 5),
            ("a = ['x']\n\nBig = []\n", "the list's name `Big`", 3, 1),
            ("a = ['x', 1.5]\n", "holds a float", 1, 5),
            ("a = [[1]]\n", "holds a array", 1, 5),
            ("a = ['x'\n", "", 1, 9),
            ("a = []\na = []\n", "duplicate key", 2, 1),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.message.contains(message), "{text}: {problem:?}");
            assert_eq!((problem.line, problem.column), (line, column), "{text}: {problem:?}");
        }
        let many = format!("a = [{}]", "1,".repeat(MAX_VALUES + 1));
        assert!(parse(&many).unwrap_err().message.contains("10000 are allowed"));
    }
}
