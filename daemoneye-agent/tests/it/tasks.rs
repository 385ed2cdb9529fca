//! Tasks to procmond, asked on the command line: what runs now, hashes, verified executables, families of processes. And
//! what the collection itself makes of executables and of secrets.

use crate::support::{
    NOBODY, PATIENCE, Sleeper, ask, hidden_sleep, may_test_as_root, number, rows, scans_go_by, site, text,
};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::{Child, Monitor, find_binary, wait_for};

/// What `sha256sum` says: another implementation.
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().trim_start_matches('\\').to_owned()
}

fn pids(rows: &[Value]) -> Vec<u64> {
    rows.iter().filter_map(|row| row["pid"].as_u64()).collect()
}

#[test]
fn what_runs_now_is_asked_of_procmond_itself() {
    let monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    let (_dir, program) = hidden_sleep();
    let (hidden, other) = (Sleeper::of(&program), Sleeper::start());
    let collect = |filters: &[&str]| {
        let flags: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        let answer = ask(site, &[&["collect", "now"], &flags[..]].concat());
        assert!(matches!(answer.exit, 0 | 3), "{answer:?}");
        answer.rows
    };
    let all = collect(&[]);
    let now: usize =
        fs::read_dir("/proc").unwrap().filter(|entry| entry.as_ref().unwrap().path().join("stat").exists()).count();
    assert!(all.len() > now / 2 && pids(&all).contains(&1), "{} of some {now}", all.len());
    let (pid, name) = (format!("pid={}", hidden.pid()), format!("executable={}", program.display()));
    assert_eq!(pids(&collect(&[&name])), [u64::from(hidden.pid())]);
    assert_eq!(pids(&collect(&[&pid, "name=sleep", "executable=/tmp/*"])), [u64::from(hidden.pid())]);
    assert_eq!(collect(&[&pid, "executable=/usr/*"]), Vec::<Value>::new());
    let record = &collect(&[&format!("pid={}", other.pid())])[0];
    assert_eq!((text(record, "process_key"), text(record, "name")), (&*other.key, "sleep"));
    assert_eq!(record["argv"], json!(["sleep", "600"]));

    let wrong = ask(site, &["collect", "now", "--filter", "uid=0"]);
    assert_eq!(wrong.exit, 2, "{wrong:?}");
}

#[test]
fn a_snapshot_is_told_when_it_is_asked_for() {
    let monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    let sleeper = Sleeper::start();
    let told = ask(site, &["collect", "now", "--snapshot"]);
    assert!(matches!(told.exit, 0 | 3), "{told:?}");
    let scan_id = told.rows[0]["scan_id"].as_u64().unwrap();
    let mine = format!(
        "SELECT s.memory_usage, p.name FROM processes.snapshots s JOIN processes p ON p.process_key = s.process_key \
         WHERE s.scan_id = {scan_id} AND s.pid = {}",
        sleeper.pid()
    );
    wait_for("the snapshot in the store", PATIENCE, || !rows(site, &mine).is_empty());
    let row = &rows(site, &mine)[0];
    assert!(row["memory_usage"].as_u64().unwrap() > 0 && text(row, "name") == "sleep", "{row}");
    let whole = number(site, &format!("SELECT count(*) FROM process_snapshots WHERE scan_id = {scan_id}"));
    assert!(whole > 10, "{whole}");
    let both = ask(site, &["collect", "now", "--snapshot", "--filter", "pid=1"]);
    assert_eq!(both.exit, 2, "{both:?}");
}

