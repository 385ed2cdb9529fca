//! SQLite's meaning, statement by statement.

use crate::fixture::{ask, ask_with, assert_answers, positional, text};
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::query::Parameter;
use std::collections::BTreeMap;

#[test]
fn patterns() {
    assert_answers(&[
        ("SELECT name FROM processes WHERE name LIKE 'sh%' ORDER BY name", "SHELL; sh"),
        ("SELECT name FROM processes WHERE name NOT LIKE '%S%' ORDER BY name", "kthreadd; nginx"),
        ("SELECT name FROM processes WHERE name GLOB 'sh*'", "sh"),
        ("SELECT count(*) FROM processes WHERE name NOT GLOB '[a-z]*'", "1"),
        ("SELECT name FROM processes WHERE name REGEXP '^[ns]' ORDER BY 1", "nginx; sh; systemd"),
        ("SELECT name FROM processes WHERE name NOT REGEXP '(?i)S'  ORDER BY 1", "kthreadd; nginx"),
        ("SELECT pid FROM processes WHERE command_line LIKE '%50\\%\\_x' ESCAPE '\\'", "200"),
        ("SELECT like('a%', 'ABC'), glob('a*', 'abc'), regexp('b', 'abc'), 'abc' REGEXP 'x'", "1|1|1|0"),
        ("SELECT NULL LIKE 'a', 'a' LIKE NULL, NULL GLOB 'a', 'a' REGEXP NULL", "NULL|NULL|NULL|NULL"),
        ("SELECT 12 LIKE '1%', 'ab' LIKE 'a' || '%', 'ab' LIKE lower('A') || '_'", "1|1|1"),
        ("SELECT pid FROM processes WHERE name LIKE name || '%' AND pid = 100", "100"),
    ]);
}

#[test]
fn arithmetic_and_casts() {
    assert_answers(&[
        ("SELECT 7/2, -7/2, 7%3, 7/2.0, 7.0/2", "3|-3|1|3.5|3.5"),
        ("SELECT 1/0, 1%0, 1.0/0, 0/0", "NULL|NULL|NULL|NULL"),
        ("SELECT pid/(pid-100) FROM processes WHERE pid IN (100, 200) ORDER BY pid", "NULL; 2"),
        ("SELECT CAST('abc' AS INTEGER), CAST('12abc' AS INTEGER), CAST(3.9 AS INT), CAST(-3.9 AS INT)", "0|12|3|-3"),
        ("SELECT CAST(12 AS TEXT), CAST(1.0 AS TEXT), CAST('1.5x' AS REAL), CAST(NULL AS TEXT)", "12|1.0|1.5|NULL"),
        ("SELECT CAST(name LIKE 's%' AS TEXT) FROM processes WHERE pid < 3 ORDER BY pid", "1; 0"),
        ("SELECT 1 + 2 * 3 - 4, -(-5), +6, 5 & 3, 5 | 3", "3|5|6|1|7"),
        ("SELECT abs(-3), abs(-2.5), round(2.567, 2), round(3.5), abs(NULL)", "3|2.5|2.57|4.0|NULL"),
        ("SELECT '7' + 1, name + 1, sum(name) FROM processes WHERE pid = 200 GROUP BY name", "8|1.0|0.0"),
        ("SELECT 7.5 % 2, 5.9 & 7, 1 / NULL, NULL + 1", "1|5|NULL|NULL"),
        ("SELECT 0x1F, 1e3, .5", "31|1000.0|0.5"),
        ("SELECT 'a' || 1 || 2.5, 'a' || NULL, 1 || 2", "a12.5|NULL|12"),
    ]);
}

#[test]
fn text_functions() {
    assert_answers(&[
        (
            "SELECT substr('hello', 2, 3), substr('hello', -3), substring('hello', 1, 2), substr(NULL, 1)",
            "ell|llo|he|NULL",
        ),
        ("SELECT instr('hello', 'l'), instr('hello', 'x'), instr(NULL, 'x')", "3|0|NULL"),
        ("SELECT hex('aZ'), hex(12), length('grün'), length(NULL)", "615A|3132|4|NULL"),
        ("SELECT lower('ÄB'), upper('äb'), replace('aXbX', 'X', '--')", "Äb|äB|a--b--"),
        ("SELECT trim('  a '), ltrim('xxa', 'x'), rtrim('axx', 'x'), trim('xax', 'x')", "a|a|a|a"),
        ("SELECT lower(name) FROM processes WHERE pid = 300", "shell"),
    ]);
}

