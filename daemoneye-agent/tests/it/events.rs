//! What the kernel tells, on its whole way to an answer.

use crate::support::{PATIENCE, Sleeper, ask, health_of, may_test_as_root, number, query, rows, site, text};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use testkit::{Child, Monitor, Site, wait_for};

const RUNS: u64 = 1_000;

fn monitor(source: &str, config: &str) -> Option<Monitor> {
    if !may_test_as_root("listens to the kernel") {
        return None;
    }
    let place = site().with_config(config).unwrap().seeing_by(source);
    Some(Monitor::start(place).unwrap())
}

/// A shell that runs so many short-lived programs, each with the tag and its own number.
fn runs(tag: &str, count: u64) -> Command {
    let script = format!("i=0; while [ $i -lt {count} ]; do /bin/true {tag} $i; i=$((i+1)); done");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).stdin(Stdio::null());
    command
}

fn mode(site: &Site) -> Value {
    rows(site, "SELECT mode, mode_reason FROM system.collectors WHERE collector = 'procmond'").remove(0)
}

#[test]
fn every_run_of_a_short_lived_program_is_told_whole() {
    let Some(monitor) = monitor("auto", "") else { return };
    let site = monitor.site();
    assert_eq!(text(&mode(site), "mode"), "ebpf", "{}", mode(site));
    let (_, health) = health_of(site, "collector procmond");
    assert!(text(&health, "detail").starts_with("mode ebpf (the best source)"), "{health}");

    assert!(runs("every-run", RUNS).status().unwrap().success());
    let told =
        |event: &str| format!("FROM processes.events WHERE command_line LIKE '/bin/true every-run %' AND {event}");
    let execs = told("event_type = 'exec'");
    wait_for("every exec", PATIENCE, || number(site, &format!("SELECT count(*) {execs}")) == RUNS);
    wait_for("every exit", PATIENCE, || {
        number(site, &format!("SELECT count(*) {}", told("event_type = 'exit'"))) == RUNS
    });

    let answer = query(
        site,
        &format!(
            "SELECT count(*) AS n, count(DISTINCT command_line) AS lines, count(DISTINCT process_key) AS keys, \
             sum(parent_name = 'sh') AS parents, sum(parent_command_line LIKE '/bin/sh -c i=0;%') AS lineage, \
             sum(executable_path LIKE '%/true') AS paths, sum(invoked_path = '/bin/true') AS invoked, \
             sum(source = 'ebpf') AS source, sum(argv LIKE '[\"/bin/true\",\"every-run\",\"%') AS argvs, \
             sum(cwd IS NOT NULL AND cgroup IS NOT NULL AND namespaces IS NOT NULL) AS places {execs}"
        ),
    );
    assert_eq!((answer.exit, &answer.reasons[..]), (0, &[][..]), "{answer:?}");
    for column in ["n", "lines", "keys", "parents", "lineage", "paths", "invoked", "source", "argvs", "places"] {
        assert_eq!(answer.rows[0][column], json!(RUNS), "{column}: {answer:?}");
    }
    let ends = told(
        "event_type = 'exit' AND exit_code = 0 AND exit_signal IS NULL AND cpu_time_ns IS NOT NULL AND max_rss > 0",
    );
    assert_eq!(number(site, &format!("SELECT count(*) {ends}")), RUNS);
    let orphans = told("event_type = 'exec' AND parent_key NOT IN (SELECT process_key FROM processes)");
    assert_eq!(number(site, &format!("SELECT count(*) {orphans}")), 0, "a parent without a row");
    let chain = "SELECT count(*) FROM processes.ancestors a JOIN processes p ON p.process_key = a.process_key \
                 WHERE p.command_line = '/bin/true every-run 7' AND a.depth >= 1 AND a.name = 'sh'";
    assert_eq!(number(site, chain), 1);
}