#[test]
fn files_and_running_programs_are_hashed_and_verified() {
    let monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    let (_dir, program) = hidden_sleep();
    let path = program.to_str().unwrap();
    let expected = sha256(&program);
    let sleeper = Sleeper::of(&program);
    let pid = sleeper.pid().to_string();
    for target in [path, &pid] {
        let answer = ask(site, &["hash", target]);
        assert_eq!(answer.exit, 0, "{answer:?}");
        assert_eq!(answer.rows, [json!({"path": path, "algorithm": "sha256", "hash": expected})]);
        let answer = ask(site, &["verify", target, "--expect", &expected.to_uppercase()]);
        assert!(matches!(answer.exit, 0 | 3), "{answer:?}");
        let row = &answer.rows[0];
        assert_eq!((&row["verified"], &row["matches"], &row["problems"]), (&json!(true), &json!(true), &json!([])));
        assert_eq!((text(row, "mode"), &row["running_pids"]), ("0755", &json!([sleeper.pid()])));
        let answer = ask(site, &["verify", target, "--expect", &"0".repeat(64)]);
        assert_eq!((answer.exit, &answer.rows[0]["matches"]), (1, &json!(false)), "{answer:?}");
        assert!(answer.rows[0]["problems"][0].as_str().unwrap().contains(&expected), "{answer:?}");
    }

    // Replaced: the program that runs is the old one, whatever is at its path.
    let new = program.with_extension("new");
    fs::write(&new, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o777)).unwrap();
    fs::rename(&new, &program).unwrap();
    assert_eq!(ask(site, &["hash", &pid]).rows[0]["hash"], json!(expected));
    assert_eq!(ask(site, &["hash", path]).rows[0]["hash"], json!(sha256(&program)));
    let answer = ask(site, &["verify", path]);
    let row = &answer.rows[0];
    assert_eq!((answer.exit, &row["stale_pids"]), (1, &json!([sleeper.pid()])), "{answer:?}");
    let problems = row["problems"].to_string();
    assert!(problems.contains("it was replaced") && problems.contains("everyone may write it"), "{problems}");
    fs::remove_file(&program).unwrap();
    let answer = ask(site, &["verify", &pid]);
    assert_eq!((answer.exit, &answer.rows[0]["exists"]), (1, &json!(false)), "{answer:?}");
    assert!(answer.rows[0]["problems"].to_string().contains("it was deleted"), "{answer:?}");
    assert_eq!(answer.rows[0]["hash"], json!(expected), "the image that runs still has its hash");
    let answer = ask(site, &["verify", path]);
    assert_eq!((answer.exit, &answer.rows[0]["exists"]), (1, &json!(false)), "{answer:?}");

    // What is no executable, or not there.
    let secret = site.root().join("secret");
    fs::write(&secret, "1234").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let pipe = site.root().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (arguments, exit, words) in [
        (["hash", secret.to_str().unwrap()], 5, "its hash is not told"),
        (["hash", pipe.to_str().unwrap()], 5, "no regular file"),
        (["hash", "/tmp"], 5, "no regular file"),
        (["hash", path], 4, "no file is at"),
        (["hash", "4194304"], 4, "no process 4194304"),
        (["verify", "4194304"], 4, "no process 4194304"),
        (["watch-tree", "4194304"], 4, "no process 4194304"),
    ] {
        let answer = ask(site, &arguments);
        assert_eq!(answer.exit, exit, "{arguments:?}: {answer:?}");
        assert!(answer.stderr.contains(words), "{arguments:?}: {}", answer.stderr);
    }
    let answer = ask(site, &["verify", "/bin/sh", "--expect", "abc"]);
    assert_eq!(answer.exit, 5, "{answer:?}");
}