#[test]
fn nulls_and_conditions() {
    assert_answers(&[
        ("SELECT IFNULL(NULL, 2), COALESCE(NULL, NULL, 'c'), NULLIF(1, 1), NULLIF(1, 2)", "2|c|NULL|1"),
        ("SELECT IIF(1 < 2, 'y', 'n'), IIF('0abc', 'y', 'n'), IIF(NULL, 'y', 'n'), IIF(0.5, 'y', 'n')", "y|n|n|y"),
        ("SELECT CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' END, CASE WHEN 0 THEN 1 END", "b|NULL"),
        ("SELECT CASE WHEN name LIKE 's%' THEN 's' ELSE 'other' END FROM processes ORDER BY pid LIMIT 2", "s; other"),
        ("SELECT pid FROM processes WHERE NULL", ""),
        ("SELECT count(*) FROM processes WHERE 1", "5"),
        ("SELECT count(*) FROM processes WHERE 0.0", "0"),
        ("SELECT count(*) FROM processes WHERE '1x'", "5"),
        ("SELECT count(*) FROM processes WHERE 'x'", "0"),
        ("SELECT count(*) FROM processes WHERE NOT ppid", "2"),
        ("SELECT count(*) FROM processes WHERE parent_key IS NULL AND ppid IS NOT NULL", "2"),
        ("SELECT count(*) FROM processes WHERE ppid IS NULL OR ppid NOTNULL", "5"),
        ("SELECT count(*) FROM processes WHERE ppid IN (0, 1) AND name NOT IN ('nginx')", "2"),
        ("SELECT count(*) FROM processes WHERE pid IN ()", "0"),
        ("SELECT count(*) FROM processes WHERE pid NOT IN ()", "5"),
        ("SELECT count(*) FROM processes WHERE ppid IN (0, NULL)", "2"),
        ("SELECT count(*) FROM processes WHERE pid BETWEEN 2 AND 100 AND pid NOT BETWEEN 50 AND 60", "2"),
        ("SELECT count(*) FROM processes WHERE (pid > 1) IS TRUE AND (ppid > 0) IS NOT FALSE", "3"),
        ("SELECT count(*) FROM processes WHERE ppid IS NOT DISTINCT FROM NULL", "1"),
        ("SELECT count(*) FROM processes WHERE pid == 1 OR pid <> 2 AND pid != 100", "3"),
        ("SELECT NULL = NULL, NULL AND 0, NULL OR 1, NOT NULL", "NULL|0|1|NULL"),
    ]);
}

#[test]
fn truth_is_a_number_wherever_it_stands() {
    assert_answers(&[
        ("SELECT name LIKE 'n%', pid > 1, NOT 0, file_exists FROM processes WHERE pid = 100", "1|1|1|0"),
        ("SELECT sum(name='sh'), avg(pid > 2), max(pid = 1), min(name IS NULL) FROM processes", "1|0.6|1|0"),
        ("SELECT pid FROM processes WHERE file_exists ORDER BY pid", "1; 200"),
        ("SELECT pid FROM processes WHERE NOT file_exists", "100"),
        ("SELECT pid FROM processes WHERE file_exists = TRUE AND (name = 'sh') = 1", "200"),
        ("SELECT TRUE, FALSE, TRUE + TRUE, (1 = 1) + 1, -(1 = 1), (1 < 2) || 'x'", "1|0|2|2|-1|1x"),
        ("SELECT COALESCE(file_exists = 1, 0) FROM processes ORDER BY pid", "1; 0; 0; 1; 0"),
        ("SELECT IFNULL(name = 'sh', 5), NULLIF(pid = 1, 0), hex(pid = 1) FROM processes WHERE pid = 1", "0|1|31"),
        ("SELECT CASE WHEN pid > 1 THEN name = 'sh' ELSE 7 END FROM processes ORDER BY pid", "7; 0; 0; 1; 0"),
        ("SELECT CASE name = 'sh' WHEN 1 THEN 'y' WHEN 0 THEN 'n' END FROM processes WHERE pid = 200", "y"),
        ("SELECT 1 = 1 UNION ALL SELECT 2", "1; 2"),
        ("SELECT count(*) FROM processes WHERE (name = 'sh') IN (1) OR (pid = 1) BETWEEN 1 AND 1", "2"),
        ("SELECT s, count(*) FROM (SELECT name LIKE 's%' AS s FROM processes) GROUP BY s HAVING s = 1", "1|3"),
        (
            "SELECT name LIKE 's%', count(*) FROM processes GROUP BY name LIKE 's%' ORDER BY name LIKE 's%' DESC",
            "1|3; 0|2",
        ),
        ("SELECT count(DISTINCT pid > 2), sum(pid > 2 AND pid < 300) FROM processes", "2|2"),
        ("SELECT 1 = 1 = 1 = 1 = 2", "0"),
    ]);
}

