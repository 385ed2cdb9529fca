//! Two agents: never on one data directory, always on two.

use crate::support::{PATIENCE, number, site};
use testkit::{Child, Monitor};

#[test]
fn the_second_agent_on_a_data_directory_names_the_first_and_ends() {
    let mut monitor = Monitor::start(site()).unwrap();
    let procmond = monitor.procmond_pid();
    let mut second = Child::spawn(monitor.site().agent().unwrap()).unwrap();
    assert_eq!(second.wait_timeout(PATIENCE).unwrap().code(), Some(1));
    let (said, holder) = (second.stderr(), monitor.agent().pid());
    assert!(said.contains(&format!("in use by process {holder}")), "{said}");
    assert!(said.contains(&monitor.site().data_dir().display().to_string()) && said.contains("--data-dir"), "{said}");
    assert!(number(monitor.site(), "SELECT count(*) FROM processes") > 0, "the first one was disturbed");
    assert_eq!(monitor.procmond_pid(), procmond);
    monitor.stop().unwrap();
}

#[test]
fn agents_on_different_directories_coexist() {
    let mut monitors = [site(), site()].map(|site| Monitor::start(site).unwrap());
    let pids = monitors.each_ref().map(|monitor| monitor.procmond_pid().unwrap());
    assert_ne!(pids[0], pids[1]);
    for monitor in &monitors {
        // Each sees both: a monitor is a process of the host like any other.
        let own =
            format!("SELECT count(*) FROM processes WHERE pid IN ({}, {}) AND end_time IS NULL", pids[0], pids[1]);
        testkit::wait_for("both collectors to be seen", PATIENCE, || number(monitor.site(), &own) == 2);
    }
    monitors[0].stop().unwrap();
    assert!(number(monitors[1].site(), "SELECT count(*) FROM processes") > 0);
    monitors[1].stop().unwrap();
}
