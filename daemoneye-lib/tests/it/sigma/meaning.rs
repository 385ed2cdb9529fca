//! What each modifier, each kind of value and each condition means.

use super::{Judge, only, rule};
use serde_json::{Value as Json, json};
use std::slice::from_ref;

/// Asserts which values of a field a selection matches.
fn assert_matches(judge: &Judge, selection: &str, yes: &[Json], no: &[Json]) {
    let field = selection.split(['|', ':']).next().unwrap().trim_matches(['\'', '"']);
    let events: Vec<_> = yes.iter().chain(no).map(|value| json!({ field: value })).collect();
    let verdicts = judge.verdicts(&rule("process_creation", selection), &events).unwrap();
    for (index, (event, verdict)) in events.iter().zip(verdicts).enumerate() {
        assert_eq!(verdict, index < yes.len(), "{selection}\n{event}");
    }
}

#[test]
fn modifiers_mean_what_they_do_in_sigma() {
    let judge = Judge::new();
    let null = Json::Null;
    let of = |texts: &[&str]| -> Vec<Json> { texts.iter().map(|text| Json::from(*text)).collect() };
    for (selection, yes, no) in [
        ("CommandLine: 'a b'", &["a b", "A B"][..], &["a b ", "a", ""][..]),
        ("CommandLine: ''", &[""], &["a"]),
        ("CommandLine: ['a', 'b']", &["a", "B"], &["ab"]),
        ("CommandLine: 'a*c'", &["ac", "abc", "a\nc", "A*C"], &["xac", "acx"]),
        ("CommandLine: 'a?c'", &["abc", "aéc"], &["ac", "abbc"]),
        (r"CommandLine: 'a\*c'", &["a*c"], &["abc"]),
        (r"CommandLine: 'C:\\x\\*'", &[r"C:\x\", r"c:\X\y"], &[r"C:\x"]),
        (r"CommandLine: 'C:\x'", &[r"C:\x"], &[r"C:\\x"]),
        ("CommandLine: '*'", &["", "a"], &[]),
        ("CommandLine|contains: '%_'", &["x%_y"], &["xay", "%x"]),
        ("CommandLine|contains: ['x', ' y ']", &["axb", "a y b"], &["y", "a yb"]),
        ("CommandLine|contains|all: ['x', 'y']", &["yx", "X-Y"], &["x", "y"]),
        ("CommandLine|contains: 'a*b'", &["xxaZZbxx"], &["ba"]),
        ("CommandLine|contains: 'straße'", &["DIE STRAẞE"], &["STRASSE"]),
        ("CommandLine|startswith: 'a'", &["ab", "A"], &["ba", ""]),
        ("CommandLine|startswith: 'a*b'", &["ab", "a-bc"], &["xab"]),
        ("CommandLine|endswith: ['a', '.B']", &["ba", "x.b"], &["ab", "x.bc"]),
        ("CommandLine|endswith: 'a*b'", &["xab", "a-b"], &["abx"]),
        ("CommandLine|cased: 'Ab'", &["Ab"], &["ab", "AB"]),
        ("CommandLine|contains|cased: 'A[b'", &["xA[bx"], &["xa[bx"]),
        ("CommandLine|startswith|cased: 'A?'", &["Ab", "Axy"], &["A", "ab"]),
        ("CommandLine|endswith|cased: 'B'", &["aB"], &["ab", "Ba"]),
        ("CommandLine|neq: 'a'", &["b", ""], &["a", "A"]),
        ("CommandLine|neq: ['a', 'b']", &["c"], &["a", "b"]),
        (r"CommandLine|re: '\d{2}$'", &["x12"], &["12x", "1"]),
        ("CommandLine|re: 'ab'", &["xaby"], &["AB"]),
        ("CommandLine|re|i: 'ab'", &["XABY"], &["a b"]),
        ("CommandLine|re: 'a.b'", &["a-b"], &["a\nb"]),
        ("CommandLine|re|s: 'a.b'", &["a\nb"], &["ab"]),
        ("CommandLine|re|m: '^b$'", &["a\nb\nc"], &["ab"]),
        ("CommandLine|cidr: ['10.0.0.0/8', 'fe80::/10']", &["10.2.3.4", "fe80::1"], &["11.0.0.1", "10.2.3", "x"]),
        ("CommandLine|gt: 5", &["6", "5.5", "1e3"], &["5", "4", "x", "6x", ""]),
        ("CommandLine|gte: 5", &["5", "5.0"], &["4.9"]),
        ("CommandLine|lt: -1", &["-2"], &["-1", "0"]),
        ("CommandLine|lte: 1.5", &["1.5", "-3"], &["1.6"]),
        ("CommandLine: 0", &["0", "0.0"], &["", "00x", "x"]),
        ("CommandLine: '0'", &["0"], &["0.0", ""]),
        ("CommandLine: 1.5", &["1.5", "15e-1"], &["1.50x"]),
        ("CommandLine|contains: 42", &["a42b"], &["4 2"]),
        ("CommandLine: true", &["true", "TRUE", "1", "yes"], &["false", "truer"]),
        ("CommandLine: 'yes'", &["yes"], &["true"]),
        ("CommandLine|base64: 'foobar'", &["Zm9vYmFy"], &["foobar"]),
        ("CommandLine|base64|contains: 'foobar'", &["x Zm9vYmFy y"], &["foobar"]),
        (
            "CommandLine|base64offset|contains: 'foobar'",
            // "foobar", "xfoobary", "xxfoobaryy"
            &["Zm9vYmFy", "eGZvb2Jhcnk=", "eHhmb29iYXJ5eQ=="],
            &["Zm9vYmF6"],
        ),
        (
            "CommandLine|wide|base64offset|contains: 'abc'",
            // "abc", "xabc" in UTF-16LE
            &["YQBiAGMA", "eABhAGIAYwA="],
            &["YWJj"],
        ),
        ("CommandLine|utf16be|base64offset|contains: 'abc'", &["AGEAYgBj"], &["YQBiAGMA"]),
        ("CommandLine|utf16|base64|contains: 'abc'", &["//5hAGIAYwA="], &["YQBiAGMA"]),
        ("CommandLine|utf16le|contains: 'ab'", &["a\0b\0"], &["ab"]),
        ("CommandLine|windash|contains: ' -e'", &["x -e", "x /e", "x –e", "x —E", "x ―e"], &["x e", "x +e"]),
        ("CommandLine|contains|windash: ' /e '", &["x -e y", "x /e y"], &["x e y"]),
        (
            "CommandLine|windash|contains: ' -a -b -c -d'",
            &["x /a -b –c ―d", "x -A -B -C -D"],
            &["x -a -b -c", "-a -b -c +d"],
        ),
        ("CommandLine|windash: '-a*z'", &["/a-z", "-az"], &["x-az"]),
        ("User|expand: '%admins%'", &["root", "ana", "ROOT"], &["roo", "x"]),
        ("CommandLine|expand|contains: '%admins%'", &["x root y", "banana"], &["x"]),
        ("CommandLine|expand: '%empty%'", &[], &["", "x"]),
    ] {
        let (yes, mut no) = (of(yes), of(no));
        match selection.contains("|neq") {
            // Where the field is missing it has none of the values.
            true => assert_matches(&judge, selection, &[yes, vec![null.clone()]].concat(), &no),
            false => {
                no.push(null.clone());
                assert_matches(&judge, selection, &yes, &no);
            }
        }
    }
}

#[test]
fn a_field_that_is_missing_is_not_an_empty_one() {
    let judge = Judge::new();
    let (null, empty, text) = (Json::Null, Json::from(""), Json::from("a"));
    assert_matches(&judge, "User: null", from_ref(&null), &[empty.clone(), text.clone()]);
    assert_matches(&judge, "User: ['a', null]", &[null.clone(), text.clone()], from_ref(&empty));
    assert_matches(&judge, "User|exists: true", &[empty.clone(), text.clone()], from_ref(&null));
    assert_matches(&judge, "User|exists: false", from_ref(&null), &[empty.clone(), text.clone()]);
    assert_matches(&judge, "OriginalFileName: null", from_ref(&null), &[empty.clone(), text.clone()]);
    assert_matches(&judge, "OriginalFileName|contains: 'A'", &[text], &[empty, null]);
}

#[test]
fn numbers_are_numbers_and_their_digits() {
    let judge = Judge::new();
    let (seven, eight, text) = (json!(7), json!(8), json!("7"));
    assert_matches(&judge, "ProcessId: 7", &[seven.clone(), text.clone()], from_ref(&eight));
    assert_matches(&judge, "ProcessId: '7'", &[seven.clone(), text], from_ref(&eight));
    assert_matches(&judge, "ProcessId|contains: 7", &[seven.clone(), json!(171)], from_ref(&eight));
    assert_matches(&judge, "ProcessId|gte: 8", from_ref(&eight), from_ref(&seven));
    assert_matches(&judge, "ProcessId|re: '^7$'", &[seven], &[eight]);
    assert_matches(&judge, "LogonId: '0x3e7'", &[json!("0x3e7"), json!("0X3E7")], &[json!("999"), json!("")]);
}

#[test]
fn fields_are_compared_with_fields() {
    let judge = Judge::new();
    let of = |image: Json, parent: Json| json!({ "Image": image, "ParentImage": parent });
    let text = |text: &str| Json::from(text);
    for (selection, yes, no) in [
        ("Image|fieldref: ParentImage", ("/bin/sh", "/BIN/sh"), ("/bin/sh", "/bin/s")),
        ("Image|fieldref|contains: ParentImage", ("/usr/bin/x", "/Bin"), ("/usr", "/usr/bin")),
        ("Image|fieldref|startswith: ParentImage", ("/usr/bin", "/USR"), ("/usr/bin", "/bin")),
        ("Image|fieldref|endswith: ParentImage", ("/usr/bin", "BIN"), ("/usr/bin", "/usr")),
        ("Image|fieldref|cased: ParentImage", ("/a", "/a"), ("/a", "/A")),
        ("Image|fieldref|startswith|cased: ParentImage", ("/ab", "/a"), ("/ab", "/A")),
        ("Image|fieldref|endswith|cased: ParentImage", ("/ab", "b"), ("b", "/ab")),
        ("Image|fieldref|contains|cased: ParentImage", ("/abc", "b"), ("/abc", "B")),
    ] {
        let events = [
            of(text(yes.0), text(yes.1)),
            of(text(no.0), text(no.1)),
            of(Json::Null, text("a")),
            of(text("a"), Json::Null),
        ];
        let verdicts = judge.verdicts(&rule("process_creation", selection), &events).unwrap();
        assert_eq!(verdicts, [true, false, false, false], "{selection}");
    }
}

#[test]
fn keywords_are_anywhere_in_an_event() {
    let judge = Judge::new();
    let keywords =
        |selection: &str, event: Json| judge.verdicts(&rule("process_creation", selection), &[event]).unwrap()[0];
    for (selection, event, met) in [
        ("- mimikatz\n- sekurlsa", json!({"CommandLine": "x SEKURLSA::x"}), true),
        ("- mimikatz", json!({"OriginalFileName": "mimikatz.exe"}), true),
        ("- mimikatz", json!({"User": "x"}), false),
        ("- 'a*z'", json!({"CommandLine": "xabczx"}), true),
        ("- 'C:\\x'", json!({"Product": "C:\\x\\y"}), true),
        ("- Product", json!({"Product": "x"}), false),
        ("- 4688", json!({"CommandLine": "id 4688"}), true),
        ("'|all': ['one', 'two']", json!({"CommandLine": "one", "User": "two"}), true),
        ("'|all': ['one', 'two']", json!({"CommandLine": "one"}), false),
        ("'|re': 'o.e'", json!({"ParentImage": "xone"}), true),
    ] {
        assert_eq!(keywords(selection, event.clone()), met, "{selection} {event}");
    }
}

#[test]
fn conditions_combine_selections() {
    let judge = Judge::new();
    let of = |condition: &str, values: [&str; 3]| {
        let text = format!(
            "title: T\nid: a-1\nlogsource: {{category: process_creation}}\ndetection:\n  sel_a: {{Image: a}}\n  sel_b: {{User: b}}\n  \
             _c: {{CommandLine: c}}\n  condition: {condition}\n"
        );
        let value = |index: usize| if values[index].is_empty() { Json::Null } else { Json::from(values[index]) };
        let event = json!({"Image": value(0), "User": value(1), "CommandLine": value(2)});
        judge.verdicts(&text, &[event]).unwrap()[0]
    };
    for (condition, values, met) in [
        ("sel_a and not sel_b", ["a", "x", "x"], true),
        ("sel_a and not sel_b", ["a", "", "x"], true),
        ("sel_a and not sel_b", ["a", "b", "x"], false),
        ("not (sel_a or sel_b)", ["", "", ""], true),
        ("not (sel_a and sel_b)", ["a", "", ""], true),
        ("not not sel_a", ["", "", ""], false),
        ("1 of sel_*", ["x", "b", "x"], true),
        ("all of sel_*", ["x", "b", "x"], false),
        ("all of them", ["a", "b", "x"], true),
        ("1 of *", ["x", "x", "c"], true),
        ("2 of *", ["a", "", "c"], true),
        ("2 of *", ["a", "", "x"], false),
        ("not 2 of *", ["a", "", ""], true),
        ("sel_a or sel_b and _c", ["a", "x", "x"], true),
        ("(sel_a or sel_b) and _c", ["a", "x", "x"], false),
        ("[sel_a, sel_b]", ["x", "b", "x"], true),
        ("[sel_a, sel_b]", ["x", "x", "c"], false),
    ] {
        assert_eq!(of(condition, values), met, "{condition} {values:?}");
    }
}

#[test]
fn connections_and_files_are_looked_at_too() {
    let judge = Judge::new();
    for (category, selection, event, met) in [
        (
            "network_connection",
            "Initiated: 'true'\nDestinationPort: 443",
            json!({"Initiated": "true", "DestinationPort": 443}),
            true,
        ),
        ("network_connection", "Initiated: true", json!({"Initiated": "false", "DestinationPort": 443}), false),
        (
            "network_connection",
            "DestinationIp|cidr: 10.0.0.0/8",
            json!({"Initiated": "false", "DestinationIp": "10.0.0.1"}),
            true,
        ),
        (
            "network_connection",
            "SourceIp|cidr: 10.0.0.0/8",
            json!({"Initiated": "false", "DestinationIp": "10.0.0.1"}),
            false,
        ),
        ("network_connection", "DestinationHostname|endswith: .onion", json!({"DestinationHostname": "X.ONION"}), true),
        ("network_connection", "DestinationPort: [22, 23]", json!({"DestinationPort": "23", "Image": "/x"}), true),
        ("file_event", "TargetFilename|startswith: /etc/cron", json!({"TargetFilename": "/etc/cron.d/x"}), true),
        ("file_delete", "TargetFilename|startswith: /etc", json!({"TargetFilename": "/etc/x"}), false),
        (
            "file_delete",
            "TargetFilename|startswith: /etc",
            json!({"TargetFilename": "/etc/x", "event_type": "deleted"}),
            true,
        ),
        ("process_creation", "Image: /x", json!({"TargetFilename": "/etc/x", "Image": "/x"}), false),
    ] {
        let verdicts = judge.verdicts(&rule(category, selection), from_ref(&event)).unwrap();
        assert_eq!(verdicts, [met], "{selection} {event}");
    }
}

#[test]
fn times_have_parts() {
    let judge = Judge::new();
    let night = json!({"UtcTime": "2026-02-03 04:05:06.000", "Image": "/x"});
    for (selection, met) in [
        ("UtcTime|hour: 4", true),
        ("UtcTime|hour: [3, 5]", false),
        ("UtcTime|minute: 5", true),
        ("UtcTime|day: 3", true),
        ("UtcTime|month: 2", true),
        ("UtcTime|year: 2026", true),
    ] {
        assert_eq!(
            judge.verdicts(&rule("process_creation", selection), from_ref(&night)).unwrap(),
            [met],
            "{selection}"
        );
    }
}

#[test]
fn long_lists_are_no_deep_trees() {
    let judge = Judge::new();
    let words: Vec<String> = (0..2_000).map(|number| format!("'w{number}x'")).collect();
    let terms: Vec<String> =
        (0..300).map(|number| format!("- Image|endswith: /i{number}\n- CommandLine: c{number}")).collect();
    for (selection, event) in [
        (format!("CommandLine|contains: [{}]", words.join(", ")), json!({"CommandLine": "a W1999X b"})),
        (terms.join("\n"), json!({"CommandLine": "C299"})),
    ] {
        let verdicts = judge.verdicts(&rule("process_creation", &selection), &[event, json!({"CommandLine": "none"})]);
        assert_eq!(verdicts.unwrap(), [true, false]);
    }
}

#[test]
fn what_is_said_about_a_rule_comes_along() {
    let text = "title: A  title\nid: 6F8A0A4E-0000-4000-8000-000000000000\nstatus: test\ndescription: |\n  Two\n  lines.\n\
                author: Ana, Bo\ndate: 2024-01-31\nmodified: 2024/02/01\nlicense: MIT\nreferences:\n  - https://example.org/?a=1&b='2'\n\
                tags: [attack.t1059, cve.2024-1]\nfalsepositives: Unknown\nlevel: informational\n\
                logsource: {category: process_creation}\ndetection: {s: {Image: x}, condition: s}\n";
    let compiled = only(text).unwrap();
    let rule = Judge::new().load(&compiled).unwrap();
    let rule = &rule.rule;
    assert_eq!(rule.id, "6f8a0a4e-0000-4000-8000-000000000000");
    assert_eq!((rule.title.as_str(), rule.author.as_str(), rule.license.as_str()), ("A title", "Ana, Bo", "MIT"));
    assert_eq!(
        (rule.status.as_str(), rule.date.as_str(), rule.modified.as_str()),
        ("test", "2024-01-31", "2024/02/01")
    );
    assert_eq!(rule.references, ["https://example.org/?a=1&b='2'"]);
    assert_eq!(
        (rule.tags.join(" "), rule.false_positives.join(" ")),
        ("attack.t1059 cve.2024-1".into(), "Unknown".into())
    );
    assert_eq!((rule.severity.name(), rule.description.as_str()), ("low", "Two\nlines.\n"));
}

#[test]
fn what_only_the_agent_can_tell_is_refused_when_the_rule_is_loaded() {
    let judge = Judge::new();
    let missing = judge.verdicts(&rule("process_creation", "User|expand: '%none%'"), &[]).unwrap_err();
    assert!(missing.contains("no such list: @none"), "{missing}");
    let long =
        judge.verdicts(&rule("process_creation", &format!("Image: '{}'", "x".repeat(100_000))), &[]).unwrap_err();
    assert!(long.contains("65536 are allowed"), "{long}");
}
