//! The demo passes when everything works, and notices what does not.

use crate::xtask;
use std::fs;
use std::path::Path;
use std::time::Duration;
use testkit::{Child, kill9, wait_for, workspace_root};

const LIMIT: Duration = Duration::from_secs(120);
/// The shipped rule that the demo's program sets off.
const RULE: &str = "linux-hidden-executable-in-temp";

#[test]
fn the_demo_passes() {
    let mut demo = Child::spawn(xtask(&["demo", "--no-build"])).unwrap();
    let status = demo.wait_timeout(LIMIT).unwrap();
    assert!(status.success(), "{}\n{}", demo.stdout(), demo.stderr());
    assert!(demo.stdout().contains("ok: an alert carries the pid"), "{}", demo.stdout());
}

#[test]
fn the_demo_fails_without_the_rule() {
    let rules = tempfile::tempdir().unwrap();
    copy_rules_without(RULE, rules.path());
    let mut demo = Child::spawn(xtask(&["demo", "--no-build", "--rules-dir", rules.path().to_str().unwrap()])).unwrap();
    assert_eq!(demo.wait_timeout(LIMIT).unwrap().code(), Some(1));
    assert!(demo.stderr().contains("failed: an alert carries the pid"), "{}\n{}", demo.stdout(), demo.stderr());
}

#[test]
fn the_demo_fails_when_procmond_is_killed() {
    let mut demo = Child::spawn(xtask(&["demo", "--no-build"])).unwrap();
    let procmond = wait_for("the demo's procmond", LIMIT, || {
        demo.stdout().contains("ok: procmond runs").then(|| descendant(demo.pid(), "procmond")).flatten()
    });
    kill9(procmond).unwrap();
    assert_eq!(demo.wait_timeout(LIMIT).unwrap().code(), Some(1));
    assert!(demo.stderr().contains("failed: "), "{}\n{}", demo.stdout(), demo.stderr());
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let mut demo = Child::spawn(xtask(&["demo", "--no-build", "--seconds", "100"])).unwrap();
    let procmond = wait_for("the demo's procmond", LIMIT, || {
        demo.stdout().contains("ok: procmond runs").then(|| descendant(demo.pid(), "procmond")).flatten()
    });
    let site = fs::read_link(format!("/proc/{procmond}/cwd")).unwrap();
    demo.signal(testkit::Signal::INT).unwrap();
    assert_eq!(demo.wait_timeout(Duration::from_secs(20)).unwrap().code(), Some(1));
    assert!(demo.stderr().contains("interrupted"), "{}", demo.stderr());
    assert!(!Path::new(&format!("/proc/{procmond}/exe")).exists());
    assert!(!site.exists(), "{}", site.display());
}

fn copy_rules_without(id: &str, into: &Path) {
    let shipped = workspace_root().join("rules");
    assert!(shipped.join(id).join("rule.toml").is_file(), "no shipped rule {id}");
    fs::copy(shipped.join("lists.toml"), into.join("lists.toml")).unwrap();
    for entry in fs::read_dir(shipped).unwrap() {
        let rule = entry.unwrap().path().join("rule.toml");
        let name = rule.parent().and_then(Path::file_name).unwrap();
        if rule.is_file() && name != id {
            fs::create_dir(into.join(name)).unwrap();
            fs::copy(&rule, into.join(name).join("rule.toml")).unwrap();
        }
    }
}

/// The process with this name among the children of this process's children.
fn descendant(of: u32, name: &str) -> Option<u32> {
    children(of)
        .into_iter()
        .flat_map(children)
        .find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name))
}

fn children(of: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent == Some(of.to_string().as_str())
    })
    .collect()
}
