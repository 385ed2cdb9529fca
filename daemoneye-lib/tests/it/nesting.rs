//! However deep, long or wrong a statement is, it is answered or refused: quickly, and without bringing anybody down.

use crate::fixture::{host, on_planning_stack, queries, runtime};
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::query::QueryError;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs or refuses the statement on a planning stack; how it ended.
fn survived(sql: String) -> Result<usize, QueryError> {
    let begun = Instant::now();
    let shown: String = sql.chars().take(60).collect();
    let ended = on_planning_stack(move || {
        runtime().block_on(async {
            let queries = queries();
            let mut answer = queries.run(&sql, &Parameters::default(), Arc::new(host())).await?;
            let mut rows = 0;
            while let Some(batch) = answer.next().await {
                rows += batch?.num_rows();
            }
            Ok(rows)
        })
    });
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{shown}… took {took:?}");
    ended
}

fn refused(sql: String) -> String {
    let shown: String = sql.chars().take(60).collect();
    match survived(sql) {
        Err(QueryError::Refused(refusal)) => refusal.message,
        other => panic!("{shown}…: {other:?}"),
    }
}

#[test]
fn long_conditions_run() {
    for sql in [
        format!("SELECT pid FROM processes WHERE {}0", "pid=1 OR ".repeat(2_400)),
        format!("SELECT pid FROM processes WHERE {}0", "1 OR ".repeat(4_900)),
        format!("SELECT pid FROM processes WHERE pid=1 AND {}1", "1 AND ".repeat(4_900)),
        format!("SELECT pid FROM processes WHERE pid IN ({}1)", "2, ".repeat(4_900)),
        format!("SELECT pid FROM processes WHERE {}pid=1", "pid=1 AND name='systemd' OR pid=7 AND ".repeat(600)),
    ] {
        let shown: String = sql.chars().take(60).collect();
        let rows = survived(sql).unwrap_or_else(|error| panic!("{shown}…: {error}"));
        assert!(rows > 0, "{shown}…");
    }
}

#[test]
fn many_columns_and_many_tables_are_answered() {
    assert_eq!(survived(format!("SELECT {}1 FROM processes", "pid, ".repeat(2_000))).unwrap(), 5);
    assert_eq!(survived(format!("SELECT CASE {} END FROM processes", "WHEN pid=1 THEN 2 ".repeat(1_000))).unwrap(), 5);
    let _ = survived(format!(
        "SELECT 1 FROM processes p0{}",
        (1..200).map(|at| format!(" JOIN processes p{at} USING (process_key)")).collect::<String>()
    ));
}

#[test]
fn ten_megabytes_are_refused_at_once() {
    let begun = Instant::now();
    assert!(refused("SELECT 1 ".repeat(10 << 17)).contains("bytes"));
    assert!(begun.elapsed() < Duration::from_millis(500));
}

#[test]
fn deep_nesting_is_refused() {
    let within = |open: &str, close: &str, times: usize| {
        format!("SELECT {}1{} FROM processes", open.repeat(times), close.repeat(times))
    };
    for sql in [
        within("(", ")", 10_000),
        within("(", ")", 49),
        within("NOT ", "", 9_000),
        within("- ", "", 9_000),
        within("CASE WHEN 1 THEN ", " END", 1_500),
        within("CASE ", " WHEN 1 THEN 2 END", 1_500),
        within("(SELECT ", ")", 49),
        within("(SELECT ", ")", 1_000),
        within("lower(", ")", 49),
        within("1 IN (", ")", 49),
        within("EXISTS (SELECT 1 WHERE ", ")", 49),
        within("CAST(", " AS TEXT)", 49),
        format!("SELECT * FROM {}processes{}", "(SELECT * FROM ".repeat(49), ")".repeat(49)),
        format!("SELECT * FROM {}processes{}", "(".repeat(49), ")".repeat(49)),
        format!("{}SELECT 1{}", "WITH a AS (".repeat(49), ") SELECT * FROM a".repeat(49)),
    ] {
        let shown: String = sql.chars().take(60).collect();
        match survived(sql) {
            Ok(_) => {}
            Err(QueryError::Refused(refusal)) => {
                let told = ["nested", "parentheses within", "syntax error"];
                assert!(told.iter().any(|told| refusal.message.contains(told)), "{shown}… {refusal}");
            }
            Err(other) => panic!("{shown}…: {other}"),
        }
    }
    assert!(refused(within("(", ")", 10_000)).contains("parentheses"));
}

