//! Values are data, whatever they look like: in YAML, in SQL, in TOML.

use super::{Judge, only, rule};
use proptest::prelude::*;
use serde_json::json;
use std::slice::from_ref;

/// A value in which nothing is special for Sigma.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, '\\' | '*' | '?').then_some('\\').into_iter().chain([c])).collect()
}

const NASTY: &str = "('|\"|\\\\|''|'''|\"\"\"|--|/\\*|\\*/|;|\\)|\\(| OR 1=1|%|_|\\*|\\?|\0|\u{1b}\\[2J|\u{202e}|\u{feff}|\r|\n|\t|#|: |@admins|\\?1|:p|\\$x|\\PC){0,8}";

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_value_means_itself(value in NASTY, before in NASTY, after in NASTY, other in NASTY) {
        let judge = Judge::new();
        // JSON's strings are YAML's.
        let written = json!(escaped(&value)).to_string();
        let events = [json!({"CommandLine": format!("{before}{value}{after}")}), json!({"CommandLine": other}), json!({})];
        let contains = other.to_lowercase().contains(&value.to_lowercase());
        let rule = |selection: &str| rule("process_creation", selection);
        let contained = judge.verdicts(&rule(&format!("CommandLine|contains: {written}")), &events).unwrap();
        // Lowering is of whole texts: a sigma at the end of the value may be another one within the text.
        let whole = format!("{before}{value}{after}").to_lowercase().contains(&value.to_lowercase());
        prop_assert_eq!(contained, [whole, contains, false]);
        let cased = judge.verdicts(&rule(&format!("CommandLine|contains|cased: {written}")), &events).unwrap();
        prop_assert_eq!(cased, [true, other.contains(&value), false]);
        let equal = judge.verdicts(&rule(&format!("CommandLine|cased: {written}")), &events).unwrap();
        prop_assert_eq!(equal, [before.is_empty() && after.is_empty(), other == value, false]);
    }

    #[test]
    fn no_text_breaks_out_of_its_place(text in NASTY) {
        let text = text.replace('\n', " ");
        let quoted = json!(text).to_string();
        let source = rule("process_creation", &format!("Image: x\n{quoted}: y"))
            .replace("title: T", &format!("title: {}\nauthor: {quoted}\ndescription: {quoted}\nlicense: {quoted}\ntags: [{quoted}]", json!(format!("t{text}"))));
        match only(&source) {
            // An unknown field, or modifiers that are none.
            Err(problem) => prop_assert!(!problem.is_empty()),
            Ok(_) => prop_assert!(text.is_empty(), "a field with the name {text:?} is not known"),
        }
        let source = source.replace(&format!("{quoted}: y"), "User: y");
        let compiled = only(&source).unwrap();
        let is_seen = !compiled.text.contains(['\u{1b}', '\u{202e}', '\0', '\r']);
        prop_assert!(is_seen, "what is not seen is written as an escape");
        let rule = Judge::new().load(&compiled).unwrap();
        prop_assert_eq!(&rule.rule.author, &text);
        prop_assert_eq!(&rule.rule.license, &text);
        prop_assert_eq!(&rule.rule.tags, from_ref(&text));
        prop_assert_eq!(rule.rule.sql.matches("SELECT").count(), 1);
    }
}
