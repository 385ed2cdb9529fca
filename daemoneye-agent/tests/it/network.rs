//! What speaks to the network: nothing.

use crate::support::{PATIENCE, Sleeper, alerts_on, hidden_sleep, rows, site};
use testkit::{Child, Monitor, network_sockets, wait_for};

#[test]
fn no_program_opens_a_network_socket() {
    let mut monitor = Monitor::start(site().seeing_by("auto")).unwrap();
    let (_dir, program) = hidden_sleep();
    let _sleepers = [(); 3].map(|()| Sleeper::of(&program));
    let mut command = monitor.site().command("daemoneye-cli").unwrap();
    command.args(["alerts", "watch"]);
    let mut cli = Child::spawn(command).unwrap();
    wait_for("an alert, shown too", PATIENCE, || {
        !alerts_on(monitor.site(), &program).is_empty() && cli.stdout().lines().count() > 0
    });
    assert!(!rows(monitor.site(), "SELECT pid FROM processes").is_empty());
    let procmond = monitor.procmond_pid().unwrap();
    for (name, pid) in [("the agent", monitor.agent().pid()), ("the CLI", cli.pid()), ("procmond", procmond)] {
        assert_eq!(network_sockets(pid).unwrap(), [""; 0], "{name}");
    }
    cli.signal(testkit::Signal::INT).unwrap();
    cli.wait_timeout(PATIENCE).unwrap();
    monitor.stop().unwrap();
}