#[test]
fn numbers_and_texts_compare_as_their_columns_say() {
    assert_answers(&[
        ("SELECT count(*) FROM processes WHERE pid = '100'", "1"),
        ("SELECT count(*) FROM processes WHERE pid < '3'", "2"),
        ("SELECT count(*) FROM processes WHERE pid > '3'", "3"),
        ("SELECT count(*) FROM processes WHERE pid IN ('1', '2')", "2"),
        ("SELECT count(*) FROM processes WHERE pid BETWEEN '1' AND '99'", "2"),
        ("SELECT count(*) FROM processes WHERE cpu_usage > 1", "1"),
        ("SELECT count(*) FROM processes WHERE cpu_usage > '1'", "1"),
    ]);
}

#[test]
fn times() {
    assert_answers(&[
        ("SELECT name FROM processes.events WHERE event_time > datetime('now', '-5 minutes')", "SHELL"),
        ("SELECT count(*) FROM processes.events WHERE event_time > datetime('now', '-30 seconds')", "0"),
        ("SELECT count(*) FROM processes.events WHERE event_time > datetime('now', '-' || 5 || ' minutes')", "1"),
        ("SELECT count(*) FROM processes.events WHERE event_time BETWEEN '2024-01-01' AND '2024-01-01 00:01'", "3"),
        ("SELECT count(*) FROM processes.events WHERE event_time = '2024-01-01 00:00:00.000001'", "1"),
        ("SELECT event_time FROM processes.events WHERE event_id = 'e-4'", "2024-01-01 00:01:00.000000"),
        (
            "SELECT strftime('%Y/%m/%d %H:%M', event_time) FROM processes.events WHERE event_id = 'e-4'",
            "2024/01/01 00:01",
        ),
        (
            "SELECT unixepoch(event_time), date(event_time), time(event_time) FROM processes.events WHERE event_id = 'e-5'",
            "1704067320|2024-01-01|00:02:00",
        ),
        (
            "SELECT datetime(1704067320, 'unixepoch'), unixepoch('2024-01-01'), datetime('nonsense')",
            "2024-01-01 00:02:00|1704067200|NULL",
        ),
        ("SELECT datetime(end_time, '+1 day') FROM processes WHERE pid = 200", "2024-01-02 00:02:00"),
        (
            "SELECT unixepoch('now') - unixepoch(event_time) BETWEEN 50 AND 90 FROM processes.events WHERE name = 'SHELL'",
            "1",
        ),
        (
            "SELECT max(event_time) > datetime('now', '-1 hour'), min(event_time) FROM processes.events",
            "1|2024-01-01 00:00:00.000000",
        ),
        (
            "SELECT CAST(end_time AS TEXT), substr(end_time, 1, 10) FROM processes WHERE pid = 200",
            "2024-01-01 00:02:00.000000|2024-01-01",
        ),
    ]);
}

