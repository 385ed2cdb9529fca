//! What stands behind a field's name: `CommandLine|contains|all`.

use super::pattern::How;
use super::problem::{SigmaProblem, shortened};

/// The modifiers of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Modifiers {
    pub(super) test: Test,
    /// Every value must be met, not one of them.
    pub(super) all: bool,
    /// Case counts.
    pub(super) cased: bool,
    /// None of the values may be met.
    pub(super) neq: bool,
    pub(super) base64: Option<Base64>,
    pub(super) utf16: Option<Utf16>,
    pub(super) windash: bool,
    /// `%name%` stands for a list.
    pub(super) expand: bool,
    /// The value is the name of another field.
    pub(super) fieldref: bool,
}

/// What is asked of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Text(How),
    /// A regular expression with its flags.
    Regex {
        ignore_case: bool,
        multi_line: bool,
        dot_all: bool,
    },
    Network,
    Exists,
    /// An SQL operator.
    Compare(&'static str),
    /// A part of a time, as `strftime` names it.
    Time(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base64 {
    Whole,
    /// At any place of a longer text.
    Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Utf16 {
    Little,
    Big,
    /// Little-endian behind a byte order mark.
    Marked,
}

impl Default for Test {
    fn default() -> Self {
        Self::Text(How::Equals)
    }
}

impl Modifiers {
    /// Reads the words; contradictions are refused.
    pub(super) fn parse<'w>(words: impl Iterator<Item = &'w str>) -> Result<Self, SigmaProblem> {
        let mut own = Self::default();
        let mut test: Option<(&str, Test)> = None;
        let mut flags = Vec::new();
        for word in words {
            let asked = match word {
                "contains" => Some(Test::Text(How::Contains)),
                "startswith" => Some(Test::Text(How::StartsWith)),
                "endswith" => Some(Test::Text(How::EndsWith)),
                "re" => Some(Test::Regex { ignore_case: false, multi_line: false, dot_all: false }),
                "cidr" => Some(Test::Network),
                "exists" => Some(Test::Exists),
                "gt" => Some(Test::Compare(">")),
                "gte" => Some(Test::Compare(">=")),
                "lt" => Some(Test::Compare("<")),
                "lte" => Some(Test::Compare("<=")),
                "minute" => Some(Test::Time("%M")),
                "hour" => Some(Test::Time("%H")),
                "day" => Some(Test::Time("%d")),
                "month" => Some(Test::Time("%m")),
                "year" => Some(Test::Time("%Y")),
                _ => None,
            };
            if let Some(asked) = asked {
                match test {
                    Some((other, _)) if other != word => return Err(conflict(other, word)),
                    _ => test = Some((word, asked)),
                }
                continue;
            }
            match word {
                "all" => own.all = true,
                "cased" => own.cased = true,
                "neq" => own.neq = true,
                "windash" => own.windash = true,
                "expand" => own.expand = true,
                "fieldref" => own.fieldref = true,
                "base64" => own.set_base64(Base64::Whole)?,
                "base64offset" => own.set_base64(Base64::Offset)?,
                "wide" | "utf16le" => own.set_utf16(Utf16::Little)?,
                "utf16be" => own.set_utf16(Utf16::Big)?,
                "utf16" => own.set_utf16(Utf16::Marked)?,
                "i" | "ignorecase" | "m" | "multiline" | "s" | "dotall" => flags.push(word),
                "not" => {
                    let problem = SigmaProblem::new("`not` is no modifier");
                    return Err(problem.hint("write it in the condition, or the modifier neq"));
                }
                other => return Err(SigmaProblem::new(format!("unknown modifier `{}`", shortened(other)))),
            }
        }
        if let Some((_, asked)) = test {
            own.test = asked;
        }
        own.flags(&flags)?;
        own.check(test.map(|(word, _)| word))?;
        Ok(own)
    }

    fn set_base64(&mut self, base64: Base64) -> Result<(), SigmaProblem> {
        match self.base64.replace(base64) {
            Some(other) if other != base64 => Err(conflict("base64", "base64offset")),
            _ => Ok(()),
        }
    }

    fn set_utf16(&mut self, utf16: Utf16) -> Result<(), SigmaProblem> {
        if self.base64.is_some() {
            return Err(
                SigmaProblem::new("a modifier of UTF-16 stands behind one of Base64").hint("let it stand before")
            );
        }
        match self.utf16.replace(utf16) {
            Some(other) if other != utf16 => Err(SigmaProblem::new("two forms of UTF-16 contradict each other")),
            _ => Ok(()),
        }
    }

    fn flags(&mut self, flags: &[&str]) -> Result<(), SigmaProblem> {
        let Some(first) = flags.first() else { return Ok(()) };
        let Test::Regex { ignore_case, multi_line, dot_all } = &mut self.test else {
            return Err(SigmaProblem::new(format!("the modifier `{first}` is a flag of `re`, which is missing")));
        };
        for flag in flags {
            match *flag {
                "i" | "ignorecase" => *ignore_case = true,
                "m" | "multiline" => *multi_line = true,
                _ => *dot_all = true,
            }
        }
        Ok(())
    }

    /// Of what is not a comparison of texts, the texts cannot be encoded; and what is found at any place has no beginning.
    fn check(&self, test: Option<&str>) -> Result<(), SigmaProblem> {
        let encoded = [
            (self.base64.is_some(), "base64"),
            (self.utf16.is_some(), "wide"),
            (self.windash, "windash"),
            (self.expand, "expand"),
        ];
        let encoded = encoded.into_iter().find_map(|(is_set, name)| is_set.then_some(name));
        let is_text = matches!(self.test, Test::Text(_)) && !self.fieldref;
        if let (Some(name), false) = (encoded, is_text) {
            return Err(conflict(test.unwrap_or("fieldref"), name));
        }
        if self.fieldref && !matches!(self.test, Test::Text(_)) {
            return Err(conflict("fieldref", test.unwrap_or_default()));
        }
        if self.expand && (self.base64.is_some() || self.utf16.is_some() || self.windash) {
            return Err(conflict("expand", encoded.unwrap_or_default()));
        }
        match (self.base64, self.test) {
            (Some(Base64::Offset), Test::Text(How::StartsWith)) => Err(conflict("base64offset", "startswith")),
            (Some(Base64::Offset), Test::Text(How::EndsWith)) => Err(conflict("base64offset", "endswith")),
            _ => Ok(()),
        }
    }
}

fn conflict(one: &str, other: &str) -> SigmaProblem {
    SigmaProblem::new(format!("the modifiers `{one}` and `{other}` contradict each other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Modifiers, String> {
        Modifiers::parse(words.split('|').filter(|word| !word.is_empty())).map_err(|problem| problem.to_string())
    }

    #[test]
    fn words_say_what_is_asked() {
        let contains = Test::Text(How::Contains);
        for (words, wanted) in [
            ("", Modifiers::default()),
            ("contains|all", Modifiers { test: contains, all: true, ..Modifiers::default() }),
            ("contains|contains", Modifiers { test: contains, ..Modifiers::default() }),
            (
                "re|i|s",
                Modifiers {
                    test: Test::Regex { ignore_case: true, multi_line: false, dot_all: true },
                    ..Modifiers::default()
                },
            ),
            ("cased", Modifiers { cased: true, ..Modifiers::default() }),
            ("gte", Modifiers { test: Test::Compare(">="), ..Modifiers::default() }),
            (
                "wide|base64offset|contains",
                Modifiers {
                    test: contains,
                    utf16: Some(Utf16::Little),
                    base64: Some(Base64::Offset),
                    ..Modifiers::default()
                },
            ),
            (
                "fieldref|endswith",
                Modifiers { test: Test::Text(How::EndsWith), fieldref: true, ..Modifiers::default() },
            ),
        ] {
            assert_eq!(parse(words).as_ref(), Ok(&wanted), "{words}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (words, why) in [
            ("contains|startswith", "`contains` and `startswith` contradict"),
            ("re|contains", "`re` and `contains`"),
            ("re|base64", "`re` and `base64`"),
            ("cidr|windash", "`cidr` and `windash`"),
            ("base64|base64offset", "`base64` and `base64offset`"),
            ("wide|utf16be|base64", "two forms of UTF-16"),
            ("base64|wide", "behind one of Base64"),
            ("base64offset|endswith", "`base64offset` and `endswith`"),
            ("fieldref|re", "`fieldref` and `re`"),
            ("contains|i", "a flag of `re`"),
            ("not", "is no modifier"),
            ("containz", "unknown modifier `containz`"),
            ("expand|base64", "`expand` and `base64`"),
        ] {
            let problem = parse(words).unwrap_err();
            assert!(problem.contains(why), "{words}: {problem}");
        }
    }
}
