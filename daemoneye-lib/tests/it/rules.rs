//! Rule files: what loads, and what is said of what does not.

use crate::fixture::{event, identified, process, runtime};
use daemoneye_lib::detection::engine::event_batch;
use daemoneye_lib::detection::rules::{LoadOutcome, RuleProblem, load_dir, load_path};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::proto::common::{EventType, Severity};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const PLAIN: &str = "SELECT process_key, pid, executable_path FROM processes.events WHERE name = 'sh'";

fn rule(id: &str, sql: &str) -> String {
    format!("id = \"{id}\"\ntitle = \"T\"\nseverity = \"high\"\nsql = \"\"\"\n{sql}\n\"\"\"\n")
}

/// A rule with an exception, whose table begins on line 7.
fn exception(condition: &str, reason: &str, more: &str) -> String {
    format!("{}[[exceptions]]\nwhere = \"{condition}\"\nreason = \"{reason}\"\n{more}\n", rule("r", PLAIN))
}

fn load(directory: &Path) -> LoadOutcome {
    runtime().block_on(load_dir(directory)).unwrap()
}

fn loaded(files: &[(&str, &str)]) -> (TempDir, LoadOutcome) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let outcome = load(directory.path());
    (directory, outcome)
}

/// The one problem of the one file.
fn problem(text: &str) -> RuleProblem {
    let (_directory, mut outcome) = loaded(&[("r.toml", text)]);
    assert_eq!((outcome.rules.len(), outcome.problems.len()), (0, 1), "{text}\n{:?}", outcome.problems);
    outcome.problems.remove(0)
}

/// The problem of a rule with this query, which begins on line 5.
fn query_problem(sql: &str) -> RuleProblem {
    problem(&rule("r", sql))
}