#[test]
fn aggregates() {
    assert_answers(&[
        ("SELECT count(*), count(ppid), count(DISTINCT ppid), count() FROM processes", "5|4|3|5"),
        ("SELECT min(pid), max(pid), sum(pid), avg(pid), total(pid) FROM processes", "1|300|603|120.6|603.0"),
        ("SELECT sum(pid), total(pid), avg(pid), max(name), count(*) FROM processes WHERE 0", "NULL|0.0|NULL|NULL|0"),
        ("SELECT group_concat(name) FROM (SELECT name FROM processes ORDER BY pid LIMIT 3)", "systemd,kthreadd,nginx"),
        ("SELECT group_concat(pid, '+') FROM (SELECT pid FROM processes ORDER BY pid LIMIT 3)", "1+2+100"),
        ("SELECT group_concat(DISTINCT source) FROM processes", "poll"),
        ("SELECT count(*) FILTER (WHERE pid > 2), sum(pid) FILTER (WHERE name LIKE 's%') FROM processes", "3|501"),
        ("SELECT ppid, count(*) AS n FROM processes GROUP BY ppid ORDER BY ppid", "NULL|1; 0|2; 1|1; 100|1"),
        ("SELECT ppid, count(*) AS n FROM processes GROUP BY ppid HAVING n > 1", "0|2"),
        ("SELECT ppid, count(*) FROM processes GROUP BY 1 HAVING count(*) > 1 ORDER BY 2", "0|2"),
        ("SELECT length(name) AS l, count(*) FROM processes GROUP BY l ORDER BY l DESC", "8|1; 7|1; 5|2; 2|1"),
        (
            "SELECT event_type, count(*) FROM processes.events GROUP BY event_type ORDER BY 2 DESC, 1",
            "seen|3; exec|2; exit|1",
        ),
        ("SELECT max(pid) - min(pid) + count(*) FROM processes", "304"),
        ("SELECT COUNT(*) FROM processes GROUP BY file_exists IS NULL ORDER BY 1", "2; 3"),
    ]);
}

#[test]
fn order_and_limits() {
    assert_answers(&[
        ("SELECT ppid FROM processes ORDER BY ppid", "NULL; 0; 0; 1; 100"),
        ("SELECT ppid FROM processes ORDER BY ppid DESC", "100; 1; 0; 0; NULL"),
        ("SELECT ppid FROM processes ORDER BY ppid NULLS LAST LIMIT 1", "0"),
        ("SELECT pid FROM processes ORDER BY pid LIMIT 2", "1; 2"),
        ("SELECT pid FROM processes ORDER BY pid LIMIT 2 OFFSET 1", "2; 100"),
        ("SELECT pid FROM processes ORDER BY pid LIMIT 1, 2", "2; 100"),
        ("SELECT pid FROM processes ORDER BY pid LIMIT -1", "1; 2; 100; 200; 300"),
        ("SELECT pid FROM processes ORDER BY pid LIMIT -1 OFFSET 3", "200; 300"),
        ("SELECT pid FROM processes ORDER BY pid LIMIT 0", ""),
        ("SELECT name FROM processes ORDER BY length(name), pid DESC", "sh; SHELL; nginx; systemd; kthreadd"),
        ("SELECT name AS n FROM processes ORDER BY n", "SHELL; kthreadd; nginx; sh; systemd"),
        ("SELECT DISTINCT source FROM processes", "poll"),
        ("SELECT pid, name FROM processes ORDER BY 2 LIMIT 1", "300|SHELL"),
    ]);
}

#[test]
fn joins_sub_queries_and_sets() {
    let by_key =
        "SELECT c.name, p.name FROM processes c JOIN processes p ON p.process_key = c.parent_key ORDER BY c.pid";
    assert_answers(&[
        (by_key, "nginx|systemd; sh|nginx"),
        (
            "SELECT c.pid, p.pid FROM processes c LEFT JOIN processes AS p ON c.parent_key = p.process_key WHERE c.pid < 101 ORDER BY 1",
            "1|NULL; 2|NULL; 100|1",
        ),
        ("SELECT count(*) FROM processes a, processes b WHERE a.pid < b.pid", "10"),
        ("SELECT count(*) FROM processes a CROSS JOIN processes b", "25"),
        ("SELECT count(*) FROM processes JOIN processes.events USING (process_key)", "6"),
        (
            "SELECT e.event_type FROM processes p JOIN processes.events e ON e.process_key = p.process_key AND e.name LIKE 'SH' ORDER BY 1",
            "exec; exit",
        ),
        ("WITH s AS (SELECT * FROM processes WHERE name LIKE 's%') SELECT count(*) FROM s", "3"),
        ("WITH a AS (SELECT pid p FROM processes), b(q) AS (SELECT p FROM a WHERE p > 2) SELECT sum(q) FROM b", "600"),
        ("SELECT (SELECT max(pid) FROM processes) + 1", "301"),
        (
            "SELECT name, (SELECT max(name) FROM processes p WHERE p.process_key = c.parent_key) FROM processes c WHERE pid = 200",
            "sh|nginx",
        ),
        ("SELECT pid FROM processes WHERE ppid IN (SELECT pid FROM processes WHERE name = 'nginx')", "200"),
        (
            "SELECT pid FROM processes p WHERE EXISTS (SELECT 1 FROM processes c WHERE c.parent_key = p.process_key) ORDER BY pid",
            "1; 100",
        ),
        (
            "SELECT pid FROM processes p WHERE NOT EXISTS (SELECT 1 FROM processes c WHERE c.parent_key = p.process_key) ORDER BY pid",
            "2; 200; 300",
        ),
        ("SELECT pid FROM processes WHERE pid < 3 UNION SELECT ppid FROM processes WHERE ppid = 1 ORDER BY 1", "1; 2"),
        ("SELECT 1 UNION ALL SELECT 1", "1; 1"),
        ("SELECT pid FROM processes EXCEPT SELECT pid FROM processes WHERE pid > 2 ORDER BY 1", "1; 2"),
        ("SELECT pid FROM processes INTERSECT SELECT ppid FROM processes ORDER BY pid", "1; 100"),
        ("SELECT x FROM (SELECT pid AS x FROM processes) WHERE x = 2", "2"),
        ("SELECT 1", "1"),
    ]);
}

