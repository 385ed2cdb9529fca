//! What may not be asked: refused with a reason, quickly, and in little memory.

use crate::support::{number, site};
use daemoneye_eventbus::{CallError, Client, Identity};
use daemoneye_lib::proto::ipc::{QueryRequest, RequestError, RequestErrorKind};
use prost::Message as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use testkit::{Monitor, Site};

const QUICKLY: Duration = Duration::from_secs(5);
const STEADY_KIB: u64 = 32 << 10;
/// A statement that fits a frame of the bus by a little.
const ALMOST_A_FRAME: usize = 3 << 20;

#[test]
fn forbidden_questions_are_refused_quickly_and_in_little_memory() {
    // One scan, and then nothing that takes memory but what is asked here.
    let place = site().with_config("[app]\nscan_interval_ms = 3600000\n").unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    let agent = monitor.agent().pid();
    let site = monitor.site();
    // What the first query sets up belongs to every query.
    assert!(number(site, "SELECT count(*) FROM processes WHERE name LIKE '%a%'") > 0);
    let before = settled_memory(agent);

    for (sql, reason) in [
        ("DELETE FROM processes", "DELETE"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("PRAGMA table_info(processes)", "PRAGMA"),
        ("ATTACH DATABASE '/etc/passwd' AS p", "ATTACH"),
        (
            "WITH t AS (SELECT CASE WHEN pid > 1 THEN load_extension('x') ELSE 0 END AS v FROM processes) SELECT v FROM t",
            "load_extension",
        ),
        (&format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)), "parentheses"),
    ] {
        is_refused(site, &["query", "-"], sql, reason);
    }
    let long = format!("SELECT '{}'", "x".repeat(10_000_000));
    let file = site.root().join("long.sql");
    fs::write(&file, &long).unwrap();
    is_refused(site, &["query", "--file", &file.to_string_lossy()], "", "bytes");
    is_refused(site, &["query", "-"], &long, "bytes");

    let grown = memory(agent, "VmHWM").saturating_sub(before);
    assert!(grown < STEADY_KIB, "the agent grew by {grown} KiB at its peak");
    assert!(number(site, "SELECT count(*) FROM processes") > 0);
}

#[test]
fn whatever_is_no_question_is_refused() {
    let monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    for (sql, reason) in [
        ("UPDATE processes SET name = 'x'", "UPDATE"),
        ("INSERT INTO processes (pid) VALUES (1)", "INSERT"),
        ("DROP TABLE processes", "DROP"),
        ("CREATE TABLE t (a INTEGER)", "CREATE"),
        ("COPY processes TO '/tmp/x'", "COPY"),
        ("EXPLAIN SELECT 1", "EXPLAIN"),
        ("SELECT randomblob(1000000000)", "randomblob"),
        ("SELECT nonsense FROM processes", "nonsense"),
        ("SELECT * FROM sqlite_master", "sqlite_master"),
        (&format!("SELECT {}1{}", "abs(".repeat(5_000), ")".repeat(5_000)), "parentheses"),
        (&format!("SELECT 1{}", "+1".repeat(30_000)), "more than"),
        ("", "empty"),
    ] {
        is_refused(site, &["query", "-"], sql, reason);
    }
    // A client of another make does not stop where ours does.
    for sql in [
        format!("SELECT '{}'", "x".repeat(ALMOST_A_FRAME)),
        format!("SELECT {}1{}", "(".repeat(ALMOST_A_FRAME / 2), ")".repeat(ALMOST_A_FRAME / 2)),
        format!("SELECT {}", "-".repeat(ALMOST_A_FRAME)),
    ] {
        let begun = Instant::now();
        let error = refusal(&site.runtime_dir().join("agent.sock"), sql);
        assert_eq!(error.kind(), RequestErrorKind::RefusedRequest, "{error:?}");
        assert!(error.message.contains("bytes"), "{error:?}");
        assert!(begun.elapsed() < QUICKLY, "{:?}", begun.elapsed());
    }
    assert!(number(site, "SELECT count(*) FROM processes") > 0);
}

/// Exit 5, soon, and on standard error a reason that is shorter than the question may be.
fn is_refused(site: &Site, arguments: &[&str], sql: &str, reason: &str) {
    let begun = Instant::now();
    let output = site.cli_with_input(arguments, sql.as_bytes()).unwrap();
    let shown: String = sql.chars().take(80).collect();
    assert_eq!(output.status, 5, "{shown}: {output:?}");
    assert!(output.stdout.is_empty(), "{shown}: {output:?}");
    assert!(output.stderr.starts_with("error: ") && output.stderr.contains(reason), "{shown}: {output:?}");
    assert!(output.stderr.len() < 1_000, "{shown}: {output:?}");
    assert!(begun.elapsed() < QUICKLY, "{shown}: {:?}", begun.elapsed());
}

/// Asks without `daemoneye-cli` and its own limits.
fn refusal(socket: &Path, sql: String) -> RequestError {
    let request = QueryRequest { sql, ..QueryRequest::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let connected = Client::connect(socket, Identity::Operator).await.unwrap();
        connected.client.call("requests.query", request.encode_to_vec(), QUICKLY).await
    });
    match answer {
        Err(CallError::Failed(body)) => RequestError::decode(&body[..]).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What the process takes now; its peak counts from here on.
fn settled_memory(pid: u32) -> u64 {
    // 5 resets the peak to the present. Where the kernel does not know it, the peak so far is what counts.
    let reset = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    memory(pid, if reset.is_ok() { "VmRSS" } else { "VmHWM" })
}

/// A line of the process's status, in KiB.
fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_else(|| panic!("{status}"))
}
