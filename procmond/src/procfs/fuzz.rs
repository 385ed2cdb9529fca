//! Fuzz targets: every reader of `/proc` takes any bytes.

use super::{arguments, cgroup, mounts, stat, status};
use bolero::check;
use daemoneye_lib::models::text::unescape;

#[test]
fn fuzz_stat() {
    check!().for_each(|bytes: &[u8]| {
        if let Some(stat) = stat::parse(bytes) {
            assert!(bytes.len() > stat.name().len());
        }
        // Behind a name, where the fields are: random bytes seldom get there.
        let line = [b"1 (x) ", bytes].concat();
        let _ = stat::parse(&line);
    });
}

#[test]
fn fuzz_command_line() {
    check!().for_each(|bytes: &[u8]| {
        let arguments = arguments::split(bytes, false);
        if !arguments.cut {
            let joined: Vec<u8> = arguments.values.iter().flat_map(|value| unescape(value)).collect();
            let plain: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
            assert_eq!(joined, plain, "no byte is lost or made up");
        }
        let _ = arguments::variables(bytes, &["A".to_owned(), "LD_PRELOAD".to_owned()]);
    });
}

#[test]
fn fuzz_texts() {
    check!().for_each(|bytes: &[u8]| {
        let _ = status::parse(bytes);
        let _ = mounts::hiding_options(bytes);
        if let Some(path) = cgroup::path(bytes) {
            let found = cgroup::membership(path);
            assert!(found.runtime.is_none() || found.container.is_some());
        }
    });
}