#[test]
fn ends_say_how_and_scripts_keep_their_name() {
    let Some(monitor) = monitor("ebpf", "") else { return };
    let site = monitor.site();
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("a script");
    fs::write(&script, "#!/bin/sh\nexit 7\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let pid = |command: &mut Command| {
        let mut child = command.spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let failed = pid(Command::new(&script).env("LD_LIBRARY_PATH", "/nowhere").current_dir(dir.path()));
    let killed = pid(Command::new("/bin/sh").args(["-c", "kill -9 $$"]));
    let event = |pid: u32, event: &str| {
        let sql = format!(
            "SELECT * FROM processes.events WHERE pid = {pid} AND event_type = '{event}' ORDER BY event_time DESC"
        );
        wait_for("the event", PATIENCE, || rows(site, &sql).into_iter().next())
    };
    let exec = event(failed, "exec");
    assert_eq!((text(&exec, "name"), &exec["invoked_path"]), ("a script", &json!(script)), "{exec}");
    assert!(!text(&exec, "executable_path").contains("script"), "a script's program is its interpreter: {exec}");
    assert_eq!((&exec["cwd"], &exec["environment"]), (&json!(dir.path()), &json!({"LD_LIBRARY_PATH": "/nowhere"})));
    assert_eq!((text(&exec["provenance"], "*"), &exec["file_exists"]), ("captured", &json!(true)), "{exec}");
    let exit = event(failed, "exit");
    assert_eq!((&exit["exit_code"], &exit["exit_signal"]), (&json!(7), &Value::Null), "{exit}");
    let exit = event(killed, "exit");
    assert_eq!((&exit["exit_code"], &exit["exit_signal"]), (&Value::Null, &json!(9)), "{exit}");
    assert_eq!(event(killed, "fork")["process_key"], exit["process_key"]);

    let long = Command::new("/bin/true").args(["long"; 40_000]).status().unwrap();
    assert!(long.success());
    let sql = "SELECT length(command_line) AS n, command_line_truncated AS cut FROM processes.events \
               WHERE command_line LIKE '/bin/true long long%' AND event_type = 'exec'";
    let found = wait_for("the long one", PATIENCE, || rows(site, sql).pop());
    assert_eq!(found, json!({"n": "/bin/true".len() + 40_000 * " long".len(), "cut": false}));
}

#[test]
fn what_the_ring_had_no_room_for_is_counted() {
    let Some(monitor) = monitor("ebpf", "[procmond]\nring_bytes = 65536\n") else { return };
    let site = monitor.site();
    let procmond = monitor.procmond_pid().unwrap();
    let signal = |signal| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(procmond).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    };
    signal(Signal::STOP);
    assert!(runs("too-many", RUNS).status().unwrap().success());
    signal(Signal::CONT);
    let lost = |event: &str| {
        number(
            site,
            &format!(
                "SELECT coalesce(sum(count), 0) FROM system.gaps WHERE kind = 'ring_overflow' AND reason LIKE '%{event} events%'"
            ),
        )
    };
    wait_for("the gap", PATIENCE, || lost("exec") > 0);
    let told = "SELECT count(*) FROM processes.events WHERE command_line LIKE '/bin/true too-many%' AND event_type = ";
    for event in ["exec", "exit"] {
        let told = number(site, &format!("{told} '{event}'"));
        assert!(told < RUNS && told + lost(event) >= RUNS, "{event}: {told} told, {} lost", lost(event));
    }
    assert!(number(site, "SELECT coalesce(sum(count), 0) FROM system.gaps WHERE kind = 'shed'") > 0);
    let answer = query(site, "SELECT count(*) FROM processes.events");
    assert!(answer.exit == 3 && answer.reasons.iter().any(|reason| reason.starts_with("ring_overflow")), "{answer:?}");
}

