//! YAML as Sigma rules use it: documents of maps, lists and scalars, bounded, each node with its place.
//!
//! Refused are aliases and tags, by which a short text becomes a large or another one, keys that are there twice, and what is
//! nested too deeply. Scalars are read by the core schema of YAML 1.2: `yes` and `on` are texts.

use super::problem::{Place, SigmaProblem, shortened};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// The largest file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Maps and lists within each other.
const MAX_DEPTH: usize = 32;
/// Scalars, maps and lists of a file.
const MAX_NODES: usize = 50_000;

/// A part of a document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A scalar as it is written.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Whether it stands without quotes, and so may be something else than a text.
    plain: bool,
}

/// What a scalar is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
}

impl Scalar {
    pub(super) fn value(&self) -> Value {
        if !self.plain {
            return Value::Text(self.text.clone());
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            "true" | "True" | "TRUE" => Value::Boolean(true),
            "false" | "False" | "FALSE" => Value::Boolean(false),
            text => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
        }
    }
}

fn number(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            let digits = if text.starts_with('-') { format!("-{digits}") } else { digits.to_owned() };
            let signed_twice = unsigned[2..].starts_with(['-', '+']);
            return i64::from_str_radix(&digits, radix).ok().filter(|_| !signed_twice).map(Value::Integer);
        }
    }
    match unsigned {
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN" => return None,
        _ => {}
    }
    // A number with a leading zero is an identifier that has digits only.
    let leading_zero = unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.as_bytes()[1].is_ascii_digit();
    if leading_zero || !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Ok(number) = text.parse() {
        return Some(Value::Integer(number));
    }
    let is_real =
        unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
            && unsigned.bytes().any(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| is_real && number.is_finite()).map(Value::Real)
}

impl Node {
    /// What kind of node it is, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self.content {
            Content::Scalar(_) => "a value",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    pub(super) fn problem(&self, message: impl Into<String>) -> SigmaProblem {
        SigmaProblem::new(message).at(self.place)
    }

    /// The entry of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|(own, _)| own == key).map(|(_, node)| node),
            _ => None,
        }
    }
}

/// A map or list whose end has not come.
enum Open {
    List(Vec<Node>),
    Map(Vec<(String, Node)>, Option<(String, Place)>),
}

/// The documents of a text.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, SigmaProblem> {
    if text.len() > MAX_BYTES {
        return Err(SigmaProblem::new(format!("the file has {} bytes; {MAX_BYTES} are allowed", text.len())));
    }
    let mut parser = Parser::new_from_str(text);
    let mut documents = Vec::new();
    let mut open: Vec<(Open, Place)> = Vec::new();
    let mut nodes = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let place = Place { line: error.marker().line() as u64, column: error.marker().col() as u64 + 1 };
            SigmaProblem::new(format!("no YAML: {}", shortened(error.info()))).at(place)
        })?;
        let place = place(&span);
        let node = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                continue;
            }
            Event::Alias(_) => {
                let problem = SigmaProblem::new("aliases (*name) are not supported").at(place);
                return Err(problem.hint("write in their place what they stand for"));
            }
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return Err(SigmaProblem::new("tags (!name) are not supported").at(place));
            }
            Event::Scalar(text, style, _, None) => {
                let scalar = Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                Node { place, content: Content::Scalar(scalar) }
            }
            Event::SequenceStart(_, None) => {
                open.push((Open::List(Vec::new()), place));
                if open.len() > MAX_DEPTH {
                    return Err(SigmaProblem::new(format!("nested more than {MAX_DEPTH} levels deep")).at(place));
                }
                continue;
            }
            Event::MappingStart(_, None) => {
                open.push((Open::Map(Vec::new(), None), place));
                if open.len() > MAX_DEPTH {
                    return Err(SigmaProblem::new(format!("nested more than {MAX_DEPTH} levels deep")).at(place));
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some((Open::List(items), place)) => Node { place, content: Content::List(items) },
                Some((Open::Map(entries, _), place)) => Node { place, content: Content::Map(entries) },
                None => return Err(SigmaProblem::new("no YAML: an end without a beginning").at(place)),
            },
        };
        nodes += 1;
        if nodes > MAX_NODES {
            return Err(SigmaProblem::new(format!("more than {MAX_NODES} values")).at(place));
        }
        match open.last_mut() {
            None => documents.push(node),
            Some((Open::List(items), _)) => items.push(node),
            Some((Open::Map(entries, key), _)) => match key.take() {
                Some((key, _)) => entries.push((key, node)),
                None => *key = Some(as_key(node, entries)?),
            },
        }
    }
    Ok(documents)
}