#[test]
fn a_whole_rule_is_read() {
    let text = format!(
        "id = \"a-1\"\ntitle = \"T\"\nseverity = \"critical\"\ntags = [\"attack.t1059\"]\nauthor = \"A\"\ndescription = \"D\"\n\
         false_positives = [\"F\"]\ndedup = [\"pid\"]\ndedup_window = \"10m\"\nsql = \"{PLAIN}\"\n"
    );
    let (directory, outcome) = loaded(&[("deep/er/r.toml", &text), ("other.toml", &rule("b", PLAIN))]);
    assert_eq!(outcome.problems, []);
    let read = &outcome.rules[0].rule;
    assert_eq!(
        (read.id.as_str(), read.severity, read.dedup_window),
        ("a-1", Severity::Critical, Duration::from_secs(600))
    );
    assert_eq!((&read.dedup[..], &read.tags[..]), (&["pid".to_owned()][..], &["attack.t1059".to_owned()][..]));
    assert_eq!(read.file, directory.path().join("deep/er/r.toml"));
    let defaults = &outcome.rules[1].rule;
    assert_eq!(
        (&defaults.dedup[..], defaults.dedup_window.as_secs()),
        (&["process_key".to_owned(), "executable_path".to_owned()][..], 3_600)
    );
    let mut shell = process(7, "sh");
    shell.executable_path = Some("/bin/sh".to_owned());
    let batch = event_batch(Table::ProcessEvents, &identified([event(EventType::Seen, 1, shell)])).unwrap();
    let found = outcome.rules[1].evaluate(&batch).unwrap();
    assert_eq!((found[0].event_id.as_str(), found[0].pid, found[0].name.as_deref()), ("e-1", 7, Some("sh")));
    assert_eq!(found[0].dedup_key, r#"["00000000000000000000000000000007","/bin/sh"]"#);
    assert_eq!(
        found[0].row,
        r#"{"process_key":"00000000000000000000000000000007","pid":7,"executable_path":"/bin/sh"}"#
    );
    assert_eq!(outcome.rules[0].evaluate(&batch).unwrap()[0].dedup_key, "[7]");
}

#[test]
fn the_second_of_two_files_with_one_id_is_refused_and_both_are_named() {
    let (directory, outcome) =
        loaded(&[("a.toml", &rule("same", PLAIN)), ("b.toml", &rule("same", PLAIN)), ("c.toml", &rule("c", PLAIN))]);
    assert_eq!(outcome.rules.iter().map(|rule| rule.rule.id.as_str()).collect::<Vec<_>>(), ["c", "same"]);
    let problem = &outcome.problems[0];
    assert_eq!(problem.file, directory.path().join("b.toml"));
    assert_eq!(problem.rule_id.as_deref(), Some("same"));
    let text = problem.to_string();
    assert!(text.contains("a.toml") && text.contains("b.toml") && text.contains("`same`"), "{text}");
}

#[test]
fn what_is_wrong_with_the_file_has_its_place() {
    let with = |line: &str| format!("{line}\n{}", rule("r", PLAIN).lines().skip(1).collect::<Vec<_>>().join("\n"));
    for (text, message, hint, line, column) in [
        ("id = \"r\"\ntitle = \n".to_owned(), "", "", 2, 9),
        (
            format!("severty = \"high\"\n{}", rule("r", PLAIN)),
            "unknown field `severty`",
            "did you mean `severity`?",
            1,
            1,
        ),
        (format!("windw = \"1h\"\n{}", rule("r", PLAIN)), "unknown field `windw`", "did you mean `window`?", 1, 1),
        (
            format!("every = \"1h\"\n{}", rule("r", PLAIN)),
            "`every` is for rules that run on a schedule",
            "window",
            1,
            9,
        ),
        (format!("mode = \"diff\"\n{}", rule("r", PLAIN)), "`mode` is for rules that run on a schedule", "", 1, 8),
        (format!("window = \"1m\"\nmode = \"dif\"\n{}", rule("r", PLAIN)), "unknown mode `dif`", "", 2, 8),
        (
            format!("window = \"1m\"\nevery = \"2m\"\n{}", rule("r", PLAIN)),
            "`every` is 120 s",
            "at least as long",
            2,
            9,
        ),
        (format!("window = \"1m\"\nevery = \"0s\"\n{}", rule("r", PLAIN)), "at most once a second", "", 2, 9),
        (exception("pid = 1", "", ""), "the reason of an exception is empty", "who decided", 9, 10),
        (exception("pid = 1", "x", "expires = 2026-13-01"), "", "", 10, 0),
        (exception("pid = 1", "x", "expires = \"soon\""), "`expires` is no date", "2027-01-31", 10, 11),
        (exception("pid = 1", "x", "expires = 2026-01-01T00:00:00Z"), "`expires` is no date", "", 10, 11),
        (exception("pid = 1", "x", "until = 1"), "unknown field `until`", "", 10, 1),
        (exception("naem = 'x'", "x", ""), "no such column: naem", "did you mean `name`?", 8, 10),
        (exception("name = 'x') OR (1", "x", ""), "a condition should end before `)`", "one condition", 8, 20),
        (exception("name IN (@none)", "x", ""), "no such list: @none", "lists.toml", 8, 0),
        (exception("pid > (SELECT 1)", "x", ""), "a sub-query", "", 8, 0),
        (with("id = \"Big\""), "the id `Big` is not of the form", "", 1, 6),
        (with("id = \"-r\""), "the id `-r` is not of the form", "", 1, 6),
        (with("id = \"\""), "the id `` is not of the form", "", 1, 6),
        (with("title = \"x\""), "duplicate key", "", 2, 1),
        (
            rule("r", PLAIN).replace("high", "severe"),
            "unknown severity `severe`: use low, medium, high or critical",
            "",
            3,
            12,
        ),
        (format!("dedup = [\"pidd\"]\n{}", rule("r", PLAIN)), "`dedup` names `pidd`", "did you mean `pid`?", 1, 9),
        (format!("dedup = [\"event_id\"]\n{}", rule("r", PLAIN)), "`dedup` names `event_id`", "", 1, 9),
        (format!("dedup_window = \"soon\"\n{}", rule("r", PLAIN)), "`soon` is not a duration", "", 1, 16),
        (format!("dedup_window = \"999999999999999999d\"\n{}", rule("r", PLAIN)), "is not a duration", "", 1, 16),
        (format!("dedup_window = \"ä\"\n{}", rule("r", PLAIN)), "is not a duration", "", 1, 16),
        ("id = \"r\"\ntitle = \"T\"\nseverity = \"low\"\n".to_owned(), "missing field `sql`", "", 1, 1),
    ] {
        let problem = problem(&text);
        assert!(problem.message.contains(message), "{text}\n{problem:?}");
        assert!(problem.hint.clone().unwrap_or_default().contains(hint), "{text}\n{problem:?}");
        // Where the place is the parser's choice, the line is enough.
        let at = if column == 0 { 0 } else { problem.column };
        assert_eq!((problem.line, at), (line, column), "{text}\n{problem:?}");
    }
}

#[test]
fn what_is_wrong_with_the_query_has_its_place_in_the_file() {
    let head = "id = \"r\"\ntitle = \"T\"\nseverity = \"high\"\n";
    for (sql, line, column) in [
        ("sql = \"\"\"\nSELECT pid\nFROM processes.events\n  WHERE naem = 1\n\"\"\"", 7, 9),
        ("sql = \"\"\"\r\nSELECT pid\r\nFROM processes.events\r\n  WHERE naem = 1\r\n\"\"\"", 7, 9),
        ("sql = '''\nSELECT pid FROM processes.events\nWHERE naem = 1\n'''", 6, 7),
        ("sql = \"\"\"SELECT naem FROM processes.events\"\"\"", 4, 17),
        ("sql = \"SELECT naem FROM processes.events\"", 4, 15),
        ("sql = 'SELECT naem FROM processes.events'", 4, 15),
        ("   sql   =   'SELECT naem FROM processes.events'", 4, 22),
        ("sql = \"\"\"\nSELECT 'ä', naem FROM processes.events\n\"\"\"", 5, 13),
    ] {
        let problem = problem(&format!("{head}{sql}\n"));
        assert!(problem.message.contains("naem"), "{problem:?}");
        assert_eq!((problem.line, problem.column), (line, column), "{sql}\n{problem:?}");
        assert_eq!(problem.hint.as_deref(), Some("did you mean `name`?"), "{sql}");
        assert_eq!(problem.rule_id.as_deref(), Some("r"));
        assert!(problem.to_string().contains(&format!("r.toml:{line}:{column}: ")), "{problem}");
    }
    let syntax = query_problem("SELECT pid FROM processes.events\nWHERE name = = 'x'");
    assert_eq!((syntax.line, syntax.column), (6, 14), "{syntax:?}");
}

#[test]
fn what_a_rule_may_not_do_is_refused_with_the_way_out() {
    for (sql, message, hint) in [
        ("SELECT count(*) FROM processes.events", "an aggregate", "add window"),
        ("SELECT pid FROM processes.events GROUP BY pid", "an aggregate", "add window"),
        ("SELECT pid FROM processes.events WHERE pid > (SELECT 1)", "a sub-query", "add window"),
        ("SELECT pid FROM processes.events WHERE EXISTS (SELECT 1)", "a sub-query", "add window"),
        (
            "SELECT pid FROM processes.events e JOIN processes p USING (process_key)",
            "JOIN",
            "the columns of the parent",
        ),
        ("SELECT e.pid FROM processes.events e, processes p", "one table", "add window"),
        ("SELECT pid FROM processes.events LIMIT 1", "LIMIT", "hide matches"),
        ("SELECT pid FROM processes.events ORDER BY pid", "ORDER BY", "order of their events"),
        ("SELECT DISTINCT pid FROM processes.events", "DISTINCT", "`dedup`"),
        ("SELECT pid FROM processes.events UNION SELECT 1", "UNION", "a rule for each part"),
        ("WITH a AS (SELECT 1) SELECT pid FROM processes.events", "WITH", ""),
        ("SELECT pid FROM alerts", "the table alerts", "processes.events"),
        ("SELECT pid FROM bananas", "no such table: bananas", "processes.events"),
        ("SELECT 1", "one table", ""),
        ("DELETE FROM processes", "DELETE is not allowed", "read-only"),
        ("VALUES (1)", "VALUES", ""),
        ("SELECT pid FROM processes.events; SELECT 1", "more than one statement", ""),
        ("SELECT pid FROM processes.events WHERE name = ?", "no value was given", ""),
        ("SELECT pid FROM processes.events WHERE load_extension('x')", "`load_extension` is not allowed", ""),
        ("SELECT event_id FROM processes", "no such column", ""),
        ("SELECT pid FROM processes.events WHERE name REGEXP '('", "bad regular expression", ""),
    ] {
        let problem = query_problem(sql);
        assert!(problem.message.contains(message), "{sql}\n{problem:?}");
        assert!(problem.hint.clone().unwrap_or_default().contains(hint), "{sql}\n{problem:?}");
        assert!(problem.line >= 5, "{sql}\n{problem:?}");
    }
}

#[test]
fn forms_that_a_rule_may_have() {
    let forms = [
        "SELECT * FROM processes.events",
        "SELECT e.* FROM processes.events AS e WHERE e.name LIKE 's%'",
        "SELECT pid AS Number, name || 'x' AS n, CASE WHEN file_exists THEN 1 END FROM processes.events",
        "SELECT pid FROM processes WHERE file_exists",
        "SELECT pid FROM processes.events WHERE 1",
        "SELECT pid FROM processes.events WHERE NULL",
        "SELECT pid FROM processes.events WHERE event_time > datetime('now', '-1 hour') OR unixepoch() < 0",
        "SELECT 1, NULL, 'x', 1 = 1 FROM processes.events WHERE pid IN ()",
        "SELECT pid AS __hidden, pid, pid FROM processes.events WHERE processes.events.pid = 7",
    ];
    let files: Vec<_> = forms
        .iter()
        .enumerate()
        .map(|(index, sql)| (format!("{index}.toml"), rule(&format!("r{index}"), sql)))
        .collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let (_directory, outcome) = loaded(&files);
    assert_eq!(outcome.problems, []);
    assert_eq!(outcome.rules.len(), forms.len());
    let batch = event_batch(Table::ProcessEvents, &identified([event(EventType::Seen, 1, process(7, "sh"))])).unwrap();
    let matches: Vec<usize> = outcome.rules.iter().map(|rule| rule.evaluate(&batch).unwrap().len()).collect();
    assert_eq!(matches, [1, 1, 1, 0, 1, 0, 0, 0, 1]);
    let named: serde_json::Value = serde_json::from_str(&outcome.rules[2].evaluate(&batch).unwrap()[0].row).unwrap();
    assert_eq!((&named["Number"], &named["n"]), (&7.into(), &"shx".into()));
    let all: serde_json::Value = serde_json::from_str(&outcome.rules[0].evaluate(&batch).unwrap()[0].row).unwrap();
    assert_eq!(all["event_time"], "1970-01-01T00:00:00.000000Z");
    assert_eq!(all.as_object().unwrap().len(), crate::fixture::all_columns().len());
}

#[test]
fn only_rule_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("linked.toml"), rule("linked", PLAIN)).unwrap();
    fs::write(directory.path().join(".hidden.toml"), "no rule").unwrap();
    fs::write(directory.path().join("r.toml~"), "no rule").unwrap();
    fs::write(directory.path().join("README.md"), "no rule").unwrap();
    fs::create_dir(directory.path().join(".git")).unwrap();
    fs::write(directory.path().join(".git/x.toml"), "no rule").unwrap();
    fs::write(directory.path().join("r.toml"), rule("r", PLAIN)).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("link")).unwrap();
    std::os::unix::fs::symlink(directory.path(), directory.path().join("loop")).unwrap();
    let outcome = load(directory.path());
    assert_eq!(outcome.problems, []);
    assert_eq!(outcome.rules.iter().map(|rule| rule.rule.id.as_str()).collect::<Vec<_>>(), ["r"]);
    // A link to a file is that file.
    std::os::unix::fs::symlink(elsewhere.path().join("linked.toml"), directory.path().join("linked.toml")).unwrap();
    assert_eq!(load(directory.path()).rules.len(), 2);
}