#[test]
fn long_chains_are_refused() {
    let chain = |operator: &str| format!("SELECT 1 FROM processes WHERE 1{}", format!(" {operator} 1").repeat(4_900));
    let chains = [
        "||",
        "+",
        "-",
        "*",
        "/",
        "%",
        "&",
        "|",
        "=",
        "<",
        "LIKE",
        "GLOB",
        "REGEXP",
        "IS DISTINCT FROM",
        "->",
        "<=>",
        "<<",
    ];
    for operator in chains {
        let sql = chain(operator);
        let words = sql.split_whitespace().count();
        let message =
            refused(if words > 9_900 { format!("SELECT 1{}", format!(" {operator} 1").repeat(2_000)) } else { sql });
        assert!(
            message.contains("nested") || message.contains("not supported") || message.contains("syntax"),
            "{operator}: {message}"
        );
    }
    for suffix in [
        " IS NULL",
        " ISNULL",
        " NOTNULL",
        " IS NOT TRUE",
        " COLLATE x",
        "::int",
        " BETWEEN 1 AND 1",
        " IN (1)",
        " AT TIME ZONE 'x'",
        "[1]",
    ] {
        refused(format!("SELECT 1{}", suffix.repeat(1_900)));
    }
    for link in ["UNION SELECT 1 ", "UNION ALL SELECT 1 ", "EXCEPT SELECT 1 ", "INTERSECT SELECT 1 "] {
        let message = refused(format!("SELECT 1 {}", link.repeat(2_400)));
        assert!(message.contains("nested"), "{link}: {message}");
    }
    // A long chain below what copies, prints or refuses it.
    let sum = format!("1{}", "+1".repeat(4_000));
    for sql in [
        format!("SELECT {sum} GLOB 'x'"),
        format!("SELECT {sum} REGEXP 'x'"),
        format!("SELECT ({sum})::int"),
        format!("SELECT ({sum}) COLLATE x"),
        format!("DELETE FROM processes WHERE {sum}"),
        format!("EXPLAIN SELECT {sum}"),
        format!("UPDATE processes SET pid = {sum}"),
        format!("INSERT INTO processes SELECT {sum}"),
        format!("VALUES ({sum})"),
        format!("SELECT load_extension({sum})"),
        format!("SELECT 1 LIMIT {sum}"),
    ] {
        refused(sql);
    }
}

#[test]
fn common_table_expressions_cannot_multiply() {
    let doubling = |levels: usize| {
        let more: String =
            (1..levels).map(|at| format!(", t{at} AS (SELECT a.pid FROM t{} a, t{} b)", at - 1, at - 1)).collect();
        format!("WITH t0 AS (SELECT pid FROM processes){more} SELECT count(*) FROM t{}", levels - 1)
    };
    assert_eq!(survived(doubling(3)).unwrap(), 1);
    assert!(refused(doubling(40)).contains("reads more than"));
    let inside =
        |levels: usize| format!("{}SELECT 1 AS x{}", "WITH a AS (".repeat(levels), ") SELECT * FROM a".repeat(levels));
    assert_eq!(survived(inside(8)).unwrap(), 1);
    assert!(refused(inside(30)).contains("WITH is nested"));
}

#[test]
fn nested_truth_does_not_grow_without_bound() {
    for operator in ["=", "<", "+", "||"] {
        let sql = format!("SELECT {}1{} FROM processes", "(".repeat(40), format!(" {operator} 1)").repeat(40));
        let _ = survived(sql);
        let _ = survived(format!("SELECT (1=1){} FROM processes", format!(" {operator} 1").repeat(40)));
        let _ = survived(format!("SELECT (1=1){} FROM processes", format!(" {operator} (1=1)").repeat(40)));
    }
    let _ = survived(format!("SELECT {}1{}", "NOT (1 = ".repeat(20), ")".repeat(20)));
    let _ = survived(format!("SELECT {}1{}", "IIF(1=1, 1=1, ".repeat(20), ")".repeat(20)));
}

fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP BY",
        "HAVING",
        "ORDER BY",
        "LIMIT",
        "OFFSET",
        "WITH",
        "AS",
        "UNION",
        "ALL",
        "EXCEPT",
        "JOIN",
        "LEFT JOIN",
        "ON",
        "USING",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "CAST",
        "IN",
        "EXISTS",
        "BETWEEN",
        "AND",
        "OR",
        "NOT",
        "NULL",
        "IS",
        "LIKE",
        "GLOB",
        "REGEXP",
        "ESCAPE",
        "DISTINCT",
        "FILTER",
        "OVER",
        "VALUES",
        "DELETE",
        "TRUE",
        "processes",
        "processes.events",
        "alerts",
        "p",
        "pid",
        "name",
        "event_time",
        "p.pid",
        "count",
        "sum",
        "max",
        "lower",
        "datetime",
        "'now'",
        "'-5 minutes'",
        "'x'",
        "'%'",
        "1",
        "-1",
        "1.5",
        "9223372036854775807",
        "0x",
        "(",
        "(",
        ")",
        ")",
        ",",
        "*",
        "+",
        "-",
        "/",
        "%",
        "||",
        "=",
        "<",
        ">=",
        "&",
        "|",
        "::",
        "->",
        "?",
        "?1",
        ":a",
        "\"pid\"",
        "[name]",
        "`x`",
        ";",
        "--",
        "/*",
        "x''",
        "INTEGER",
    ]);
    prop::collection::vec(word, 1..30).prop_map(|words| words.join(" "))
}