fn as_key(node: Node, entries: &[(String, Node)]) -> Result<(String, Place), SigmaProblem> {
    let Content::Scalar(Scalar { text, .. }) = node.content else {
        return Err(SigmaProblem::new(format!("{} is a key: only texts can be", node.kind())).at(node.place));
    };
    if entries.iter().any(|(own, _)| *own == text) {
        return Err(SigmaProblem::new(format!("the key `{}` is there twice", shortened(&text))).at(node.place));
    }
    Ok((text, node.place))
}

fn place(span: &Span) -> Place {
    Place { line: span.start.line() as u64, column: span.start.col() as u64 + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Value {
        let documents = documents(text).unwrap();
        match &documents[..] {
            [Node { content: Content::Scalar(scalar), .. }] => scalar.value(),
            other => panic!("{other:?}"),
        }
    }

    fn why(text: &str) -> String {
        documents(text).unwrap_err().to_string()
    }

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        for (text, wanted) in [
            ("~", Value::Null),
            ("null", Value::Null),
            ("'null'", Value::Text("null".into())),
            ("true", Value::Boolean(true)),
            ("yes", Value::Text("yes".into())),
            ("on", Value::Text("on".into())),
            ("0", Value::Integer(0)),
            ("-7", Value::Integer(-7)),
            ("0x3e7", Value::Integer(999)),
            ("0x-1", Value::Text("0x-1".into())),
            ("007", Value::Text("007".into())),
            ("1.5", Value::Real(1.5)),
            ("1e3", Value::Real(1000.0)),
            (".5", Value::Real(0.5)),
            (".", Value::Text(".".into())),
            (".inf", Value::Text(".inf".into())),
            ("1.2.3", Value::Text("1.2.3".into())),
            ("2024-01-31", Value::Text("2024-01-31".into())),
            ("12:30", Value::Text("12:30".into())),
            ("'1'", Value::Text("1".into())),
            ("\" \\0\\e\"", Value::Text(" \0\u{1b}".into())),
            ("99999999999999999999", Value::Real(1e20)),
        ] {
            assert_eq!(value(text), wanted, "{text}");
        }
    }

    #[test]
    fn nodes_have_their_places() {
        let documents = documents("a:\n  - x\n  - b: 1\n---\nc: d\n").unwrap();
        assert_eq!(documents.len(), 2);
        let list = documents[0].get("a").unwrap();
        let Content::List(items) = &list.content else { panic!("{list:?}") };
        assert_eq!(items[1].get("b").unwrap().place, Place { line: 3, column: 8 });
        assert!(documents[1].get("a").is_none() && documents[1].get("c").is_some());
    }

    #[test]
    fn what_is_more_than_it_looks_is_refused() {
        assert_eq!(
            why("a: &x 1\nb: *x\n"),
            "2:4: aliases (*name) are not supported (write in their place what they stand for)"
        );
        assert!(why("a: !!binary eA==\n").contains("tags"));
        assert_eq!(why("a: 1\nb: 2\na: 3\n"), "3:1: the key `a` is there twice");
        assert!(why("[a, b]: 1\n").contains("a list is a key"));
        assert!(why(&"[".repeat(100)).contains("levels deep"));
        assert!(why(&"- ".repeat(100_000)).contains("levels deep"));
        assert!(why(&"- x\n".repeat(60_000)).contains("more than 50000 values"));
        assert!(why(&"x".repeat(MAX_BYTES + 1)).contains("are allowed"));
        assert!(why("a: 'open\n").starts_with("1:4: no YAML") || why("a: 'open\n").contains("no YAML"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[-:\\[\\]{}'\"a &*!|>#%@,?\n\t~0]{0,60}") {
            let _ = documents(&text);
        }
    }
}
