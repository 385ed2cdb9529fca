//! A second opinion: rules and events that nobody wrote, judged by DaemonEye and by `rsigma`.
//!
//! `sigma-oracle` in the repository answers for rsigma; `DAEMONEYE_SIGMA_ORACLE` names the program. What is known to differ, and
//! is described in `docs/sigma.md`, is not generated.

use super::Judge;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The other program.
struct Oracle {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Oracle {
    fn start(program: &str) -> Self {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn verdicts(&mut self, rule: &str, events: &[Json]) -> Result<Vec<bool>, String> {
        writeln!(self.to.as_ref().unwrap(), "{}", json!({ "rule": rule, "events": events })).unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        let said: Json = serde_json::from_str(&line).unwrap();
        match said["verdicts"].as_array() {
            Some(verdicts) => Ok(verdicts.iter().map(|verdict| verdict.as_bool().unwrap()).collect()),
            None => Err(said["error"].to_string()),
        }
    }
}

impl Drop for Oracle {
    /// It ends with its input.
    fn drop(&mut self) {
        self.to = None;
        let _ = self.child.wait();
    }
}

const FIELDS: [&str; 5] = ["Image", "CommandLine", "User", "ParentImage", "OriginalFileName"];
/// The modifiers of texts without wildcards, and those with which wildcards mean the same to both.
const PLAIN: [&str; 12] = [
    "|startswith",
    "|endswith",
    "|cased",
    "|contains|cased",
    "|startswith|cased",
    "|endswith|cased",
    "|base64",
    "|base64|contains",
    "|wide|base64|contains",
    "|windash",
    "|windash|contains",
    "|neq",
];
const WILD: [&str; 3] = ["", "|contains", "|neq"];
const REGEX: [&str; 8] = ["a", "^A", "b$", "[ab]+", "a.b", r"\d", "a|B", "(?i)aB"];

fn plain() -> impl Strategy<Value = String> {
    "[aAbBkKéÉßΣς1. '%_-]{1,5}"
}

fn wild() -> impl Strategy<Value = String> {
    r"([aAbBé1. '%_/-]|\*|\?|\\\\|\\\*|\\a){1,6}"
}

/// A field with its values, as a line of YAML.
fn item() -> impl Strategy<Value = String> {
    let several = |value: BoxedStrategy<String>| prop::collection::vec(value, 1..4);
    let quoted =
        |values: Vec<String>| values.iter().map(|value| json!(value).to_string()).collect::<Vec<_>>().join(", ");
    let field = || select(&FIELDS[..]);
    prop_oneof![
        4 => (field(), select(&PLAIN[..]), several(plain().boxed())).prop_map(move |(field, modifiers, values)| format!("{field}{modifiers}: [{}]", quoted(values))),
        4 => (field(), select(&WILD[..]), several(wild().boxed())).prop_map(move |(field, modifiers, values)| format!("{field}{modifiers}: [{}]", quoted(values))),
        2 => (field(), plain(), plain()).prop_map(move |(field, one, other)| format!("{field}|contains|all: [{}]", quoted(vec![one, other]))),
        2 => (field(), select(&REGEX[..]), select(&["", "|i", "|s", "|m"][..])).prop_map(|(field, regex, flag)| format!("{field}|re{flag}: '{regex}'")),
        1 => (field(), select(&["gt", "gte", "lt", "lte"][..]), -2..3).prop_map(|(field, operator, number)| format!("{field}|{operator}: {number}")),
        1 => (field(), -2..3).prop_map(|(field, number)| format!("{field}: {number}")),
        1 => field().prop_map(|field| format!("{field}: null")),
        1 => field().prop_map(|field| format!("{field}: ''")),
        1 => (field(), any::<bool>()).prop_map(|(field, truth)| format!("{field}: {truth}")),
        1 => (field(), any::<bool>()).prop_map(|(field, truth)| format!("{field}|exists: {truth}")),
        1 => field().prop_map(|field| format!("{field}|cidr: ['10.0.0.0/8', 'fe80::/10']")),
        1 => (field(), select(&["", "|contains", "|startswith", "|endswith"][..])).prop_map(|(field, how)| format!("{field}|fieldref{how}: Image")),
    ]
}

fn selection() -> impl Strategy<Value = String> {
    let map = |indent: &'static str| {
        prop::collection::vec(item(), 1..4).prop_map(move |mut items| {
            // A field with the same modifiers stands in a map once.
            let key = |item: &String| item.split(": ").next().unwrap_or_default().to_owned();
            items.sort_by_key(key);
            items.dedup_by_key(|item| key(item));
            items.join(&format!("\n{indent}"))
        })
    };
    prop_oneof![
        4 => map("    ").prop_map(|items| format!("\n    {items}")),
        2 => prop::collection::vec(map("      "), 1..3).prop_map(|maps| maps.iter().map(|map| format!("\n    - {map}")).collect::<String>()),
        1 => prop::collection::vec(plain(), 1..3).prop_map(|words| words.iter().map(|word| format!("\n    - {}", json!(word))).collect::<String>()),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let leaf =
        select(&["sel_a", "sel_b", "_hidden", "1 of sel_*", "all of sel_*", "all of them", "2 of *", "any of *n"][..]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("not {one}")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("{one} and {other}")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("{one} or {other}")),
            inner.prop_map(|one| format!("({one})")),
        ]
    })
}

