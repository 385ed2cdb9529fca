//! Secrets that a word names itself: settings, headers, JSON members, URLs with credentials.

use super::names::{Names, name_before};
use std::ops::Range;

/// So far behind a host that is none, the end of a password with a slash in it is looked for.
const LOOK_AHEAD: usize = 1024;
/// A user without a password in a URL of the web that is so long is a token.
const TOKEN_LENGTH: usize = 20;
/// Words before the secret in an `Authorization` header.
const SCHEMES: &[&str] = &["basic", "bearer", "digest", "negotiate", "ntlm", "token", "apikey"];
/// Values that are settings, whatever the name says.
const PLAIN_VALUES: &[&str] = &["true", "false", "yes", "no", "on", "off", "none", "null", "0", "1"];

/// Whether a word is the scheme before the secret of a header.
pub(super) fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// `scheme://user:secret@host`, as often as it is there.
pub(super) fn in_urls(text: &str, found: &mut Vec<Range<usize>>) {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find("://")) {
        let start = from + at + 3;
        let rest = text.get(start..).unwrap_or_default();
        let end = rest.find(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>' | '`') || c.is_whitespace());
        let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let web = text.get(..start).is_some_and(|before| before.ends_with("http://") || before.ends_with("https://"));
        found.extend(credentials(rest, authority, web).map(|secret| start + secret.start..start + secret.end));
        from = start;
    }
}

fn credentials(rest: &str, authority: &str, web: bool) -> Option<Range<usize>> {
    let filled = |range: Range<usize>| (!range.is_empty()).then_some(range);
    if let Some(at) = authority.rfind('@') {
        let user = authority.get(..at)?;
        return match user.find(':') {
            Some(colon) => filled(colon + 1..at),
            None => (web && user.len() >= TOKEN_LENGTH).then_some(0..at),
        };
    }
    // Not all who put a password into a URL encode its slashes: what looks like a port then is none.
    let colon = authority.find(':').filter(|_| !authority.starts_with('['))?;
    let port = authority.get(colon + 1..)?;
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ahead = rest.get(..rest.floor_char_boundary(LOOK_AHEAD))?;
    let ahead = ahead.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).next()?;
    filled(colon + 1..ahead.rfind('@').filter(|at| *at > colon)?)
}

/// `name=secret`. Where another setting stands before it with `&`, `?`, `;` or `,` between, the value ends where one more
/// does; otherwise it is the rest. With `first` only names before the first space count.
pub(super) fn in_settings(names: &Names, text: &str, first: bool, found: &mut Vec<Range<usize>>) {
    let end = if first { text.find(char::is_whitespace).unwrap_or(text.len()) } else { text.len() };
    let mut done = 0;
    for (equals, _) in text.get(..end).unwrap_or_default().match_indices('=') {
        if equals < done {
            continue;
        }
        let (name, start) = name_before(text.get(..equals).unwrap_or_default());
        let before = text.get(..start).and_then(|before| before.chars().next_back());
        let signature = matches!(before, Some('&' | '?')) && Names::is_signature(name);
        if !signature && !names.is_secret(name) {
            continue;
        }
        let value = text.get(equals + 1..).unwrap_or_default();
        let length = match before {
            Some('&' | '?') => value.find(['&', '#', '"', '\'', ' ']),
            Some(';') => value.find(';'),
            Some(',') => unescaped_comma(value),
            _ => None,
        };
        let value = value.get(..length.unwrap_or(value.len())).unwrap_or_default();
        done = equals + 1 + value.len();
        if !value.is_empty() && !PLAIN_VALUES.iter().any(|plain| value.eq_ignore_ascii_case(plain)) {
            found.push(equals + 1..done);
        }
    }
}

fn unescaped_comma(value: &str) -> Option<usize> {
    value.match_indices(',').map(|(at, _)| at).find(|at| !value.get(..*at).is_some_and(|before| before.ends_with('\\')))
}

/// `"name": "secret"`, also with its quotes escaped.
pub(super) fn in_members(names: &Names, text: &str, found: &mut Vec<Range<usize>>) {
    let mut done = 0;
    for (colon, _) in text.match_indices(':') {
        let before = text.get(..colon).unwrap_or_default();
        let Some(quoted) = before.strip_suffix(['"', '\'']).filter(|_| colon >= done) else { continue };
        let (name, _) = name_before(quoted.strip_suffix('\\').unwrap_or(quoted));
        if !names.is_secret(name) {
            continue;
        }
        let after = text.get(colon + 1..).unwrap_or_default();
        let value = after.trim_start_matches([' ', '\t', '\n', '\\']);
        let start = text.len() - value.len();
        let range = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let length = string_length(value.get(1..).unwrap_or_default(), quote);
                start + 1..start + 1 + length
            }
            // An object or a list is no secret, what is in it may be.
            Some('{' | '[') | None => continue,
            Some(_) => start..start + value.find([',', '}', ']', ' ']).unwrap_or(value.len()),
        };
        done = range.end;
        let value = text.get(range.clone()).unwrap_or_default();
        if !range.is_empty() && !PLAIN_VALUES.contains(&value) {
            found.push(range);
        }
    }
}

/// How long a string is whose opening quote stands before this text.
fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if c == quote && !escaped => return at,
            // In text that was quoted once more, the closing quote is escaped itself.
            _ if c == quote && text.get(at + 1..).is_none_or(|rest| rest.starts_with([',', '}', ']', ' ', ':'])) => {
                return at.saturating_sub(1);
            }
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// What a header at the beginning of the text has to hide.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Its value, from here on.
    Value(usize),
    /// What is in the words that follow, all of them, or the one.
    Follows,
    NextWord,
}

/// `Authorization: Bearer secret`, `X-Api-Key: secret`, also glued to `-H`.
pub(super) fn header(names: &Names, text: &str) -> Option<Header> {
    let colon = text.find(':').filter(|colon| *colon < 128)?;
    let whole = text.get(..colon)?.trim_start_matches(['"', '\'']);
    let name = whole.strip_prefix("-H").unwrap_or(whole).trim_start_matches(['"', '\'']);
    if name.is_empty() || name_before(name).0.len() != name.len() {
        return None;
    }
    let value = text.get(colon + 1..)?;
    let is_header = Names::is_header(name);
    // Prose has such names too, but not with dashes.
    let is_named = || name.contains('-') && names.is_secret(name) && (value.is_empty() || value.starts_with(' '));
    if !is_header && !is_named() {
        return None;
    }
    let value = value.trim_start();
    let scheme = value.split(' ').next().filter(|word| is_scheme(word)).unwrap_or_default();
    let rest = value.get(scheme.len()..).unwrap_or_default();
    let rest = rest.trim_start();
    match (rest.trim_end_matches(['"', '\'']).is_empty(), is_header) {
        (false, _) => Some(Header::Value(text.len() - rest.len())),
        (true, true) => Some(Header::Follows),
        (true, false) => Some(Header::NextWord),
    }
}