#[test]
fn what_is_written_changes_nothing_but_its_case() {
    assert_answers(&[
        ("select PID from Processes where NAME = 'sh' -- comment", "200"),
        ("SELECT /* ; DELETE */ \"pid\" FROM `processes` WHERE [name] = 'sh';", "200"),
        ("SELECT pid FROM processes WHERE name = 'it''s' OR name = 'sh'", "200"),
        ("SELECT '\u{202e}x', 'a;b', 'a--b'", "\u{202e}x|a;b|a--b"),
    ]);
}

#[test]
fn parameters_by_place_and_by_name() {
    let number = Parameter::Integer;
    let named =
        |name: &str, value| Parameters { named: BTreeMap::from([(name.to_owned(), value)]), ..Parameters::default() };
    for (sql, parameters, expected) in [
        ("SELECT pid FROM processes WHERE name = ?", positional([text("sh")]), "200"),
        // A plain one takes the place behind the largest before it.
        ("SELECT ?2, ?1, ?", positional([number(1), number(-2), number(3)]), "-2|1|3"),
        ("SELECT ?, ?, ?1", positional([text("a"), text("b")]), "a|b|a"),
        (
            "SELECT :a, $a, @a",
            named("a", number(i64::MIN)),
            "-9223372036854775808|-9223372036854775808|-9223372036854775808",
        ),
        (
            "SELECT ?, ?, ?",
            positional([Parameter::Null, Parameter::Real(-1.5), Parameter::Real(1e300)]),
            "NULL|-1.5|1e300",
        ),
        ("SELECT count(*) FROM processes LIMIT ?", positional([number(-1)]), "5"),
        (
            "SELECT count(*) FROM processes.events WHERE event_time > datetime('now', ?)",
            positional([text("-5 minutes")]),
            "1",
        ),
        ("SELECT count(*) FROM processes WHERE name LIKE ?", positional([text("s%")]), "3"),
        ("SELECT ?", Parameters::default(), "error: no value was given for parameter 1 (line 1, column 8)"),
        ("SELECT :a", Parameters::default(), "error: no value was given for parameter `:a` (line 1, column 8)"),
        ("SELECT ?0", positional([number(1)]), "error: `?0` is not a parameter (line 1, column 8)"),
        ("SELECT 1", positional([number(1)]), "error: parameter 1 was given, but the statement has no place for it"),
        ("SELECT 1", named("a", number(1)), "error: parameter `a` was given, but the statement has no :a"),
        (
            "SELECT ?2",
            positional([number(1), number(2)]),
            "error: parameter 1 was given, but the statement has no place for it",
        ),
    ] {
        assert_eq!(ask_with(sql, &parameters), expected, "{sql}");
    }
}

#[test]
fn a_parameter_is_a_value_whatever_it_holds() {
    for hostile in
        ["' OR 1=1 --", "\"", "a\0b", "\u{202e}evil", "*/; DELETE FROM processes; /*", "\\", "%", "?", ":a", "''", "\n"]
    {
        let given = positional([text(hostile)]);
        assert_eq!(ask_with("SELECT ?", &given), hostile);
        assert_eq!(ask_with("SELECT count(*) FROM processes WHERE name = ?", &given), "0", "{hostile:?}");
        assert_eq!(ask_with("SELECT length(?1) = length(?1 || 'x') - 1", &given), "1", "{hostile:?}");
    }
    assert_eq!(ask("SELECT count(*) FROM processes"), "5");
}
