//! The measuring command measures: small numbers here, for the way and not for the figures.

use crate::xtask;
use std::time::Duration;
use testkit::Child;

#[test]
fn measuring_fills_every_table_and_leaves_nothing_behind() {
    let mut command = xtask(&["measure", "--no-build", "--profile", "dev", "--processes", "20", "--alerts", "2"]);
    let places = tempfile::tempdir().unwrap();
    command.env("TMPDIR", places.path());
    let mut measure = Child::spawn(command).unwrap();
    let status = measure.wait_timeout(Duration::from_secs(240)).unwrap();
    assert!(status.success(), "{status}: {}", measure.stderr());
    let tables = measure.stdout();
    for row in [
        "| procmond | ",
        "| the rule has found it | ",
        "| in all, since the start of the process | ",
        "| procmond, a later scan (median of 16) | ",
        "| `sysinfo`, reused (median of 9) | ",
        "| after 20 queries | ",
    ] {
        assert!(tables.contains(row), "no row {row:?} in\n{tables}");
    }
    assert_eq!(std::fs::read_dir(places.path()).unwrap().count(), 0, "something was left behind");
}
