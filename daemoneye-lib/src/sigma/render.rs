//! The rule file: TOML that people can read, whatever the texts in it are.

use super::rule::About;
use std::fmt::Write as _;

/// What a rule file is made of.
pub(super) struct File<'a> {
    pub(super) id: &'a str,
    pub(super) about: &'a About,
    /// The licence, where the rule says none.
    pub(super) license: &'a str,
    pub(super) dedup: Option<Vec<String>>,
    /// Of a rule that looks at a stretch of time, in the words of a rule file.
    pub(super) window: Option<(String, String)>,
    pub(super) sql: String,
}

/// The severity that a level is.
pub(super) fn severity(level: Option<&str>) -> Result<&'static str, String> {
    Ok(match level.map(str::to_ascii_lowercase).as_deref() {
        None | Some("medium") => "medium",
        Some("informational" | "low") => "low",
        Some("high") => "high",
        Some("critical") => "critical",
        Some(_) => return Err("the `level` is none of informational, low, medium, high, critical".to_owned()),
    })
}

impl File<'_> {
    /// The text of the file.
    pub(super) fn text(&self, severity: &str) -> String {
        let about = self.about;
        let mut file = "# Compiled from a Sigma rule: change that one and import it again.\n".to_owned();
        let mut line = |key: &str, value: String| {
            let _ = writeln!(file, "{key} = {value}");
        };
        line("id", quoted(self.id));
        line("title", quoted(&about.title));
        line("severity", quoted(severity));
        if !about.tags.is_empty() {
            line("tags", list(&about.tags));
        }
        let license = if about.license.is_empty() { self.license } else { &about.license };
        for (key, text) in [
            ("author", about.author.as_str()),
            ("license", license),
            ("status", &about.status),
            ("date", &about.date),
            ("modified", &about.modified),
        ] {
            if !text.is_empty() {
                line(key, quoted(text));
            }
        }
        if !about.description.is_empty() {
            line("description", several_lines(about.description.trim_end()));
        }
        for (key, texts) in [("references", &about.references), ("false_positives", &about.false_positives)] {
            if !texts.is_empty() {
                line(key, list(texts));
            }
        }
        if let Some(dedup) = &self.dedup {
            line("dedup", list(dedup));
        }
        if let Some((window, every)) = &self.window {
            line("window", quoted(window));
            line("every", quoted(every));
        }
        line("sql", several_lines(&self.sql));
        file
    }
}

/// A text on one line.
fn quoted(text: &str) -> String {
    let mut out = "\"".to_owned();
    text.chars().for_each(|c| push(&mut out, c, false));
    out.push('"');
    out
}

/// A text of several lines, as it is where nothing in it is special.
fn several_lines(text: &str) -> String {
    if !text.contains("'''") && !text.ends_with('\'') && !text.chars().any(|c| c != '\n' && is_special(c)) {
        return format!("'''\n{text}\n'''");
    }
    let mut out = "\"\"\"\n".to_owned();
    text.chars().for_each(|c| push(&mut out, c, true));
    out.push_str("\n\"\"\"");
    out
}

fn list<S: AsRef<str>>(texts: &[S]) -> String {
    let mut out = "[".to_owned();
    for text in texts {
        let _ = write!(out, "\n    {},", quoted(text.as_ref()));
    }
    out.push_str("\n]");
    out
}

fn push(out: &mut String, c: char, lines: bool) {
    match c {
        '\n' if lines => out.push(c),
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        c if is_special(c) => {
            let _ = write!(out, "\\U{:08X}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// Characters that are not seen, or change how others are seen.
fn is_special(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || matches!(c, '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(value: &str) -> toml::Value {
        let table: toml::Table = toml::from_str(&format!("v = {value}\n")).unwrap();
        table["v"].clone()
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "(\\PC|\n|\t|\r|\0|\u{1b}|\u{202e}|'|\"|\\\\|'''|\"\"\"){0,20}") {
            prop_assert_eq!(read(&quoted(&text)), toml::Value::from(text.as_str()));
            let lines = read(&several_lines(&text));
            prop_assert_eq!(lines, toml::Value::from(format!("{text}\n")));
            prop_assert_eq!(read(&list(&[&text, "x"])), toml::Value::from(vec![text.as_str(), "x"]));
        }
    }

    #[test]
    fn nothing_that_is_not_seen_is_in_the_file() {
        for text in [quoted("a\u{1b}[2J\u{202e}b\0\u{e0041}"), several_lines("a\u{1b}\nb\r\u{2066}")] {
            assert!(!text.chars().any(|c| c != '\n' && is_special(c)), "{text:?}");
        }
    }
}
