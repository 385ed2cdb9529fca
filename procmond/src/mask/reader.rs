//! Reads words one by one and knows what is expected of the next one.

use super::assignments::{self, Header, is_scheme};
use super::names::Names;
use super::piped::Piped;
use super::tools::{self, Form, Place, Tool};
use super::words;
use std::ops::Range;

/// So deep command lines within command lines are read by their quotes; deeper ones without.
const DEPTH: u8 = 3;

/// Calls back for each argument that holds secrets.
pub(super) fn arguments(names: &Names, values: &mut [String], mut each: impl FnMut(&mut String, Vec<Range<usize>>)) {
    let mut reader = Reader::new(names);
    for value in values {
        let mut found = Vec::new();
        let spaced = value.bytes().any(|byte| byte.is_ascii_whitespace());
        let command = spaced && std::mem::take(&mut reader.takes_command);
        let whole = !command && reader.word(value, (spaced, false), &mut found);
        if spaced && !whole {
            nested(names, value, 0, 1, &mut found);
        }
        if !found.is_empty() {
            each(value, found);
        }
    }
}

/// Reads a text as a command line of its own; `base` is where it stands.
fn nested(names: &Names, text: &str, base: usize, depth: u8, found: &mut Vec<Range<usize>>) {
    let mut reader = Reader::new(names);
    let mut piped = Piped::default();
    words::split(text, depth < DEPTH, |word| {
        if word.begins {
            reader.begin();
        }
        let mut own = Vec::new();
        let place = word.place.start;
        piped.word(text, &word, |secret| found.push(base + secret.start..base + secret.end));
        let quoted = !word.quoted.is_empty();
        let whole = reader.word(text.get(word.place).unwrap_or_default(), (false, quoted), &mut own);
        found.extend(own.into_iter().map(|secret| base + place + secret.start..base + place + secret.end));
        for between in word.quoted.into_iter().filter(|_| !whole) {
            nested(names, text.get(between.clone()).unwrap_or_default(), base + between.start, depth + 1, found);
        }
    });
}

/// What the next word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Anything,
    /// A secret in this form.
    Secret(Form),
    /// A header's value: a scheme, or all that follows.
    HeaderValue,
    /// Secret to the end.
    Rest,
}

struct Reader<'a> {
    names: &'a Names,
    tool: Option<&'static Tool>,
    /// The word behind which its flags count has come.
    armed: bool,
    expected: Expected,
    /// The next argument is a command line: `sh -c`.
    takes_command: bool,
    /// No word of this command has been read yet.
    first: bool,
    /// The last word of the tool's that secrets stand behind, where it was the last one.
    behind: Option<&'static str>,
    /// After so many words come secrets in this form.
    tail: Option<(usize, Form)>,
}

impl<'a> Reader<'a> {
    fn new(names: &'a Names) -> Self {
        Self {
            names,
            tool: None,
            armed: false,
            expected: Expected::Anything,
            takes_command: false,
            first: true,
            behind: None,
            tail: None,
        }
    }

    /// Another command begins.
    fn begin(&mut self) {
        (self.tool, self.first, self.tail) = (None, true, None);
        if matches!(self.expected, Expected::Secret(_)) {
            self.expected = Expected::Anything;
        }
    }

    /// Finds the secrets in a word; `spaced` says that it is an argument with spaces, `quoted` that it has some in quotes,
    /// which are read on their own. True when the word as a whole, or to its end, is one.
    fn word(&mut self, text: &str, (spaced, quoted): (bool, bool), found: &mut Vec<Range<usize>>) -> bool {
        let expected = std::mem::replace(&mut self.expected, Expected::Anything);
        let first = std::mem::take(&mut self.first);
        self.takes_command = false;
        match expected {
            Expected::HeaderValue if is_scheme(text) => {
                self.expected = Expected::Rest;
                return true;
            }
            Expected::HeaderValue | Expected::Rest => {
                self.expected = Expected::Rest;
                found.push(0..text.len());
                return true;
            }
            Expected::Secret(form) if is_value(text, form) => {
                found.extend(form.secret(text));
                return true;
            }
            _ => {}
        }
        let in_tail = self.tail(text);
        if let Some(secret) = in_tail.flatten().and_then(|form| form.secret(text)) {
            found.push(secret);
            return true;
        }
        if text.len() < 2 {
            return false;
        }
        if in_tail.is_none() {
            self.know_tool(text, first);
            self.begin_tail(text);
        }
        if self.tool_flag(text, found) {
            return true;
        }
        match assignments::header(self.names, text).filter(|_| !quoted) {
            Some(Header::Value(start)) => {
                found.push(start..text.len());
                return true;
            }
            Some(Header::Follows) => {
                self.expected = Expected::HeaderValue;
                return true;
            }
            Some(Header::NextWord) => {
                self.expected = Expected::Secret(Form::Whole);
                return true;
            }
            None => {}
        }
        assignments::in_urls(text, found);
        assignments::in_members(self.names, text, found);
        let before = found.len();
        assignments::in_settings(self.names, text, spaced, found);
        if text.starts_with('-') {
            let flag = !text.contains(['=', ':']) && !spaced && self.names.is_secret_flag(text);
            if flag {
                self.expected = Expected::Secret(Form::Whole);
            } else if let Some((name, value)) =
                text.split_once('=').filter(|(name, _)| Names::is_credentials_flag(name))
            {
                let start = name.len() + 1;
                let secret = Form::Credentials.secret(value);
                found.extend(secret.map(|secret| start + secret.start..start + secret.end));
            } else if text.starts_with("--") && Names::is_credentials_flag(text) {
                self.expected = Expected::Secret(Form::Credentials);
            }
            self.takes_command = text.ends_with('c') && !text.starts_with("--") && text.len() <= 5;
        } else if text.starts_with(['"', '\'']) && text.ends_with(':') {
            let name = text.trim_matches(['"', '\'', ':']);
            if self.names.is_secret(name) {
                self.expected = Expected::Secret(Form::Whole);
            }
        }
        spaced && found[before..].iter().any(|secret| secret.end == text.len())
    }

