//! The encrypted bus, switched on in the configuration that all programs share.

use crate::support::{health_of, number, site, text};
use std::fs;
use std::path::Path;
use testkit::Monitor;

const NOISE: &str = "[app]\nbus_encryption = \"noise\"\n";

#[test]
fn the_programs_speak_sealed_and_with_nobody_else() {
    let mut monitor = Monitor::start(site().with_config(NOISE).unwrap()).unwrap();
    let (_, health) = health_of(monitor.site(), "collector procmond");
    assert!(text(&health, "detail").starts_with("polling only"), "{health}");
    assert!(number(monitor.site(), "SELECT count(*) FROM processes") > 0);

    // Whoever is not encrypted.
    let config = monitor.site().config_file();
    fs::write(&config, "").unwrap();
    let refused = monitor.site().cli(&["health"]).unwrap();
    assert_eq!(refused.status, 5, "{refused:?}");
    assert!(refused.stderr.contains("the agent's is encrypted, this connection is not"), "{refused:?}");
    assert!(refused.stderr.contains("app.bus_encryption"), "{refused:?}");

    // Whoever has another key.
    let own = monitor.site().root().join("own");
    fs::create_dir(&own).unwrap();
    fs::write(&config, format!("{NOISE}bus_keys = \"{}\"\n", own.display())).unwrap();
    let keys = monitor.site().data_dir().join("keys");
    let refused = monitor.site().cli(&["health"]).unwrap();
    assert_eq!(refused.status, 5, "{refused:?}");
    assert!(refused.stderr.contains("there is no bus key"), "{refused:?}");
    copy(&keys.join("collector.procmond.key"), &own.join("operator.key"));
    copy(&keys.join("agent.pub"), &own.join("agent.pub"));
    let refused = monitor.site().cli(&["health"]).unwrap();
    assert_eq!(refused.status, 5, "{refused:?}");
    assert!(refused.stderr.contains("not the one that the agent has pinned in operator.pub"), "{refused:?}");

    // The right key from a directory of one's own.
    copy(&keys.join("operator.key"), &own.join("operator.key"));
    let (_, health) = health_of(monitor.site(), "agent");
    // The one without a key may have gone before it was refused.
    let refused = ["2 connections refused or cut off", "3 connections refused or cut off"];
    assert!(refused.iter().any(|count| text(&health, "detail").contains(count)), "{health}");
    fs::write(&config, NOISE).unwrap();
    monitor.stop().unwrap();
}

/// Copies keep the mode.
fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}
