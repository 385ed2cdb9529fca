//! A disk that refuses: what is seen waits until it takes it again, and nobody starts on one that cannot be written.

use crate::mount::Tmpfs;
use crate::support::{
    FAST, NOBODY, PATIENCE, Sleeper, health_of, may_test_as_root, procmond_scans, rows, scans_go_by, site, text,
};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use testkit::{Child, Monitor, Site, wait_for};

/// Processes whose events take more than a store that cannot grow has room for.
const MANY: usize = 8;

#[test]
fn a_full_disk_is_told_and_nothing_is_lost_when_there_is_room_again() {
    if !may_test_as_root("mounts a file system") {
        return;
    }
    let place = debugged();
    let mount = Tmpfs::on(&place.data_dir(), 64);
    // In this order, so that it is unmounted before the site goes.
    let (mut monitor, mount) = (Monitor::start(place).unwrap(), mount);
    let filler = mount.fill();
    let collector = wait_for("the spool to be refused", PATIENCE, || failed(&monitor, "collector procmond"));
    let (detail, hint) = (text(&collector, "detail"), text(&collector, "hint"));
    assert!(detail.contains("procmond/spool") && detail.contains("No space left"), "{collector}");
    assert!(hint.contains("make room"), "{collector}");
    nothing_is_lost(&mut monitor, "collector procmond", &filler);
}

#[test]
fn a_full_disk_below_the_store_alone_is_told_and_collectors_wait() {
    if !may_test_as_root("mounts a file system") {
        return;
    }
    let place = debugged();
    let mount = Tmpfs::on(&place.data_dir().join("agent"), 64);
    // In this order, so that it is unmounted before the site goes.
    let (mut monitor, mount) = (Monitor::start(place).unwrap(), mount);
    let filler = mount.fill();
    // The store has room in its file.
    let many: Vec<Sleeper> = std::iter::repeat_with(Sleeper::with_much_to_say).take(MANY).collect();
    let store = wait_for("the store to be refused", PATIENCE, || failed(&monitor, "store"));
    drop(many);
    let (detail, hint) = (text(&store, "detail"), text(&store, "hint"));
    assert!(detail.contains("agent/events.redb") && detail.contains("No space left"), "{store}");
    assert!(hint.contains("make room"), "{store}");
    nothing_is_lost(&mut monitor, "store", &filler);
}

/// A place whose log tells of procmond's scans.
fn debugged() -> Site {
    site().with_config(&format!("{FAST}log_level = \"debug\"\n")).unwrap()
}

/// The component, when it and with it the whole has failed.
fn failed(monitor: &Monitor, component: &str) -> Option<Value> {
    let (exit, component) = health_of(monitor.site(), component);
    (exit == 1 && text(&component, "status") == "failed").then_some(component)
}

/// While the component has failed a process comes, is seen, and goes; it is told when the disk has room again.
fn nothing_is_lost(monitor: &mut Monitor, component: &str, filler: &Path) {
    let sleeper = Sleeper::start();
    procmond_scans(monitor, 2);
    let key = sleeper.key.clone();
    drop(sleeper);
    procmond_scans(monitor, 2);
    assert!(failed(monitor, component).is_some(), "the disk took something");

    fs::remove_file(filler).unwrap();
    wait_for("the failure's end", PATIENCE, || monitor.cli(&["health"]).unwrap().status == 3);
    let told =
        format!("SELECT event_type FROM processes.events WHERE process_key = '{key}' AND event_type <> 'changed'");
    wait_for("what was seen meanwhile", PATIENCE, || rows(monitor.site(), &told).len() == 2);
    assert_eq!(rows(monitor.site(), &told), [json!({"event_type": "seen"}), json!({"event_type": "exit"})]);
    scans_go_by(monitor, 2);
    let gaps = rows(monitor.site(), "SELECT * FROM system.gaps WHERE kind <> 'polling'");
    assert_eq!(gaps, Vec::<Value>::new(), "something was lost");
    monitor.stop().unwrap();
}

#[test]
fn a_read_only_data_directory_is_an_error_with_a_way_out() {
    if !may_test_as_root("mounts a file system") {
        return;
    }
    let empty = site();
    let mount = Tmpfs::on(&empty.data_dir(), 1);
    mount.make_read_only();
    refuses_to_start(&empty, &["Read-only file system", "writable"]);
    drop(mount);

    let place = site();
    let mount = Tmpfs::on(&place.data_dir(), 64);
    let (mut monitor, mount) = (Monitor::start(place).unwrap(), mount);
    monitor.stop().unwrap();
    mount.make_read_only();
    refuses_to_start(monitor.site(), &["Read-only file system", "writable"]);
}

#[test]
fn a_data_directory_of_somebody_else_is_an_error_with_a_way_out() {
    if !may_test_as_root("becomes another user") {
        return;
    }
    let place = site().as_user(NOBODY).unwrap();
    fs::create_dir(place.data_dir()).unwrap();
    fs::set_permissions(place.data_dir(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    refuses_to_start(&place, &["Permission denied"]);
    assert!(is_empty(&place.data_dir()));
}

/// An agent ends at once, names the data directory and says what to do.
fn refuses_to_start(site: &Site, words: &[&str]) {
    let mut agent = Child::spawn(site.agent().unwrap()).unwrap();
    let status = agent.wait_timeout(PATIENCE).unwrap();
    let said = agent.stderr();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("error: ") && said.contains("hint: "), "{said}");
    assert!(said.contains(&site.data_dir().display().to_string()), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(site.processes(), [], "somebody is left to try again and again");
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}