#[test]
fn a_family_of_processes_is_watched_until_it_ends() {
    let monitor = Monitor::start(site()).unwrap();
    let go = monitor.site().root().join("go");
    let script = format!("sleep 601 & while [ ! -e {} ]; do sleep 0.1; done; sleep 1; kill $!; wait", go.display());
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let mut shell = Child::spawn(command).unwrap();
    let root = shell.pid().to_string();
    // A process whose end nobody asks for still is one.
    let reaper = std::thread::spawn(move || shell.wait_timeout(PATIENCE * 3).map(drop));
    let mut cli = Command::new(find_binary("daemoneye-cli").unwrap());
    cli.arg("--data-dir").arg(monitor.site().data_dir()).arg("--runtime-dir").arg(monitor.site().runtime_dir());
    cli.arg("--config").arg(monitor.site().config_file());
    cli.args(["--format", "jsonl", "watch-tree", &root]);
    let mut watching = cli.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut seen: Vec<(String, String, u64)> = Vec::new();
    for line in BufReader::new(watching.stdout.take().unwrap()).lines() {
        let row: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let event =
            (text(&row, "event_type").to_owned(), text(&row, "command_line").to_owned(), row["pid"].as_u64().unwrap());
        // Only when both were told as they run may they end.
        seen.push(event);
        let told = |what: &str| seen.iter().any(|(event, line, _)| event == "seen" && line.starts_with(what));
        if told("sh -c") && told("sleep 601") && !go.exists() {
            fs::write(&go, "").unwrap();
        }
    }
    let status = watching.wait().unwrap();
    assert!(matches!(status.code(), Some(0 | 3)), "{status}: {seen:?}");
    let ended = |what: &str| seen.iter().any(|(event, line, _)| event == "exit" && line.starts_with(what));
    assert!(ended("sleep 601") && ended("sh -c"), "{seen:?}");
    assert!(
        !pids(&rows(monitor.site(), "SELECT pid FROM processes WHERE pid = 1")).is_empty(),
        "the collection goes on"
    );
    // One that had ended when it was looked at has no command line.
    let own = |line: &str| line.is_empty() || line.starts_with("sh -c") || line.starts_with("sleep");
    assert!(seen.iter().all(|(_, line, _)| own(line)), "nobody else is shown: {seen:?}");
    reaper.join().unwrap().unwrap();
}

#[test]
fn without_its_collector_a_task_says_why_it_is_not_done() {
    let mut place = site();
    let programs = place.root().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("procmond"), "#!/bin/sh\nsleep 600\n").unwrap();
    fs::set_permissions(programs.join("procmond"), fs::Permissions::from_mode(0o755)).unwrap();
    place = place.with_own_programs().unwrap();
    let monitor = Monitor::spawn(place).unwrap();
    wait_for("the agent to answer", PATIENCE, || ask(monitor.site(), &["health"]).exit != 69);
    let answer = ask(monitor.site(), &["collect", "now"]);
    assert_eq!(answer.exit, 1, "{answer:?}");
    assert!(answer.stderr.contains("`procmond` is not attached") && answer.stderr.contains("health"), "{answer:?}");
}

#[test]
fn the_hash_of_an_executable_becomes_a_column() {
    let mut monitor = Monitor::start(site()).unwrap();
    let (_dir, program) = hidden_sleep();
    let expected = sha256(&program);
    let sleeper = Sleeper::of(&program);
    let by_hash = format!("SELECT process_key, hash_algorithm FROM processes WHERE executable_hash = '{expected}'");
    let found = wait_for("the hash", PATIENCE, || {
        rows(monitor.site(), &by_hash).into_iter().find(|row| text(row, "process_key") == sleeper.key)
    });
    assert_eq!(text(&found, "hash_algorithm"), "sha256");
    let told = |monitor: &Monitor| {
        number(monitor.site(), &format!("SELECT count(*) FROM processes.events WHERE process_key = '{}'", sleeper.key))
    };
    let before = told(&monitor);
    let first = format!(
        "SELECT event_type, executable_hash, provenance FROM processes.events WHERE process_key = '{}' ORDER BY event_time",
        sleeper.key
    );
    let events = rows(monitor.site(), &first);
    assert_eq!(text(&events[0], "event_type"), "seen");
    if events[0]["executable_hash"].is_null() {
        assert_eq!(events[0]["provenance"]["executable_hash"], "unavailable: hash is being computed");
    }
    scans_go_by(&monitor, 20);
    assert_eq!(told(&monitor), before, "a hash is told once");
    // A process that begins with a known file has its hash at once.
    let second = Sleeper::of(&program);
    let sql = format!(
        "SELECT executable_hash FROM processes.events WHERE process_key = '{}' AND event_type = 'seen'",
        second.key
    );
    let seen = wait_for("the second", PATIENCE, || rows(monitor.site(), &sql).pop());
    assert_eq!(seen["executable_hash"], json!(expected));
    // Others on this host may run the same program.
    let keys: Vec<_> = rows(monitor.site(), &by_hash).iter().map(|row| text(row, "process_key").to_owned()).collect();
    assert!([&sleeper.key, &second.key].into_iter().all(|key| keys.contains(key)), "{keys:?}");
    monitor.stop().unwrap();
    monitor.restart().unwrap();
    scans_go_by(&monitor, 20);
    assert_eq!(told(&monitor), before, "and not again after a restart");
}

