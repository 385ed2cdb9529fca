//! Tests that need what not every machine has: they say so, are counted, and may not be skipped where it is required.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Whether the test may go on; on `false` it must return at once.
///
/// When `what` is not available, the skip is told on stderr and appended to the file named by `DAEMONEYE_SKIP_LOG` as
/// `<test name>: <what>: <why>`.
///
/// # Panics
///
/// When `what` is not available although `DAEMONEYE_REQUIRE` (comma separated) lists it.
pub fn require(what: &str, available: bool, why: &str) -> bool {
    let required = std::env::var("DAEMONEYE_REQUIRE").unwrap_or_default();
    if goes_on(what, available, why, &required) {
        return true;
    }
    let line = skip_line(what, why);
    eprint!("skipped {line}");
    if let Some(log) = std::env::var_os("DAEMONEYE_SKIP_LOG") {
        // One write in append mode: tests of several processes may skip at the same time.
        let appended = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = appended {
            panic!("cannot count a skipped test in {}: {error}", log.display());
        }
    }
    false
}

fn goes_on(what: &str, available: bool, why: &str, required: &str) -> bool {
    let may_skip = !required.split(',').any(|item| item.trim() == what);
    assert!(available || may_skip, "`{what}` is required here (DAEMONEYE_REQUIRE={required}) but missing: {why}");
    available
}

fn skip_line(what: &str, why: &str) -> String {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed test");
    format!("{test}: {what}: {}\n", why.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::{goes_on, require, skip_line};

    #[test]
    fn what_is_available_is_no_skip() {
        assert!(require("nothing", true, "unused"));
    }

    #[test]
    fn what_is_not_required_is_skipped() {
        assert!(!goes_on("corp", false, "", "root,corpus"));
        assert!(!goes_on("root", false, "", ""));
        assert!(goes_on("root", true, "", "root"));
    }

    #[test]
    #[should_panic(expected = "`corpus` is required here (DAEMONEYE_REQUIRE=root, corpus) but missing: no directory")]
    fn what_is_required_may_not_be_skipped() {
        goes_on("corpus", false, "no directory", "root, corpus");
    }

    #[test]
    fn a_skip_names_the_test_on_one_line() {
        let line = skip_line("root", "two\nlines");
        assert!(line.ends_with("a_skip_names_the_test_on_one_line: root: two lines\n"), "{line}");
    }
}
