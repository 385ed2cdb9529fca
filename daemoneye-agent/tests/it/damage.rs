//! A store whose bytes are not what was written: refused or told, never filled anew, never half an answer for a whole one.

use crate::support::{Answer, PATIENCE, ask, noise, number, site};
use daemoneye_lib::lock::DataDirLock;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::{Child, Monitor, Site, poll, wait_for};

/// More than make a block.
const EVENTS: u64 = 2_200;
const PAGE: usize = 4096;
/// Pages that are overwritten one by one.
const PLACES: usize = 12;

/// Questions that together read every part of the store.
const QUESTIONS: [&str; 4] = [
    "SELECT event_id, event_type, event_time, pid, name, command_line, executable_path, user, provenance \
     FROM processes.events ORDER BY event_id",
    "SELECT * FROM processes ORDER BY process_key",
    "SELECT * FROM system.scans ORDER BY end_time",
    "SELECT * FROM system.gaps WHERE gap_id > 0 ORDER BY gap_id",
];

#[test]
fn a_damaged_store_is_refused_or_told_and_never_answers_as_if_complete() {
    let mut monitor = Monitor::start(site()).unwrap();
    wait_for("enough events to make a block", PATIENCE * 2, || {
        let many = "for i in $(seq 300); do sleep 1 & done; wait";
        assert!(Command::new("sh").args(["-c", many]).status().unwrap().success());
        number(monitor.site(), "SELECT count(*) FROM processes.events") > EVENTS
    });
    monitor.stop().unwrap();
    let site = monitor.site();
    // Nobody collects from here on: an answer can only change by damage.
    let _lock = DataDirLock::acquire(&site.data_dir().join("procmond")).unwrap();
    let store = site.data_dir().join("agent/events.redb");
    let whole = fs::read(&store).unwrap();
    let truth = answers(site, &store).unwrap_or_else(|said| panic!("{said}"));
    assert!(truth.iter().all(|answer| matches!(answer.exit, 0 | 3) && !answer.rows.is_empty()), "{truth:?}");

    let noise = noise(whole.len());
    let half = whole[..whole.len() / 2].to_vec();
    let first_page = [&noise[..PAGE], &whole[PAGE..]].concat();
    for (what, bytes) in
        [("half of it", half), ("nothing", Vec::new()), ("noise", noise.clone()), ("a first page of noise", first_page)]
    {
        fs::write(&store, &bytes).unwrap();
        let Err(said) = answers(site, &store) else { panic!("{what} was taken for a store") };
        assert!(said.contains("is damaged") && said.contains("move it aside"), "{what}: {said}");
        assert_eq!(fs::read(&store).unwrap(), bytes, "{what} was changed");
        assert_eq!(others(&store), Vec::<PathBuf>::new(), "{what}: another store was begun");
    }

    let mut noticed = 0;
    for place in 1..=PLACES {
        let at = whole.len() / PAGE * place / (PLACES + 1) * PAGE;
        let bytes = [&whole[..at], &noise[at..at + PAGE], &whole[at + PAGE..]].concat();
        fs::write(&store, &bytes).unwrap();
        match answers(site, &store) {
            Err(said) => {
                assert!(said.contains("is damaged") && said.contains(&*store.to_string_lossy()), "byte {at}: {said}");
                noticed += 1;
            }
            Ok(answers) => {
                for (answer, truth) in answers.iter().zip(&truth) {
                    if matches!(answer.exit, 0 | 3) {
                        assert_eq!(answer.rows, truth.rows, "byte {at}: an answer as if nothing was damaged");
                    } else {
                        assert_eq!(
                            (answer.exit, answer.stderr.contains("is damaged")),
                            (1, true),
                            "byte {at}: {answer:?}"
                        );
                        noticed += 1;
                    }
                }
            }
        }
        assert_eq!(others(&store), Vec::<PathBuf>::new(), "byte {at}: another store was begun");
    }
    assert!(noticed > 0, "no place was of any importance");
}

/// What an agent on this store answers, or what it says at its end.
fn answers(site: &Site, store: &Path) -> Result<Vec<Answer>, String> {
    let mut agent = Child::spawn(site.agent().unwrap()).unwrap();
    let ready = poll(PATIENCE, || agent.exited().unwrap().is_some() || site.cli(&["health"]).unwrap().status != 69);
    assert!(ready.is_some(), "an agent on {} neither answers nor ends", store.display());
    let mut answers = Vec::new();
    for sql in QUESTIONS {
        if let Some(status) = agent.exited().unwrap() {
            assert_eq!(status.code(), Some(1), "{}", agent.stderr());
            return Err(agent.stderr());
        }
        answers.push(ask(site, &["query", sql]));
    }
    // One that ended meanwhile says why, and not only that it is gone.
    if let Some(status) = agent.exited().unwrap() {
        assert_eq!(status.code(), Some(1), "{}", agent.stderr());
        return Err(agent.stderr());
    }
    Ok(answers)
}

/// Stores beside the one.
fn others(store: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path != store && path.to_string_lossy().contains("redb")).collect()
}