    /// Counts a word that may stand before secrets, or be one, then in the form that is given; `None` for any other.
    fn tail(&mut self, text: &str) -> Option<Option<Form>> {
        let (skip, form) = self.tail?;
        if skip > 0 && !text.starts_with('-') {
            self.tail = Some((skip - 1, form));
            return Some(None);
        }
        (skip == 0 && !looks_like_flag(text)).then_some(Some(form))
    }

    /// Secrets may stand behind this word.
    fn begin_tail(&mut self, text: &str) {
        let tails = self.tool.map_or(&[][..], |tool| tool.tails);
        let last = self.behind.take();
        for tail in tails {
            let before = tail.behind.len() < 2 || last == tail.behind.first().copied();
            if before && tail.behind.last().is_some_and(|word| is_word(text, word)) {
                let skip = self.tail.map_or(tail.skip, |(skip, _)| skip.min(tail.skip));
                self.tail = Some((skip, tail.form));
            }
        }
        self.behind = tails.iter().filter_map(|tail| tail.behind.first()).find(|word| **word == text).copied();
    }

    /// A tool may stand behind others that start it; one whose secrets are no flags must stand first.
    fn know_tool(&mut self, text: &str, first: bool) {
        if text.starts_with('-') {
            return;
        }
        let name = text.rsplit('/').next().unwrap_or_default();
        if let Some(tool) = tools::find(name).filter(|tool| !text.contains(':') && (first || tool.operands.is_none())) {
            (self.tool, self.armed) = (Some(tool), tool.only_after.is_none());
        } else if self.tool.is_some_and(|tool| tool.only_after == Some(text)) {
            self.armed = true;
        }
    }

    /// Whether the word is a flag of the tool that has to do with a secret.
    fn tool_flag(&mut self, text: &str, found: &mut Vec<Range<usize>>) -> bool {
        let Some(tool) = self.tool.filter(|_| self.armed) else { return false };
        for flag in tool.flags {
            let long = flag.text.starts_with("--");
            if text == flag.text {
                if flag.place != Place::Glued {
                    self.expected = Expected::Secret(flag.form);
                }
                return true;
            }
            if flag.place != Place::Next
                && let Some(glued) = text.strip_prefix(flag.text)
                && let Some(value) = if long { glued.strip_prefix('=') } else { Some(glued) }
            {
                let start = text.len() - value.len();
                found.extend(flag.form.secret(value).map(|secret| start + secret.start..start + secret.end));
                return true;
            }
            // Short flags in one word, of which the last takes a value: `-su`.
            let bundled = !long && flag.text.len() == 2 && flag.text.starts_with('-') && flag.place == Place::Both;
            let letters = text.strip_prefix('-').unwrap_or_default();
            if bundled
                && (2..8).contains(&letters.len())
                && letters.bytes().all(|byte| byte.is_ascii_alphabetic())
                && letters.ends_with(&flag.text[1..])
            {
                self.expected = Expected::Secret(flag.form);
                return true;
            }
        }
        if let Some(form) = tool.operands.filter(|_| !text.starts_with(['-', '/', '@'])) {
            let secret = form.secret(text);
            let is_one = secret.is_some();
            found.extend(secret);
            return is_one;
        }
        false
    }
}

/// Whether the text is this word, or has the letter of this short flag among its own.
fn is_word(text: &str, word: &str) -> bool {
    match word.strip_prefix('-') {
        Some(letter) => text.strip_prefix('-').is_some_and(|own| !own.starts_with('-') && own.contains(letter)),
        None => text == word,
    }
}

/// Whether this word, where a secret in this form is expected, is none of another kind.
fn is_value(text: &str, form: Form) -> bool {
    let other = looks_like_flag(text) || form == Form::Credentials && text.contains("://");
    !other
}

/// Two dashes and a letter, or a dash and one letter: then a flag before it had no value.
fn looks_like_flag(text: &str) -> bool {
    match text.as_bytes() {
        [b'-', b'-', letter, ..] | [b'-', letter] => letter.is_ascii_alphabetic(),
        _ => false,
    }
}
