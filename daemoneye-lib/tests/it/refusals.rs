//! What may not run is refused by name, with its place, at any depth.

use crate::fixture::{queries, runtime};
use daemoneye_lib::detection::query::QueryError;
use daemoneye_lib::detection::{Parameters, Refusal};

fn refusal(sql: &str) -> Refusal {
    match runtime().block_on(queries().validate_sql(sql, &Parameters::default())) {
        Err(QueryError::Refused(refusal)) => refusal,
        other => panic!("{}: {other:?}", sql.chars().take(200).collect::<String>()),
    }
}

/// What is refused, with a part of the message, and where: the text that stands at the place.
fn assert_refused(cases: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, message, at) in cases {
        let answered = runtime().block_on(queries().validate_sql(sql, &Parameters::default()));
        let Err(QueryError::Refused(refusal)) = answered else {
            wrong.push(format!("{sql}\n  was not refused: {answered:?}"));
            continue;
        };
        let line = usize::try_from(refusal.line).unwrap();
        let column = usize::try_from(refusal.column).unwrap();
        let place: Option<String> =
            sql.lines().nth(line.wrapping_sub(1)).map(|line| line.chars().skip(column.wrapping_sub(1)).collect());
        if !refusal.message.contains(message) || !place.as_deref().is_some_and(|place| place.starts_with(at)) {
            wrong.push(format!("{sql}\n  {refusal:?}\n  at {place:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn whatever_is_not_one_select() {
    assert_refused(&[
        ("DELETE FROM processes", "DELETE is not allowed", "DELETE"),
        (" \n INSERT INTO processes VALUES (1)", "INSERT is not allowed", "INSERT"),
        ("REPLACE INTO processes VALUES (1)", "REPLACE is not allowed", "REPLACE"),
        ("UPDATE processes SET pid = 1", "UPDATE is not allowed", "UPDATE"),
        ("DROP TABLE processes", "DROP is not allowed", "DROP"),
        ("CREATE TABLE x (y int)", "CREATE is not allowed", "CREATE"),
        ("ALTER TABLE processes ADD COLUMN x int", "ALTER is not allowed", "ALTER"),
        ("PRAGMA table_info(processes)", "PRAGMA is not allowed", "PRAGMA"),
        ("PRAGMA journal_mode = OFF", "PRAGMA is not allowed", "PRAGMA"),
        ("ATTACH DATABASE '/etc/passwd' AS x", "ATTACH is not allowed", "ATTACH"),
        ("ATTACH '/etc/passwd' AS x", "ATTACH is not allowed", "ATTACH"),
        ("VACUUM", "VACUUM is not allowed", "VACUUM"),
        ("BEGIN", "is not allowed", "BEGIN"),
        ("COMMIT", "COMMIT is not allowed", "COMMIT"),
        ("EXPLAIN SELECT 1", "EXPLAIN is not allowed", "EXPLAIN"),
        ("COPY processes TO '/tmp/x'", "COPY is not allowed", "COPY"),
        ("SET x = 1", "SET is not allowed", "SET"),
        ("SHOW TABLES", "SHOW is not allowed", "SHOW"),
        ("VALUES (1)", "VALUES in place of SELECT", "VALUES"),
        ("SELECT 1; SELECT 2", "more than one statement", "SELECT 2"),
        ("SELECT 1;\nDROP TABLE processes;", "more than one statement", "DROP"),
        ("WITH x AS (DELETE FROM processes RETURNING *) SELECT * FROM x", "", "DELETE"),
        ("SELECT * INTO x FROM processes", "INTO", "SELECT"),
        ("SELECT * FROM (VALUES (1)) AS v", "VALUES in place of SELECT", "VALUES"),
        ("SELECT * FROM (TABLE processes) t", "", ""),
    ]);
    assert_eq!(refusal("").message, "the statement is empty");
    assert!(refusal("DELETE FROM processes").hint.unwrap().contains("read-only"));
}

#[test]
fn functions_that_are_not_allowed_at_any_depth() {
    let f = "load_extension";
    let wanted = "the function `load_extension` is not allowed";
    let at = "load_extension(";
    let places = [
        "SELECT F('x')",
        "SELECT 1 + F('x')",
        "SELECT * FROM processes WHERE F('x')",
        "WITH a AS (SELECT CASE WHEN pid > 1 THEN F('x') END FROM processes) SELECT * FROM a",
        "SELECT CASE F('x') WHEN 1 THEN 2 END",
        "SELECT CASE 1 WHEN F('x') THEN 2 END",
        "SELECT CASE 1 WHEN 2 THEN 3 ELSE F('x') END",
        "SELECT CAST(F('x') AS TEXT)",
        "SELECT * FROM processes a JOIN processes b ON F('x') = a.pid",
        "SELECT source FROM processes GROUP BY source HAVING F('x')",
        "SELECT source FROM processes GROUP BY F('x')",
        "SELECT pid FROM processes ORDER BY F('x')",
        "SELECT count(*) FILTER (WHERE F('x')) FROM processes",
        "SELECT sum(F('x')) FROM processes",
        "SELECT pid IN (1, F('x')) FROM processes",
        "SELECT pid IN (SELECT F('x')) FROM processes",
        "SELECT (SELECT F('x'))",
        "SELECT EXISTS (SELECT 1 WHERE F('x'))",
        "SELECT pid BETWEEN 1 AND F('x') FROM processes",
        "SELECT name LIKE F('x') FROM processes",
        "SELECT name GLOB F('x') FROM processes",
        "SELECT name REGEXP F('x') FROM processes",
        "SELECT NOT F('x')",
        "SELECT -F('x')",
        "SELECT F('x') IS NULL",
        "SELECT (F('x'))",
        "SELECT 'a' || F('x')",
        "SELECT 1 UNION SELECT F('x')",
        "SELECT * FROM (SELECT F('x') AS y) AS z",
        "SELECT pid FROM processes LIMIT F('x')",
        "SELECT pid FROM processes LIMIT 1 OFFSET F('x')",
        "SELECT substr(F('x'), 1)",
        "SELECT trim(F('x'))",
        "SELECT lower(upper(hex(F('x'))))",
    ];
    let written: Vec<String> = places
        .iter()
        .map(|place| place.replace('F', "\u{1}").replace("\u{1}(", &format!("{f}(")).replace('\u{1}', "F"))
        .collect();
    assert_refused(&written.iter().map(|sql| (sql.as_str(), wanted, at)).collect::<Vec<_>>());
}

#[test]
fn constructs_that_are_not_of_the_dialect() {
    assert_refused(&[
        ("SELECT row_number() OVER () FROM processes", "window function", "row_number"),
        ("SELECT sum(pid) OVER (ORDER BY pid) FROM processes", "window function", "sum"),
        ("SELECT count(*) OVER w FROM processes WINDOW w AS ()", "", ""),
        ("WITH RECURSIVE a AS (SELECT 1) SELECT * FROM a", "WITH RECURSIVE", "WITH"),
        ("SELECT * FROM generate_series(1, 10)", "the table function generate_series", "generate_series"),
        ("SELECT * FROM json_each('[]')", "the table function json_each", "json_each"),
        ("SELECT * FROM processes NATURAL JOIN alerts", "NATURAL JOIN", "NATURAL"),
        ("SELECT pid::text FROM processes", "is not supported", "pid"),
        ("SELECT CAST(pid AS BLOB) FROM processes", "a cast to", "pid"),
        ("SELECT name COLLATE NOCASE FROM processes", "is not supported", "name"),
        ("SELECT x'00'", "the literal", "x'00'"),
        ("SELECT DISTINCT ON (pid) pid FROM processes", "DISTINCT ON", "SELECT"),
        ("SELECT * EXCEPT (pid) FROM processes", "", ""),
        ("SELECT pid FROM processes FOR UPDATE", "FOR UPDATE", "FOR"),
        ("SELECT interval '1 day'", "is not supported", ""),
        ("SELECT 1 ~ 2", "is not supported", "2"),
        ("SELECT a -> 'b' FROM processes", "is not supported", ""),
        ("SELECT lower(DISTINCT name) FROM processes", "DISTINCT", "lower"),
        ("SELECT lower(*) FROM processes", "* as an argument", "lower"),
        ("SELECT lower(name, pid) FROM processes", "`lower` takes 1 arguments, not 2", "lower"),
        ("SELECT max(pid, ppid) FROM processes", "`max` takes 1 arguments, not 2", "max"),
        ("SELECT __real(pid) FROM processes", "the function `__real` is not allowed", "__real"),
        ("SELECT main.lower(name) FROM processes", "the function name", "main"),
        ("SELECT EXISTS (SELECT 1), pid FROM processes", "WHERE and HAVING alone", "SELECT 1)"),
        ("SELECT pid, pid IN (SELECT 1) FROM processes", "WHERE and HAVING alone", "pid IN"),
        ("SELECT name REGEXP '(' FROM processes", "bad regular expression", "name"),
        ("SELECT 1 FROM processes LATERAL", "", ""),
    ]);
}

#[test]
fn syntax_errors_have_their_place() {
    assert_refused(&[
        ("SELEC 1", "syntax error", "SELEC"),
        ("SELECT pid\nFROM processes\nWHERE name = = 'x'", "syntax error", "= 'x'"),
        ("SELECT 'open", "syntax error", "'open"),
        ("SELECT (1", "syntax error", ""),
        ("SELECT pid FROM processes WHERE", "syntax error", ""),
        ("SELECT 'ä', pid FROM processes WHERE )", "syntax error", ")"),
    ]);
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    assert_refused(&[
        ("SELECT 1,\n  naem FROM processes", "no such column", "naem"),
        ("SELECT p.naem FROM processes p", "no such column", "p.naem"),
        ("SELECT pid FROM processes WHERE x.pid = 1", "no such column", "x.pid"),
        ("SELECT pid FROM process", "no such table: process", "process"),
        (
            "SELECT pid FROM processes a JOIN processes.evnts b ON 1",
            "no such table: processes.evnts",
            "processes.evnts",
        ),
        ("SELECT pid FROM processes a, processes b", "ambiguous", "pid"),
        ("SELECT pid FROM processes WHERE name = \"sh\"", "no such column: sh", "\"sh\""),
        ("SELECT lowr(name) FROM processes", "the function `lowr` is not allowed", "lowr"),
        ("WITH a AS (SELECT pid FROM processes) SELECT ppid FROM a", "no such column", "ppid"),
        ("SELECT pid FROM information_schema.tables", "no such table", "information_schema"),
    ]);
    let hint = |sql: &str| refusal(sql).hint.unwrap_or_default();
    assert_eq!(hint("SELECT naem FROM processes"), "did you mean `name`?");
    assert_eq!(hint("SELECT pid FROM processs"), "did you mean `processes`?");
    assert_eq!(hint("SELECT pid FROM proceses.events"), "did you mean `processes.events`?");
    assert_eq!(hint("SELECT lowr(name) FROM processes"), "did you mean `lower`?");
    assert!(hint("SELECT pid FROM processes WHERE name = \"sh\"").contains("single quotes"));
    assert!(hint("SELECT unheard_of FROM system.gaps").contains("gap_id"));
    assert!(hint("SELECT pid FROM bananas").contains("system.gaps"));
    assert!(hint("SELECT frobnicate(1)").contains("strftime"));
    assert!(hint("WITH RECURSIVE a AS (SELECT 1) SELECT * FROM a").contains("processes.ancestors"));
}