/// Statements that are nearly right, so that planning is reached.
fn nearly_right() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "pid",
        "name",
        "event_time",
        "file_exists",
        "cpu_usage",
        "namespaces",
        "1",
        "0",
        "-1",
        "1.5",
        "'x'",
        "'1'",
        "NULL",
        "TRUE",
        "''",
        "9223372036854775807",
        "'now'",
        "'2024-01-01'",
    ])
    .prop_map(str::to_owned);
    let expression = leaf.prop_recursive(4, 24, 3, |inner| {
        let two = prop::sample::select(vec![
            "+",
            "-",
            "*",
            "/",
            "%",
            "||",
            "=",
            "<>",
            "<",
            ">=",
            "AND",
            "OR",
            "LIKE",
            "GLOB",
            "REGEXP",
            "&",
            "|",
            "IS DISTINCT FROM",
        ]);
        let call = prop::sample::select(vec![
            "lower",
            "length",
            "hex",
            "abs",
            "round",
            "date",
            "datetime",
            "unixepoch",
            "trim",
            "max",
            "sum",
            "avg",
            "total",
            "count",
            "group_concat",
            "min",
        ]);
        let calls = prop::sample::select(vec![
            "substr",
            "instr",
            "ifnull",
            "nullif",
            "coalesce",
            "strftime",
            "glob",
            "like",
            "group_concat",
        ]);
        prop_oneof![
            (inner.clone(), two, inner.clone())
                .prop_map(|(left, operator, right)| format!("({left} {operator} {right})")),
            (call, inner.clone()).prop_map(|(call, argument)| format!("{call}({argument})")),
            (calls, inner.clone(), inner.clone()).prop_map(|(call, a, b)| format!("{call}({a}, {b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("CASE WHEN {a} THEN {b} ELSE {c} END")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("iif({a}, {b}, {c})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("{a} BETWEEN {b} AND {c}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} IN ({b}, 1)")),
            inner.clone().prop_map(|a| format!("CAST({a} AS INTEGER)")),
            inner.clone().prop_map(|a| format!("(SELECT max({a}) FROM processes)")),
            inner.clone().prop_map(|a| format!("NOT {a}")),
            inner.prop_map(|a| format!("({a}) IS NULL")),
        ]
    });
    (expression.clone(), expression.clone(), expression, 0_u8..8).prop_map(|(a, b, c, form)| match form {
        0 => format!("SELECT {a} FROM processes.events WHERE {b}"),
        1 => format!("SELECT {a}, {b} FROM processes.events ORDER BY {c}"),
        2 => format!("SELECT count(*), {a} FROM processes.events GROUP BY {a} HAVING {b}"),
        3 => format!("WITH x AS (SELECT {a} AS y, * FROM processes.events) SELECT y FROM x WHERE {b}"),
        4 => format!("SELECT {a} FROM processes.events UNION SELECT {b} FROM processes.events"),
        5 => format!("SELECT {a} FROM processes.events a JOIN processes b ON {b} LIMIT 3"),
        6 => format!("SELECT DISTINCT {a} FROM processes.events WHERE {b} LIMIT {c}"),
        _ => format!("SELECT {a}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_words_are_answered_or_refused(words in words()) {
        let queries = queries();
        let _ = runtime().block_on(queries.validate_sql(&words, &Parameters::default()));
        let _ = runtime().block_on(queries.validate_sql(&format!("SELECT {words}"), &Parameters::default()));
        let _ = runtime().block_on(queries.validate_sql(&format!("SELECT pid FROM processes WHERE {words}"), &Parameters::default()));
    }

    #[test]
    fn any_expression_is_answered_or_refused(sql in nearly_right()) {
        let ended = survived(sql.clone());
        if let Err(error) = &ended {
            let text = error.to_string();
            prop_assert!(!text.contains("nternal error"), "{sql}\n{text}");
        }
    }
}