#[test]
fn the_connector_tells_every_run_and_what_it_could_not_read() {
    let Some(monitor) = monitor("connector", "") else { return };
    let site = monitor.site();
    assert_eq!(text(&mode(site), "mode"), "connector");
    let mut shell = runs("by-connector", 300).spawn().unwrap();
    let pid = shell.id();
    assert!(shell.wait().unwrap().success());
    let children = format!("FROM processes.events WHERE ppid = {pid} AND event_type");
    wait_for("every exec", PATIENCE, || number(site, &format!("SELECT count(*) {children} = 'exec'")) == 300);
    wait_for("every exit", PATIENCE, || {
        number(site, &format!("SELECT count(*) {children} = 'exit' AND exit_code = 0")) == 300
    });
    // Who is gone before it can be looked at has no arguments and says why; who stays has them.
    let execs = rows(site, &format!("SELECT argv, source, provenance {children} = 'exec'"));
    for row in &execs {
        let why = &row["provenance"];
        let reason = why.get("argv").or(why.get("-")).and_then(Value::as_str).unwrap_or_default();
        assert!(!row["argv"].is_null() || reason.starts_with("unavailable: "), "{row}");
        assert_eq!(text(row, "source"), "connector");
    }
    assert_eq!(execs.len(), 300);
    let staying: Vec<_> = (0..5).map(|_| Sleeper::start()).collect();
    for sleeper in &staying {
        let argv = format!("SELECT argv FROM processes.events WHERE pid = {} AND event_type = 'exec'", sleeper.pid());
        let row = wait_for("the exec of one that stays", PATIENCE, || rows(site, &argv).pop());
        assert!(row["argv"][0].as_str().is_some_and(|first| first.ends_with("sleep")), "{row}");
    }
}

