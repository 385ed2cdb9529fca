//! `up` is the agent with the shipped rules, in the foreground.

use crate::xtask;
use std::time::Duration;
use testkit::{Child, Signal, Site, wait_for};

#[test]
fn up_monitors_with_the_shipped_rules_and_ends_on_ctrl_c() {
    let site = Site::new().unwrap();
    let mut command = xtask(&["up", "--no-build", "--"]);
    command.arg("--config").arg(site.config_file());
    command.arg("--data-dir").arg(site.data_dir()).arg("--runtime-dir").arg(site.runtime_dir());
    let mut up = Child::spawn(command).unwrap();
    wait_for("health", Duration::from_secs(60), || {
        assert_eq!(up.exited().unwrap(), None, "{}", up.stderr());
        matches!(site.cli(&["health"]).unwrap().status, 0 | 3)
    });
    let rules = site.cli(&["rules", "list", "--format", "json"]).unwrap();
    assert!(rules.stdout.contains("linux-hidden-executable-in-temp"), "{rules:?}");
    up.signal(Signal::INT).unwrap();
    let status = up.wait_timeout(Duration::from_secs(3)).unwrap();
    assert!(status.success(), "{status}: {}", up.stderr());
    assert!(site.processes().is_empty());
    let said = up.stdout() + &up.stderr();
    assert!(said.contains(site.data_dir().to_str().unwrap()), "does not say where its state lives: {said}");
}
