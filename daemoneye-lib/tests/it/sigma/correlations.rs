//! Correlations: which event completes what a rule asks for.

use super::{Judge, made};
use daemoneye_lib::sigma::{Made, Options, compile};
use serde_json::{Value as Json, json};

/// Three rules that match by their command, and a correlation over them.
fn rules(correlation: &str) -> String {
    let base = |name: &str| {
        format!(
            "title: {name}\nid: id-{name}\nname: {name}\nlogsource: {{category: process_creation}}\ndetection:\n  \
             s: {{CommandLine|startswith: '{name}'}}\n  condition: s\n---\n"
        )
    };
    let correlation = correlation.replace('\n', "\n  ");
    let bases: String = ["a", "b", "c"].map(base).concat();
    format!("{bases}title: Together\nid: together\ncorrelation:\n  {correlation}\nlevel: high\n")
}

/// Events at seconds: a command, by a user.
fn events(all: &[(u64, &str, &str)]) -> Vec<Json> {
    let event = |(second, command, user): &(u64, &str, &str)| {
        let time = format!("2026-01-02T{:02}:{:02}:{:02}.250000Z", second / 3_600, second / 60 % 60, second % 60);
        let user = if user.is_empty() { Json::Null } else { Json::from(*user) };
        json!({"CommandLine": command, "User": user, "event_time": time})
    };
    all.iter().map(event).collect()
}

#[test]
fn events_are_counted_within_every_timespan() {
    let judge = Judge::new();
    let count = rules("type: event_count\nrules: [a]\ngroup-by: [User]\ntimespan: 60s\ncondition: {gte: 3}");
    for (all, wanted) in [
        (&[(0, "a", "x"), (10, "a", "x"), (20, "a", "x"), (30, "a", "x")][..], &[2, 3][..]),
        (&[(0, "a", "x"), (10, "a", "y"), (20, "a", "x"), (30, "b", "x")], &[]),
        // The timespan is as long as it says, its ends included, wherever it lies.
        (&[(3, "a", "x"), (33, "a", "x"), (63, "a", "x")], &[2]),
        (&[(3, "a", "x"), (33, "a", "x"), (64, "a", "x")], &[]),
        (&[(3, "a", "x"), (50, "a", "x"), (64, "a", "x"), (100, "a", "x")], &[3]),
        // Who is not known is a group of its own, and not that of an empty name.
        (&[(0, "a", ""), (10, "a", ""), (20, "a", "")], &[2]),
    ] {
        assert_eq!(judge.completed(&count, &events(all)).unwrap(), wanted, "{all:?}");
    }
    let two = rules("type: event_count\nrules: [a, id-b]\ntimespan: 1m\ncondition: {gt: 2, lt: 4}");
    let all = [(0, "a", "x"), (1, "b", "y"), (2, "c", "x"), (3, "a", "z"), (4, "a", "x")];
    assert_eq!(judge.completed(&two, &events(&all)).unwrap(), [3]);
}

#[test]
fn different_values_are_counted() {
    let judge = Judge::new();
    let count = rules("type: value_count\nrules: [a]\ntimespan: 5m\ncondition: {field: User, gte: 2}");
    let all = [(0, "a", "x"), (1, "a", "x"), (2, "a", ""), (3, "b", "z"), (4, "a", "y"), (400, "a", "x")];
    assert_eq!(judge.completed(&count, &events(&all)).unwrap(), [4]);
}

#[test]
fn several_rules_match_together() {
    let judge = Judge::new();
    let all = [(0, "b", "x"), (5, "a", "y"), (10, "a", "x"), (20, "c", "x"), (100, "c", "x"), (101, "b", "x")];
    for (correlation, wanted) in [
        ("type: temporal\nrules: [a, b]\ngroup-by: [User]\ntimespan: 1m", &[2][..]),
        ("type: temporal\nrules: [a, b]\ntimespan: 1m", &[1, 2]),
        ("type: temporal\nrules: [a, b, c]\ntimespan: 1m", &[3]),
        ("type: temporal\nrules: [a, b, c]\ntimespan: 1m\ncondition: {gte: 2}", &[1, 2, 3, 5]),
        ("type: temporal\nrules: [a, b, c]\ntimespan: 1m\ncondition: b and c and not a", &[5]),
        ("type: temporal_ordered\nrules: [b, a]\ngroup-by: [User]\ntimespan: 1m", &[2]),
        ("type: temporal_ordered\nrules: [a, b]\ntimespan: 1m", &[]),
        ("type: temporal_ordered\nrules: [a, b]\ntimespan: 2m", &[5]),
        ("type: temporal_ordered\nrules: [b, a, c]\ntimespan: 30s", &[3]),
        ("type: temporal_ordered\nrules: [b, a, c]\ntimespan: 100s", &[3, 4]),
    ] {
        assert_eq!(judge.completed(&rules(correlation), &events(&all)).unwrap(), wanted, "{correlation}");
    }
}