fn rule() -> impl Strategy<Value = String> {
    (selection(), selection(), selection(), condition()).prop_map(|(a, b, hidden, condition)| {
        format!(
            "title: T\nid: a-1\nlogsource:\n  category: process_creation\n  product: windows\ndetection:\n  sel_a:{a}\n  sel_b:{b}\n  \
             _hidden:{hidden}\n  condition: {condition}\n"
        )
    })
}

/// A value that the rule may be about: a piece of it, or something else.
fn value(rule: &str, pieces: &[Index], other: &str, upper: bool) -> Json {
    let mut found: Vec<String> = rule.split('"').skip(1).step_by(2).map(|text| text.replace("\\\\", "\\")).collect();
    found.extend(["10.1.2.3", "fe80::1", "1", "-1", "true", "", "YQ==", "/a", "–a", "ab"].map(str::to_owned));
    let mut text: String = pieces.iter().map(|index| index.get(&found).as_str()).collect();
    text.push_str(other);
    text.retain(|c| !matches!(c, '\n' | '\0'));
    Json::from(if upper { text.to_uppercase() } else { text.replace('*', "x").replace('?', "y") })
}

#[test]
fn two_judges_agree() {
    let program = std::env::var("DAEMONEYE_SIGMA_ORACLE").unwrap_or_default();
    if !testkit::require("sigma-oracle", !program.is_empty(), "DAEMONEYE_SIGMA_ORACLE names no program") {
        return;
    }
    let (judge, oracle) = (Judge::new(), RefCell::new(Oracle::start(&program)));
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500);
    let one = (prop::collection::vec(any::<Index>(), 0..3), "[aAbB1é ]{0,2}", any::<bool>(), 0..6_u8);
    let event = prop::collection::vec(one, FIELDS.len());
    let strategy = (rule(), prop::collection::vec(event, 12));
    let counted = RefCell::new((0, 0));
    let mut runner = TestRunner::new(ProptestConfig { cases, ..ProptestConfig::default() });
    runner
        .run(&strategy, |(rule, events)| {
            let events: Vec<Json> = events
                .iter()
                .map(|event| {
                    let fields = FIELDS.iter().zip(event).map(|(field, (pieces, other, upper, null))| {
                        // What fields are compared with is always there.
                        let value = if *null == 0 && *field != "Image" {
                            Json::Null
                        } else {
                            value(&rule, pieces, other, *upper)
                        };
                        ((*field).to_owned(), value)
                    });
                    Json::Object(fields.collect())
                })
                .collect();
            let theirs = oracle.borrow_mut().verdicts(&rule, &events);
            let ours = judge.verdicts(&rule, &events);
            let (Ok(theirs), Ok(ours)) = (&theirs, &ours) else {
                return Err(TestCaseError::fail(format!("refused: {theirs:?} {ours:?}\n{rule}")));
            };
            for ((event, own), other) in events.iter().zip(ours).zip(theirs) {
                prop_assert_eq!(own, other, "rsigma says {}\n{}\n{}", other, event, &rule);
                let mut counted = counted.borrow_mut();
                counted.0 += u32::from(*own);
                counted.1 += 1;
            }
            Ok(())
        })
        .unwrap();
    let (met, all) = *counted.borrow();
    assert!(met * 20 > all && met * 20 < all * 19, "{met} of {all} verdicts are that the rule matches");
}