#[test]
fn an_executable_that_may_be_run_and_not_read_says_so() {
    if !may_test_as_root("becomes another user") {
        return;
    }
    let place = site().as_user(NOBODY).unwrap();
    let program = place.root().join("unreadable");
    fs::copy("/bin/sleep", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o711)).unwrap();
    let monitor = Monitor::start(place).unwrap();
    let sleeper = Sleeper::of(&program);
    let sql = format!("SELECT provenance FROM processes WHERE process_key = '{}'", sleeper.key);
    // Of another user's process the executable is not even known.
    let reason = wait_for("its record", PATIENCE, || rows(monitor.site(), &sql).pop());
    assert_eq!(reason["provenance"]["executable_hash"], "unavailable: permission denied");
    let answer = ask(monitor.site(), &["hash", program.to_str().unwrap()]);
    assert_eq!(answer.exit, 1, "{answer:?}");
    assert!(answer.stderr.contains("may not be read by procmond"), "{answer:?}");
}

#[test]
fn secrets_of_command_lines_are_nowhere() {
    const SECRET: &str = "hunter2-of-the-line";
    let mut monitor = Monitor::start(site()).unwrap();
    let script = format!("sleep 600; : --password {SECRET} https://u:{SECRET}@h/");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "app", "--token", SECRET, &format!("API_KEY={SECRET}")]);
    let parent = Child::spawn(command).unwrap();
    let sql = format!("SELECT argv, command_line, platform_data FROM processes WHERE pid = {}", parent.pid());
    let row = wait_for("the process", PATIENCE, || rows(monitor.site(), &sql).pop());
    assert_eq!(row["argv"][2], "sleep 600; : --password *** https://u:***@h/");
    assert_eq!(row["argv"].as_array().unwrap()[3..], ["app", "--token", "***", "API_KEY=***"]);
    assert_eq!(row["platform_data"]["masked"], "argv,command_line");
    let child = format!("SELECT parent_command_line FROM processes WHERE ppid = {} AND name = 'sleep'", parent.pid());
    let row = wait_for("its child", PATIENCE, || rows(monitor.site(), &child).pop());
    assert!(text(&row, "parent_command_line").ends_with("--token *** API_KEY=***"), "{row}");
    let pid = format!("pid={}", parent.pid());
    assert!(!format!("{:?}", ask(monitor.site(), &["collect", "now", "--filter", &pid])).contains(SECRET));
    drop(parent);
    wait_for("its end", PATIENCE, || rows(monitor.site(), &format!("{sql} AND end_time IS NOT NULL")).pop());
    assert!(!monitor.log().contains(SECRET));
    monitor.stop().unwrap();
    let mut dirs = vec![monitor.site().data_dir()];
    let mut files = 0;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            files += 1;
            let content = fs::read(&path).unwrap_or_default();
            let found = content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!found, "{} has the secret", path.display());
        }
    }
    assert!(files >= 3, "store, spool and memory are there: {files}");
}