#[test]
fn aliases_join_fields_of_different_names() {
    let judge = Judge::new();
    let correlation = "type: temporal\nrules: [a, conn]\ngroup-by: [who]\ntimespan: 1m\n\
                       aliases:\n  who: {a: CurrentDirectory, conn: User}";
    let connection = "title: C\nid: id-conn\nname: conn\nlogsource: {category: network_connection}\ndetection:\n  \
                      s: {DestinationPort: 443}\n  condition: s\n---\n";
    let rules = format!("{connection}{}", rules(correlation));
    let all = [
        json!({"CommandLine": "a", "CurrentDirectory": "x", "event_time": "2026-01-02T00:00:00Z"}),
        json!({"DestinationPort": 443, "User": "y", "event_time": "2026-01-02T00:00:01Z"}),
        json!({"DestinationPort": 443, "User": "x", "event_time": "2026-01-02T00:00:02Z"}),
    ];
    assert_eq!(judge.completed(&rules, &all).unwrap(), [2]);
}

#[test]
fn what_a_correlation_names_raises_no_alert_unless_it_says_so() {
    let titles = |text: &str| -> Vec<bool> {
        compile(text, &Options::default())
            .into_iter()
            .map(|outcome| matches!(outcome.made, Ok(Made::Part(_))))
            .collect()
    };
    let silent = rules("type: temporal\nrules: [a, id-b]\ntimespan: 1m");
    assert_eq!(titles(&silent), [true, true, false, false]);
    assert_eq!(titles(&silent.replace("level: high", "level: high\ngenerate: true")), [false; 4]);
}

#[test]
fn what_no_correlation_can_be_is_refused() {
    let why = |correlation: &str| made(compile(&rules(correlation), &Options::default()).pop().unwrap()).unwrap_err();
    for (correlation, wanted) in [
        ("type: temporal\nrules: [a, z]\ntimespan: 1m", "the rule `z` that the correlation names is not among"),
        ("type: temporal\nrules: [a, a]\ntimespan: 1m", "names `a` twice"),
        ("type: temporal\nrules: []\ntimespan: 1m", "names one to 10 `rules`"),
        ("type: temporal\nrules: [a, b]", "no `timespan`"),
        ("type: temporal\nrules: [a, b]\ntimespan: 5y", "`5y` is no timespan"),
        ("type: temporal\nrules: [a, b]\ntimespan: 1m\ncondition: a and z", "names `z`, which is no selection"),
        ("type: value_sum\nrules: [a]\ntimespan: 1m\ncondition: {gte: 1}", "`value_sum` is not supported"),
        ("type: value_count\nrules: [a]\ntimespan: 1m\ncondition: {gte: 1}", "one `field`"),
        ("type: event_count\nrules: [a]\ntimespan: 1m", "no `condition`"),
        ("type: event_count\nrules: [a]\ntimespan: 1m\ncondition: {gte: -1}", "a whole number from 0"),
        ("type: event_count\nrules: [a]\ntimespan: 1m\ncondition: {many: 1}", "unknown operator `many`"),
        ("type: event_count\nrules: [a]\ngroup-by: [Who]\ntimespan: 1m\ncondition: {gte: 1}", "the field `Who`"),
        ("type: temporal_ordered\nrules: [a]\ntimespan: 1m", "two rules at least"),
        ("type: temporal\nrules: [a, b]\ntimespan: 1m\nwindow: session", "`window` of a correlation"),
        ("type: temporal\nrules: [a, together]\ntimespan: 1m", "`together` that it names is itself a correlation"),
    ] {
        let problem = why(correlation);
        assert!(problem.contains(wanted), "{correlation}: {problem}");
    }
}
