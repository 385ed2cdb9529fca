//! Rules over batches: the same answer as the query, each on its own, for as long as the agent lives.

use crate::fixture::{Fixed, ask_of, cell_text, event, identified, process, runtime};
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::engine::event_batch;
use daemoneye_lib::detection::rules::load_dir;
use daemoneye_lib::detection::standing::DetectionEngine;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::event::IdentifiedEvent;
use daemoneye_lib::proto::common::{EventType, ProcessEvent, ProcessRecord};
use proptest::prelude::*;
use std::fs;
use std::sync::{Arc, OnceLock};

/// Conditions of rules, each of which is also asked as a query.
const CONDITIONS: &[&str] = &[
    "name LIKE 's%'",
    "name NOT LIKE '%H'",
    "name GLOB '[a-m]*' OR name REGEXP '^.{2}$'",
    "event_type IN ('exec', 'seen') AND executable_path GLOB '/tmp/*'",
    "executable_path IS NULL OR NOT file_exists",
    "file_exists",
    "file_exists = 0 AND image_mismatch IS NOT TRUE",
    "pid % 3 = 1 AND ppid BETWEEN 1 AND 50",
    "pid / ppid > 1",
    "cpu_usage > 0.5 OR memory_usage < 100",
    "command_line LIKE '%' || name || '%'",
    "length(command_line) > 4 AND instr(command_line, 'x') = 0",
    "lower(name) IN ('sh', 'nginx', NULL)",
    "IFNULL(parent_name, 'none') <> 'none'",
    "CASE WHEN pid > 50 THEN name = 'sh' ELSE ppid END",
    "CAST(name AS INTEGER) = 0 AND coalesce(uid, 0) = 0",
    "start_time < event_time",
    "event_time >= '1970-01-01 00:00:05' AND strftime('%S', event_time) < '30'",
    "unixepoch(event_time) % 2",
    "namespaces LIKE '%\"pid\"%' OR provenance IS NULL",
    "(name = 'sh') = file_exists",
    "substr(executable_path, -3) = '/sh' OR executable_path || name IS NULL",
    "uid IN (0, 1000) AND NOT (euid = uid)",
    "NULL",
    "1",
];

fn directory_of(queries: impl IntoIterator<Item = String>) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (index, sql) in queries.into_iter().enumerate() {
        let text =
            format!("id = \"r{index:02}\"\ntitle = \"T\"\nseverity = \"low\"\ndedup = [\"pid\"]\nsql = '''{sql}'''\n");
        fs::write(directory.path().join(format!("{index:02}.toml")), text).unwrap();
    }
    directory
}

fn engine_of(queries: impl IntoIterator<Item = String>) -> DetectionEngine {
    let directory = directory_of(queries);
    let outcome = runtime().block_on(load_dir(directory.path())).unwrap();
    assert_eq!(outcome.problems, []);
    DetectionEngine::new(outcome)
}

fn query(condition: &str) -> String {
    format!("SELECT event_id, pid, name FROM processes.events WHERE {condition}")
}

fn engine() -> &'static DetectionEngine {
    static ENGINE: OnceLock<DetectionEngine> = OnceLock::new();
    ENGINE.get_or_init(|| engine_of(CONDITIONS.iter().map(|condition| query(condition))))
}

fn events() -> impl Strategy<Value = Vec<IdentifiedEvent>> {
    let text = |texts: &'static [&'static str]| {
        prop::option::weighted(0.8, prop::sample::select(texts)).prop_map(|text| text.map(str::to_owned))
    };
    let small = || prop::option::weighted(0.8, 0_u32..60);
    let flag = || prop::option::weighted(0.7, any::<bool>());
    let record = (
        (0_u32..100, small(), small(), small()),
        text(&["sh", "SH", "nginx", "bash", "7zip", "ü", ""]),
        text(&["/tmp/.x", "/tmp/a/sh", "/usr/bin/sh", "/bin/ü", ""]),
        text(&["sh -c x", "nginx: worker", "SH", "", "a\nb"]),
        (flag(), flag(), text(&["none", "cron"])),
        (prop::option::of(0.0_f64..2.0), prop::option::of(0_u64..200), prop::option::of(0_i64..20_000_000_000)),
        any::<bool>(),
    )
        .prop_map(
            |((pid, ppid, uid, euid), name, path, line, (exists, mismatch, parent), (cpu, memory, start), spaces)| {
                let mut record = ProcessRecord { name, executable_path: path, command_line: line, ..process(pid, "") };
                (record.ppid, record.uid, record.euid, record.parent_name) = (ppid, uid, euid, parent);
                (record.file_exists, record.image_mismatch) = (exists, mismatch);
                (record.cpu_usage, record.memory_usage, record.start_time) = (cpu, memory, start);
                if spaces {
                    record.namespaces.insert("pid".to_owned(), 1);
                }
                record
            },
        );
    let one = (0_i32..6, 0_i64..100_000_000_000, prop::option::weighted(0.97, record))
        .prop_map(|(event_type, event_time, process)| ProcessEvent { event_type, event_time, process });
    prop::collection::vec(one, 1..30).prop_map(identified)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_rule_finds_what_the_query_finds(events in events()) {
        let found = engine().execute_rules(&events, &[]).found;
        let source = Arc::new(Fixed { events, ..Fixed::default() });
        for (index, condition) in CONDITIONS.iter().enumerate() {
            let id = format!("r{index:02}");
            let of_rule: Vec<_> = found.iter().filter(|(rule, _)| rule.id == id).map(|(_, found)| found.event_id.clone()).collect();
            let answered = ask_of(source.clone(), &query(condition), &Parameters::default()).unwrap();
            let of_query: Vec<_> = answered.rows.iter().map(|row| cell_text(&row[0])).collect();
            prop_assert_eq!(of_rule, of_query, "{}", condition);
        }
    }
}