#[test]
fn connections_and_who_became_root_are_answered_with_their_processes() {
    let Some(monitor) = monitor("auto", "") else { return };
    let site = monitor.site();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    drop(listener.accept().unwrap());
    drop(stream);
    let own = std::process::id();
    let sql = format!(
        "SELECT c.event_type, c.direction, c.remote_address, p.pid, p.executable_path = c.executable_path AS same \
         FROM network.connections c JOIN processes p ON p.process_key = c.process_key \
         WHERE c.pid = {own} AND {port} IN (c.local_port, c.remote_port)"
    );
    let told = |event: &str| rows(site, &sql).into_iter().find(|row| row["event_type"] == event);
    for (event, direction, remote) in
        [("connect", json!("out"), json!("127.0.0.1")), ("accept", json!("in"), json!("127.0.0.1"))]
    {
        let row = wait_for(event, PATIENCE, || told(event));
        assert_eq!((&row["direction"], &row["remote_address"]), (&direction, &remote), "{row}");
        assert_eq!((&row["pid"], &row["same"]), (&json!(own), &json!(1)), "{row}");
    }

    let programs = tempfile::tempdir().unwrap();
    fs::set_permissions(programs.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = programs.path().join("as-root");
    fs::copy("/bin/sleep", &program).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    let mut command = Command::new(&program);
    command.arg("60").uid(54_321).gid(54_321).current_dir("/");
    let child = Child::spawn(command).unwrap();
    let sql = format!(
        "SELECT event_type, old_euid, new_euid, object FROM security.events WHERE pid = {} AND event_type = 'credentials'",
        child.pid()
    );
    let row = wait_for("who became root", PATIENCE, || rows(site, &sql).pop());
    let expected = json!({"event_type": "credentials", "old_euid": 54_321, "new_euid": 0, "object": program});
    assert_eq!(row, expected);
    // What this kernel does not tell is said of the table that lacks it, and of no other.
    let answer = query(site, "SELECT count(*) FROM processes.events");
    assert_eq!((answer.exit, &answer.reasons[..]), (0, &[][..]), "{answer:?}");
}

#[test]
fn scans_alone_are_never_complete() {
    let Some(monitor) = monitor("poll", "") else { return };
    let site = monitor.site();
    assert_eq!(mode(site), json!({"mode": "poll", "mode_reason": "procmond.source asks for it"}));
    assert!(runs("by-scans", 100).status().unwrap().success());
    let answer = ask(
        site,
        &["query", "SELECT count(*) AS n FROM processes.events WHERE command_line LIKE '/bin/true by-scans%'"],
    );
    assert!(answer.exit == 3 && answer.rows[0]["n"].as_u64().unwrap() < 100, "{answer:?}");
}

#[test]
fn a_restart_neither_repeats_nor_forgets() {
    let Some(mut monitor) = monitor("ebpf", "") else { return };
    let before: Vec<Sleeper> = std::iter::repeat_with(Sleeper::start).take(20).collect();
    let last = before.last().unwrap().key.clone();
    let known = format!("SELECT count(*) FROM processes WHERE process_key = '{last}'");
    wait_for("the processes", PATIENCE, || number(monitor.site(), &known) == 1);
    monitor.stop().unwrap();
    let meanwhile: Vec<Sleeper> = std::iter::repeat_with(Sleeper::start).take(20).collect();
    let gone = before[0].key.clone();
    let before = {
        let mut before = before;
        drop(before.remove(0));
        before
    };
    let starting = std::thread::spawn(|| std::iter::repeat_with(Sleeper::start).take(200).collect::<Vec<_>>());
    monitor.restart().unwrap();
    let during = starting.join().unwrap();
    let site = monitor.site();
    let starts = |key: &str| {
        number(
            site,
            &format!(
                "SELECT count(*) FROM processes.events WHERE process_key = '{key}' AND event_type IN ('exec', 'seen') \
                 AND executable_path LIKE '%/sleep'"
            ),
        )
    };
    let last = &during.last().unwrap().key;
    wait_for("the last one", PATIENCE, || starts(last) == 1);
    for sleeper in before.iter().chain(&meanwhile).chain(during.iter().step_by(10)) {
        assert_eq!(starts(&sleeper.key), 1, "{} of pid {}", sleeper.key, sleeper.pid());
        let row = format!("SELECT parent_key FROM processes WHERE process_key = '{}'", sleeper.key);
        let parent = rows(site, &row).remove(0);
        let parents = format!("SELECT count(*) FROM processes WHERE process_key = '{}'", text(&parent, "parent_key"));
        assert_eq!(number(site, &parents), 1, "the parent of {}", sleeper.pid());
    }
    let ended = format!("SELECT count(*) FROM processes.events WHERE process_key = '{gone}' AND event_type = 'exit'");
    wait_for("the end of one that ended meanwhile", PATIENCE, || number(site, &ended) == 1);
}

#[test]
fn a_pid_namespace_is_told_by_its_own_pids() {
    if !may_test_as_root("makes a PID namespace") {
        return;
    }
    let place = site().seeing_by("ebpf");
    let agent = place.agent().unwrap();
    let mut contained = Command::new("unshare");
    contained.args(["-pf", "--mount-proc", "--kill-child"]).arg(agent.get_program()).args(agent.get_args());
    contained.env_clear().envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    contained.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let contained = Child::spawn(contained).unwrap();
    // The agent is the first process of its namespace, and unshare's only child.
    let children = format!("/proc/{0}/task/{0}/children", contained.pid());
    let inner = wait_for("the agent", PATIENCE, || {
        let children = fs::read_to_string(&children).unwrap();
        children.split_whitespace().next().map(str::to_owned)
    });
    let inside = |program: &std::ffi::OsStr| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &inner, "-p", "-m"]).arg(program).stdin(Stdio::null());
        command
    };
    let asked = |sql: &str| -> Vec<Value> {
        let cli = place.command("daemoneye-cli").unwrap();
        let output =
            inside(cli.get_program()).args(cli.get_args()).args(["query", sql, "--format", "json"]).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        document["rows"].as_array().cloned().unwrap_or_default()
    };
    wait_for("its collector", PATIENCE, || {
        asked("SELECT mode FROM system.collectors WHERE state = 'attached' AND mode = 'ebpf'").pop()
    });
    wait_for("its first scan", PATIENCE, || asked("SELECT scan_id FROM system.scans").pop());
    assert!(inside("/bin/sh".as_ref()).args(["-c", "/bin/true inside; exit 0"]).status().unwrap().success());
    assert!(Command::new("/bin/true").arg("outside").status().unwrap().success());
    let sql = "SELECT pid, ppid FROM processes.events WHERE command_line = '/bin/true inside' AND event_type = 'exec'";
    let found = wait_for("the process inside", PATIENCE, || asked(sql).pop());
    assert!(found["pid"].as_u64().unwrap() < 1000, "{found}");
    assert_eq!(asked("SELECT pid FROM processes.events WHERE command_line = '/bin/true outside'"), [json!(null); 0]);
    let first = asked("SELECT name FROM processes WHERE pid = 1 AND end_time IS NULL").remove(0);
    assert_eq!(text(&first, "name"), "daemoneye-agent");
}
