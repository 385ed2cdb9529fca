//! What keeps its memory small.

use crate::support::site;
use testkit::Monitor;

#[test]
fn the_agent_runs_with_the_settings_of_the_allocator_that_keep_it_small() {
    let mut monitor = Monitor::start(site()).unwrap();
    let pid = monitor.agent().pid();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    for setting in ["MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=131072", "MALLOC_TRIM_THRESHOLD_=131072"] {
        assert!(environment.split(|byte| *byte == 0).any(|line| line == setting.as_bytes()), "{setting}");
    }
    monitor.stop().unwrap();
}