/// A condition that is put together at random, of what the screen before the engine understands and of what it does not.
fn condition() -> impl Strategy<Value = String> {
    let text = || prop::sample::select(&["name", "executable_path", "command_line", "parent_name"][..]);
    let number = || prop::sample::select(&["pid", "ppid", "uid", "file_exists"][..]);
    let literal = || prop::sample::select(&["'sh'", "'SH'", "'nginx'", "'cron'", "''", "'/tmp/.x'", "NULL"][..]);
    let comparison = || prop::sample::select(&["=", "<>", "<", "<=", ">", ">="][..]);
    let not = || prop::sample::select(&["", "NOT"][..]);
    let types = prop::sample::subsequence(vec!["'exec'", "'fork'", "'exit'", "'seen'", "'changed'", "'x'"], 1..4);
    let atom = prop_oneof![
        (text(), not(), prop::collection::vec(literal(), 1..4))
            .prop_map(|(column, not, list)| format!("{column} {not} IN ({})", list.join(", "))),
        (not(), types).prop_map(|(not, list)| format!("event_type {not} IN ({})", list.join(", "))),
        (comparison(), prop::sample::select(&["'exec'", "'exit'"][..]))
            .prop_map(|(comparison, literal)| format!("event_type {comparison} {literal}")),
        (text(), comparison(), literal())
            .prop_map(|(column, comparison, literal)| format!("{column} {comparison} {literal}")),
        (text(), comparison(), text()).prop_map(|(left, comparison, right)| format!("{left} {comparison} {right}")),
        (number(), comparison(), 0..60)
            .prop_map(|(column, comparison, value)| format!("{column} {comparison} {value}")),
        (number(), not(), 0..60).prop_map(|(column, not, value)| format!("{column} {not} IN (1, {value}, 7)")),
        (
            text(),
            not(),
            prop::sample::select(&["LIKE 's%'", "LIKE '%_x%'", "GLOB '*sh'", "REGEXP '^.{2}$'", "REGEXP 'x|w'"][..])
        )
            .prop_map(|(column, not, pattern)| format!("{column} {not} {pattern}")),
        (text(), not()).prop_map(|(column, not)| format!("{column} IS {not} NULL")),
        (text(), prop::sample::select(&["lower", "hex", "trim", "upper"][..]), comparison(), literal())
            .prop_map(|(column, function, comparison, literal)| format!("{function}({column}) {comparison} {literal}")),
        (text(), text(), not()).prop_map(|(a, b, not)| format!("IFNULL({a}, {b}) {not} IN ('sh', 'none')")),
        (text(), 0..3).prop_map(|(column, place)| format!("instr({column}, 'x') = {place}")),
        (text(), comparison(), 0..4)
            .prop_map(|(column, comparison, length)| format!("length({column}) {comparison} {length}")),
        (text(), 0..3).prop_map(|(column, from)| format!("substr({column}, {from}, 2) = 'sh'")),
        (number(), number(), comparison())
            .prop_map(|(a, b, comparison)| format!("coalesce({a}, 5) {comparison} abs({b})")),
        (text(), literal()).prop_map(|(column, literal)| format!("nullif({column}, {literal}) IS NULL")),
        prop::sample::select(
            &[
                "cpu_usage > 0.5",
                "name || 'x' = 'shx'",
                "file_exists",
                "image_mismatch = 1",
                "event_time < '1970-01-01 00:00:30'",
                "pid = '7'",
                "uid IN (1, 2.5)",
                "namespaces LIKE '%pid%'",
                "unixepoch(event_time) % 2",
                "NULL",
                "(name = 'sh') IS NOT TRUE",
            ][..]
        )
        .prop_map(str::to_owned),
    ];
    atom.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("({})", all.join(" AND "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|any| format!("({})", any.join(" OR "))),
            inner.prop_map(|inner| format!("NOT ({inner})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_screen_before_the_engine_leaves_no_match_out(conditions in prop::collection::vec(condition(), 6), events in events()) {
        let directory = directory_of(conditions.iter().map(|condition| query(condition)));
        // What is of two kinds at once is refused.
        let engine = DetectionEngine::new(runtime().block_on(load_dir(directory.path())).unwrap());
        prop_assume!(engine.rules().len() > 3);
        let found = engine.execute_rules(&events, &[]).found;
        let every_row = event_batch(Table::ProcessEvents, &events).unwrap();
        for rule in engine.rules().iter() {
            let own = found.iter().filter(|(own, _)| own.id == rule.rule.id).map(|(_, found)| found.clone());
            let own: Vec<_> = own.collect();
            prop_assert_eq!(own, rule.evaluate_each(&every_row).matches, "{}", rule.rule.sql);
        }
    }
}

#[test]
fn a_row_that_a_rule_cannot_digest_hides_nothing_else() {
    let engine = engine_of([
        "SELECT abs(exit_code - 9223372036854775807 - 1) FROM processes.events WHERE abs(exit_code - 9223372036854775807 - 1) > 0".to_owned(),
        query("name = 'sh'"),
    ]);
    let sh = |exit_code| identified([event(EventType::Seen, 1, ProcessRecord { exit_code, ..process(7, "sh") })]);
    let findings = engine.execute_rules(&sh(Some(0)), &[]);
    assert_eq!(findings.found.len(), 1, "the other rule goes on");
    assert_eq!(findings.failed.len(), 1);
    assert!(findings.failed[0].1.contains("1 of 1 rows"), "{:?}", findings.failed);
    let state = |index: usize| engine.record().rules()[index].clone();
    assert_eq!((state(0).state.as_str(), state(1).state.as_str()), ("unhealthy", "healthy"));
    assert!(state(0).reason.unwrap().contains("overflow"));
    // Beside the row that fails, the rule still finds another of the same batch; what happened stays visible.
    let both: Vec<_> = [Some(0), Some(2)].into_iter().flat_map(sh).collect();
    let findings = engine.execute_rules(&both, &[]);
    assert_eq!(findings.found.iter().filter(|(rule, _)| rule.id == "r00").count(), 1);
    assert!(engine.execute_rules(&sh(None), &[]).failed.is_empty());
    assert_eq!((state(0).state.as_str(), state(0).failed_rows), ("unhealthy", 2));
}

#[test]
fn what_rules_did_is_counted() {
    let engine = engine_of([query("name = 'sh'"), query("1")]);
    let reasons = ["polling: between scans".to_owned()];
    engine.execute_rules(
        &identified([event(EventType::Seen, 1, process(7, "sh")), event(EventType::Seen, 1, process(8, "x"))]),
        &reasons,
    );
    engine.execute_rules(&identified([event(EventType::Seen, 1, process(8, "x"))]), &[]);
    engine.execute_rules(&[], &[]);
    let rules = engine.record().rules();
    let counts: Vec<_> = rules.iter().map(|rule| (rule.evaluations, rule.rows, rule.matches)).collect();
    assert_eq!(counts, [(2, 3, 1), (2, 3, 3)]);
    assert!(rules.iter().all(|rule| rule.cost_ns > 0 && rule.last_match.is_some()));
    let runs = engine.record().runs();
    assert_eq!(runs.len(), 4);
    assert_eq!(runs[0].degraded_reasons, reasons);
}

/// Pages of this process that are its own, in bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let mut fields = statm.split(' ').skip(1).map(|field| field.parse::<usize>().unwrap());
    (fields.next().unwrap() - fields.next().unwrap()) * 4_096
}

#[test]
fn ten_thousand_evaluations_leave_nothing_behind() {
    let engine = engine_of([query("name LIKE 's%' AND command_line REGEXP 'x+'"), query("pid > 5")]);
    let events = identified((0..20).map(|pid| event(EventType::Seen, 1, process(pid, "sh"))));
    let evaluate = |times: usize| (0..times).for_each(|_| drop(engine.execute_rules(&events, &[])));
    evaluate(1_000);
    let before = resident();
    evaluate(10_000);
    let grown = resident().saturating_sub(before);
    assert_eq!(engine.record().runs().len(), 1_000);
    assert_eq!(engine.record().rules()[1].evaluations, 11_000);
    // Other tests run beside this one.
    assert!(grown < 64 << 20, "{grown} bytes more");
}

#[test]
fn refused_files_stay_visible() {
    let directory = directory_of([query("1"), "SELECT naem FROM processes.events".to_owned()]);
    let outcome = runtime().block_on(load_dir(directory.path())).unwrap();
    let rows = DetectionEngine::new(outcome).record().rules();
    assert_eq!(
        (rows[0].state.as_str(), rows[1].state.as_str(), rows[1].rule_id.as_str()),
        ("healthy", "refused", "r01")
    );
    assert!(rows[1].reason.as_deref().unwrap().contains("naem"));
}
