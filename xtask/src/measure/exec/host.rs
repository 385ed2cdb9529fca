//! What was measured where: without it the figures mean nothing.

use super::watcher::{find, output};
use super::{Exec, PROGRAM};
use std::fmt::Write as _;
use std::process::Command;
use testkit::{Failure, find_binary};

/// A list in Markdown.
pub(super) fn facts(options: &Exec) -> Result<String, Failure> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    let agent = match &options.programs {
        Some(dir) => dir.join("daemoneye-agent"),
        None => find_binary("daemoneye-agent")?,
    };
    let built = match &options.programs {
        Some(dir) => format!("as they are in {}", dir.display()),
        None => format!("profile `{}`", options.profile),
    };
    let rates: Vec<_> = options.rates.iter().map(ToString::to_string).collect();
    let facts = [
        ("kernel", format!("{}, {}", read("/proc/sys/kernel/osrelease").trim(), std::env::consts::ARCH)),
        ("processors", format!("{processors} of {}", named(&read("/proc/cpuinfo"), "model name"))),
        ("memory", named(&read("/proc/meminfo"), "MemTotal")),
        ("load before", read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(", ")),
        ("DaemonEye", format!("{}, {built}", said(&agent, "--version"))),
        ("auditd", find("auditctl", "auditd").map_or_else(|error| error.to_string(), |path| said(&path, "-v"))),
        (
            "bpftrace",
            find("bpftrace", "bpftrace").map_or_else(|error| error.to_string(), |path| said(&path, "--version")),
        ),
        ("compiler", find("cc", "gcc").map_or_else(|error| error.to_string(), |path| said(&path, "--version"))),
        (
            "load",
            format!(
                "`{PROGRAM}`, {} starts a second for {} s, {} rounds",
                rates.join(", "),
                options.seconds,
                options.rounds
            ),
        ),
    ];
    let mut list = String::new();
    for (name, fact) in facts {
        // Writing to a string does not fail.
        let _ = writeln!(list, "- {name}: {fact}");
    }
    Ok(list)
}

/// The first value of this name in one of the kernel's lists.
fn named(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_owned()
}

/// What a program says of its version.
fn said(program: &std::path::Path, argument: &str) -> String {
    let text = output(Command::new(program).arg(argument)).unwrap_or_else(|error| error.to_string());
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_read_by_name() {
        let text = "processor\t: 0\nmodel name\t: A processor\nprocessor\t: 1\nmodel name\t: Another\n";
        assert_eq!(named(text, "model name"), "A processor");
        assert_eq!(named(text, "bogomips"), "unknown");
    }
}
