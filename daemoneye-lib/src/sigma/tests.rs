//! What is refused, and what is said of it.

use super::{Made, Options, compile};

/// The rule file that the one rule of a text becomes.
fn only(rule: &str) -> Result<String, String> {
    let mut outcomes = compile(rule, &Options::default());
    assert_eq!(outcomes.len(), 1, "{rule}");
    match outcomes.remove(0).made {
        Ok(Made::Rule(compiled)) => Ok(compiled.text),
        other => Err(other.unwrap_err().to_string()),
    }
}

const RULE: &str = "title: T
id: 00000000-0000-4000-8000-000000000000
logsource:
  category: process_creation
  product: windows
detection:
  selection:
    Image: x
  condition: selection
level: low
";

#[test]
fn what_cannot_be_said_is_refused_with_its_place() {
    let base = RULE.to_owned();
    assert!(only(RULE).is_ok());
    for (text, why) in [
        (base.replace("process_creation", "dns_query"), "4:3: the log source category `dns_query` has no table"),
        (base.replace("windows", "aws"), "the product `aws` is not watched"),
        (base.replace("  product: windows", "  service: auditd"), "the log source service `auditd`"),
        (
            base.replace("Image:", "Imgae:"),
            "8:12: the field `Imgae` is not known here (selection `selection`) (did you mean `Image`?)",
        ),
        (base.replace("condition: selection", "condition: selektion"), "9:14: the condition names `selektion`"),
        (base.replace("condition: selection", "condition: 1 of filter_*"), "counts selections that are not there"),
        (base.replace("condition: selection", "condition: 2 of sel*"), "wants 2 of 1"),
        (base.replace("condition: selection", "timeframe: 5m"), "`timeframe` in a detection"),
        (base.replace("  condition: selection\n", ""), "has no `condition`"),
        (base.replace("Image: x", "Image|contian: x"), "unknown modifier `contian`"),
        (base.replace("Image: x", "Image: []"), "an empty list of values"),
        (base.replace("Image: x", "Image: {a: b}"), "a map among its values"),
        (base.replace("Image: x", "Image|re: '(?<=a)b'"), "look-around"),
        (base.replace("Image: x", "Image|re: '('"), "unclosed group"),
        (base.replace("Image: x", "Image|re: '(a{1000}){1000}'"), "is not supported"),
        (base.replace("Image: x", "Image|cidr: 10.0.0.0/40"), "`10.0.0.0/40` is no network"),
        (base.replace("Image: x", "Image|gt: many"), "`many` is compared with and is no number"),
        (base.replace("Image: x", "Image|base64: 'a*'"), "has wildcards"),
        (base.replace("Image: x", "Image|base64offset|contains: a"), "too short"),
        (base.replace("Image: x", "Image|expand: 'x%admins%'"), "is no placeholder alone"),
        (base.replace("Image: x", "Image|fieldref: Nothing"), "the field `Nothing`"),
        (base.replace("Image: x", "Image|wide: 'é'"), "is no text that a field could have"),
        (base.replace("level: low", "level: dire"), "`level`"),
        (base.replace("level: low", "taxonomy: other"), "the taxonomy `other`"),
        (base.replace("title: T", "name: T"), "no `title`"),
        (base.replace("id: 0000", "x: 0000"), "no `id`"),
        (base.replace("id: 0000", "id: _000"), "is of another form"),
        (base.replace("level: low", "filter: {}"), "a filter is not supported"),
        (base.replace("level: low", "action: global"), "`action`"),
        (base.replace("T\n", &format!("'{}'\n", "x".repeat(100_000))), "100000 bytes; 1000 are allowed"),
        ("a: [".to_owned(), "no YAML"),
        ("- a\n".to_owned(), "no `title`"),
    ] {
        let problem = only(&text).unwrap_err();
        assert!(problem.contains(why), "{why}: {problem}\n{text}");
    }
}