#[test]
fn what_cannot_be_read_is_a_problem_of_that_file_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("good.toml"), rule("r", PLAIN)).unwrap();
    fs::write(directory.path().join("large.toml"), format!("# {}\n{}", "x".repeat(300 * 1024), rule("l", PLAIN)))
        .unwrap();
    fs::write(directory.path().join("bytes.toml"), b"id = \"\xff\"").unwrap();
    std::os::unix::fs::symlink("/nowhere", directory.path().join("gone.toml")).unwrap();
    std::os::unix::fs::symlink("/tmp", directory.path().join("directory.toml")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, directory.path().join("pipe.toml"), rustix::fs::Mode::RUSR).unwrap();
    let outcome = load(directory.path());
    assert_eq!(outcome.rules.len(), 1);
    let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 5, "{problems:?}");
    for (problem, (name, why)) in problems.iter().zip([
        ("bytes.toml", "UTF-8"),
        ("directory.toml", "not a regular file"),
        ("gone.toml", "cannot be read"),
        ("large.toml", "larger than"),
        ("pipe.toml", "not a regular file"),
    ]) {
        assert!(problem.contains(name) && problem.contains(why), "{problem}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    assert!(runtime().block_on(load_dir(&directory.path().join("none"))).is_err());
    assert_eq!(runtime().block_on(load_path(&directory.path().join("none.toml"))).unwrap().problems.len(), 1);
}

/// What a rule finds among processes of these names, numbered from 1.
fn found(rule: &daemoneye_lib::detection::engine::CompiledRule, names: &[&str]) -> Vec<u32> {
    let processes = names.iter().zip(1..).map(|(name, pid)| event(EventType::Seen, 1, process(pid, name)));
    let batch = event_batch(Table::ProcessEvents, &identified(processes)).unwrap();
    rule.evaluate_each(&batch).matches.iter().map(|found| found.pid).collect()
}

#[test]
fn lists_stand_for_their_values() {
    let by = |condition: &str| rule("r", &format!("SELECT pid FROM processes.events WHERE {condition}"));
    let lists = "shells = ['sh', \"b'ash\"]\nnumbers = [2, 3]\nnone = []\n";
    let names = ["sh", "b'ash", "nginx"];
    for (condition, pids) in [
        ("name IN (@shells)", vec![1, 2]),
        ("name NOT IN (@shells)", vec![3]),
        ("name IN ('nginx', @shells)", vec![1, 2, 3]),
        ("pid IN (@numbers)", vec![2, 3]),
        ("name IN (@none)", vec![]),
        ("name NOT IN (@none)", vec![1, 2, 3]),
        ("lower(name) IN (@shells) AND pid IN (@numbers)", vec![2]),
    ] {
        let (_directory, outcome) = loaded(&[("lists.toml", lists), ("r.toml", &by(condition))]);
        assert_eq!(outcome.problems, [], "{condition}");
        assert_eq!(found(&outcome.rules[0], &names), pids, "{condition}");
    }
    for (condition, message, hint) in [
        ("name IN (@shels)", "no such list: @shels", "did you mean `@shells`?"),
        ("name = @shells", "the list @shells stands outside of IN (…)", "write column IN (@shells)"),
        ("name IN (?)", "no value was given", ""),
    ] {
        let (_directory, outcome) = loaded(&[("lists.toml", lists), ("r.toml", &by(condition))]);
        let problem = &outcome.problems[0];
        assert!(problem.message.contains(message), "{problem:?}");
        assert!(problem.hint.clone().unwrap_or_default().contains(hint), "{problem:?}");
        assert_eq!(problem.line, 5, "{problem:?}");
    }
}

#[test]
fn broken_lists_stop_the_rules_that_use_them_alone() {
    let plain = rule("plain", PLAIN);
    let listed = rule("listed", "SELECT pid FROM processes.events WHERE name IN (@a)");
    let files = [("lists.toml", "a = 1\n"), ("l.toml", &listed), ("p.toml", &plain), ("deep/lists.toml", "b = []\n")];
    let (directory, outcome) = loaded(&files);
    assert_eq!(outcome.rules.iter().map(|rule| rule.rule.id.as_str()).collect::<Vec<_>>(), ["plain"]);
    let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    for words in ["lists.toml:1:5: the list `a` is no array", "top of the rules directory", "no such list: @a"] {
        assert!(problems.iter().any(|problem| problem.contains(words)), "{words}: {problems:?}");
    }
    // One rule on its own finds the lists above it.
    fs::write(directory.path().join("lists.toml"), "a = ['sh']\n").unwrap();
    fs::create_dir(directory.path().join("own")).unwrap();
    fs::write(directory.path().join("own/rule.toml"), listed).unwrap();
    for path in ["own", "own/rule.toml"] {
        let outcome = runtime().block_on(load_path(&directory.path().join(path))).unwrap();
        assert_eq!((outcome.rules.len(), &outcome.problems[..]), (1, &[][..]), "{path}");
    }
}

#[test]
fn exceptions_take_rows_out_until_they_expire() {
    let with = |more: &str| format!("{}{more}", rule("r", "SELECT pid FROM processes.events WHERE pid < 4"));
    let one = |condition: &str, expires: &str| {
        format!("[[exceptions]]\nwhere = '''{condition}'''\nreason = \"known\"\n{expires}\n")
    };
    let names = ["sh", "bash", "nginx", "other"];
    for (exceptions, pids) in [
        (one("name = 'sh'", ""), vec![2, 3]),
        (one("name = 'sh'", "") + &one("name IN (@known)", ""), vec![3]),
        (one("parent_name = 'x'", ""), vec![1, 2, 3]),
        (one("1", ""), vec![]),
        (one("name = 'sh'", "expires = 2199-01-01"), vec![2, 3]),
        (one("name = 'sh'", "expires = 2020-01-01"), vec![1, 2, 3]),
        (one("name = 'sh'", "expires = \"2020-01-01\""), vec![1, 2, 3]),
    ] {
        let (_directory, outcome) = loaded(&[("lists.toml", "known = ['bash']\n"), ("r.toml", &with(&exceptions))]);
        assert_eq!(outcome.problems, [], "{exceptions}");
        assert_eq!(found(&outcome.rules[0], &names), pids, "{exceptions}");
    }
    let today = daemoneye_lib::models::time::sql_text(daemoneye_lib::models::time::now_ns());
    let text = with(&one("name = 'sh'", &format!("expires = {}", &today[..10])));
    let (_directory, outcome) = loaded(&[("r.toml", &text)]);
    assert_eq!(found(&outcome.rules[0], &names), [2, 3], "it applies through that day");
    let rows = daemoneye_lib::detection::standing::DetectionEngine::new(outcome).record().rules();
    let shown: serde_json::Value = serde_json::from_str(rows[0].exceptions.as_deref().unwrap()).unwrap();
    assert_eq!((&shown[0]["reason"], &shown[0]["applies"]), (&"known".into(), &true.into()));
    assert_eq!(rows[0].expired_exceptions, 0);
}

#[test]
fn a_file_that_is_refused_leaves_the_rule_before_in_force() {
    use daemoneye_lib::detection::standing::{Change, DetectionEngine};
    let write = |directory: &Path, name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    let (directory, outcome) = loaded(&[("a.toml", &rule("a", PLAIN)), ("b.toml", &rule("b", PLAIN))]);
    let engine = DetectionEngine::new(outcome);
    let again = || {
        let before = engine.rules();
        let load = daemoneye_lib::detection::rules::load_dir_again(directory.path(), &before);
        engine.replace(runtime().block_on(load).unwrap())
    };
    let state = || -> Vec<(String, String)> {
        engine.record().rules().into_iter().map(|row| (row.rule_id, row.state)).collect()
    };
    let named = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(id, what)| ((*id).to_owned(), (*what).to_owned())).collect()
    };
    let said = |changes: Vec<Change>| -> Vec<(String, String)> {
        changes.into_iter().map(|change| (change.rule_id, change.what.to_owned())).collect()
    };
    let before = engine.rules();
    assert_eq!(said(again()), []);
    assert!(std::sync::Arc::ptr_eq(&before[0], &engine.rules()[0]), "what is the same is not compiled again");

    write(directory.path(), "a.toml", &rule("a", "SELECT naem FROM processes.events"));
    write(directory.path(), "c.toml", &rule("c", PLAIN));
    assert_eq!(said(again()), named(&[("a", "kept"), ("c", "added")]));
    assert_eq!(state(), named(&[("a", "unhealthy"), ("b", "healthy"), ("c", "healthy")]));
    assert!(engine.record().rules()[0].reason.as_deref().unwrap().contains("naem"));
    let events = identified([event(EventType::Seen, 1, process(7, "sh"))]);
    let fired = || -> Vec<String> {
        engine.execute_rules(&events, &[]).found.into_iter().map(|(rule, _)| rule.id.clone()).collect()
    };
    assert_eq!(fired(), ["a", "b", "c"]);

    write(directory.path(), "a.toml", "not even TOML");
    fs::remove_file(directory.path().join("b.toml")).unwrap();
    assert_eq!(said(again()), named(&[("a", "kept"), ("b", "removed")]));
    assert_eq!(fired(), ["a", "c"]);

    write(directory.path(), "a.toml", &rule("a", "SELECT pid FROM processes.events WHERE name = 'other'"));
    assert_eq!(said(again()), named(&[("a", "changed")]));
    assert_eq!(state(), named(&[("a", "healthy"), ("c", "healthy")]));
    assert_eq!(fired(), ["c"]);
}
