//! What the tests share: a place to monitor in, answers of the command line, processes to be seen.

use daemoneye_lib::models::key::process_key;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use tempfile::TempDir;
use testkit::{Monitor, Site, start_ticks, wait_for, workspace_root};

/// For what takes a second on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Scans so often that tests need not wait.
pub(crate) const FAST: &str = "[app]\nscan_interval_ms = 200\nmax_scan_cpu = 50.0\n";

/// A place with the shipped rules and fast scans.
pub(crate) fn site() -> Site {
    Site::new().unwrap().with_rules(&workspace_root().join("rules")).with_config(FAST).unwrap()
}

/// What a command of `daemoneye-cli` answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) exit: i32,
    pub(crate) rows: Vec<Value>,
    pub(crate) reasons: Vec<String>,
    pub(crate) stderr: String,
}

/// Runs a command and reads the document that it prints; without one there are no rows.
pub(crate) fn ask(site: &Site, arguments: &[&str]) -> Answer {
    let output = site.cli(&[arguments, &["--format", "json"]].concat()).unwrap();
    let document: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
    let strings =
        |list: &Value| list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect();
    Answer {
        exit: output.status,
        rows: document["rows"].as_array().cloned().unwrap_or_default(),
        reasons: strings(&document["completeness"]["reasons"]),
        stderr: output.stderr,
    }
}

/// Asks in SQL, and insists on an answer.
pub(crate) fn query(site: &Site, sql: &str) -> Answer {
    let answer = ask(site, &["query", sql]);
    assert!(matches!(answer.exit, 0 | 3), "{sql}: {answer:?}");
    assert_eq!(answer.exit == 3, !answer.reasons.is_empty(), "{sql}: {answer:?}");
    answer
}

/// The rows of an answer in SQL.
pub(crate) fn rows(site: &Site, sql: &str) -> Vec<Value> {
    query(site, sql).rows
}

/// The one number that a question in SQL is answered with.
pub(crate) fn number(site: &Site, sql: &str) -> u64 {
    let rows = rows(site, sql);
    let number = rows.first().and_then(|row| row.as_object()?.values().next()?.as_u64());
    number.unwrap_or_else(|| panic!("{sql}: {rows:?}"))
}

/// A component's part of the health report, with the exit code of the whole.
pub(crate) fn health_of(site: &Site, component: &str) -> (i32, Value) {
    let answer = ask(site, &["health"]);
    let found = answer.rows.into_iter().find(|row| text(row, "component") == component);
    (answer.exit, found.unwrap_or_default())
}

pub(crate) fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

/// The key of a live process, by what the kernel says.
pub(crate) fn key_of(pid: u32) -> String {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    process_key(&boot_id, pid, start_ticks(pid).unwrap())
}

/// Waits until scans that began after this call are committed.
pub(crate) fn scans_go_by(monitor: &Monitor, scans: u64) {
    const COUNT: &str = "SELECT count(*) FROM system.scans";
    let before = number(monitor.site(), COUNT);
    // One may be under way.
    wait_for("scans", PATIENCE, || number(monitor.site(), COUNT) > before + scans);
}

/// A process of a test; it ends with its owner.
pub(crate) struct Sleeper {
    process: Child,
    pub(crate) key: String,
}

impl Sleeper {
    /// A `sleep` that outlives every test.
    pub(crate) fn start() -> Self {
        Self::of(Path::new("sleep"))
    }

    /// The same from a copy of its file.
    pub(crate) fn of(program: &Path) -> Self {
        Self::run(Command::new(program).arg("600"))
    }

    /// A process whose event takes some 200 KB.
    pub(crate) fn with_much_to_say() -> Self {
        Self::run(Command::new("sleep").arg("600").args(["0"; 50_000]))
    }

    fn run(command: &mut Command) -> Self {
        let process = command.spawn().unwrap();
        let key = key_of(process.id());
        Self { process, key }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A copy of `sleep`, under its own name, in a hidden directory for temporary files: what a shipped rule is after.
pub(crate) fn hidden_sleep() -> (TempDir, PathBuf) {
    let dir = tempfile::Builder::new().prefix(".daemoneye-").tempdir_in("/tmp").unwrap();
    let program = dir.path().join("sleep");
    fs::copy("/bin/sleep", &program).unwrap();
    (dir, program)
}

/// The rule that [`hidden_sleep`] sets off.
pub(crate) const HIDDEN: &str = "linux-hidden-executable-in-temp";

/// The alerts of that rule on this file.
pub(crate) fn alerts_on(site: &Site, program: &Path) -> Vec<Value> {
    let mut alerts = ask(site, &["alerts", "list", "--rule", HIDDEN]).rows;
    alerts.retain(|alert| text(alert, "executable_path") == program.to_string_lossy());
    alerts
}

/// The user who may nothing.
pub(crate) const NOBODY: u32 = 65_534;

/// Whether a test that only root can do may go on.
pub(crate) fn may_test_as_root(why: &str) -> bool {
    testkit::require("root", testkit::is_root(), why)
}

/// Waits until procmond has looked so often since this call, whether anything of it arrives or not; its log must be on
/// `debug`.
pub(crate) fn procmond_scans(monitor: &Monitor, scans: usize) {
    let scanned = || monitor.log().matches("scanned cpu=").count();
    let before = scanned();
    // One may be under way.
    wait_for("procmond's scans", PATIENCE, || scanned() > before + scans);
}

/// Numbers that are the same for the same seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of 0 … `bound - 1`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// So many bytes without a meaning, always the same.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut random = Random(1);
    std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(length).collect()
}
