//! Below a service manager.

use crate::support::{FAST, PATIENCE};
use std::process::Command;
use std::time::Duration;
use testkit::{Child, Signal, Site, binary, wait_for};

#[test]
fn collectors_wait_for_an_agent_that_a_service_manager_runs() {
    let census = binary("daemoneye-census");
    let config = format!(
        "{FAST}[collector]\norphan_timeout_s = 1\n[collectors.census]\ncommand = [{:?}]\n",
        census.to_string_lossy()
    );
    let site = Site::new().unwrap().with_config(&config).unwrap().in_test_mode();
    let agent = site.agent().unwrap();
    // As systemd does: the variable names the process that it is given to.
    let mut command = Command::new("sh");
    command.args(["-c", "SYSTEMD_EXEC_PID=$$ exec \"$@\"", "sh"]).arg(agent.get_program()).args(agent.get_args());
    command.current_dir(site.root());
    for (name, value) in agent.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut agent = Child::spawn(command).unwrap();
    let collectors = || [site.pid_of("procmond"), site.pid_of("daemoneye-censu")];
    wait_for("both to be attached", PATIENCE, || {
        let attached = site.cli(&["query", "--format", "csv", "SELECT state FROM system.collectors"]).unwrap();
        attached.stdout.matches("attached").count() == 2
    });
    let before = collectors();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    agent.signal(Signal::KILL).unwrap();
    agent.wait_timeout(PATIENCE).unwrap();
    // Longer than a collector may be an orphan elsewhere.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(collectors(), before, "they went on");
}
