//! `cargo xtask boundaries`: what each crate may depend on, as cargo resolves it.
//!
//! Every question is asked for a package of its own, because a build of the whole workspace unifies features.

use crate::programs::cargo;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use testkit::Failure;

/// What must not be linked into a package, and why.
struct Boundary {
    package: &'static str,
    forbidden: &'static [&'static str],
    reason: &'static str,
}

/// Clients and servers of HTTP, and TLS.
const NETWORK: [&str; 9] =
    ["hyper", "h2", "reqwest", "ureq", "rustls", "tokio-rustls", "native-tls", "openssl", "openssl-sys"];

const BOUNDARIES: &[Boundary] = &[
    Boundary {
        package: "procmond",
        forbidden: &["datafusion", "sqlparser", "arrow", "redb", "daemoneye-agent", "daemoneye-cli", "testkit"],
        reason: "the privileged process knows neither SQL nor the store",
    },
    Boundary { package: "procmond", forbidden: &NETWORK, reason: "the privileged process knows no network" },
    Boundary {
        package: "daemoneye-cli",
        forbidden: &["redb", "collector-core", "procmond", "daemoneye-agent", "testkit"],
        reason: "the operator's program asks the agent and opens no store",
    },
    Boundary { package: "daemoneye-cli", forbidden: &NETWORK, reason: "the operator's program knows no network" },
    Boundary {
        package: "daemoneye-agent",
        forbidden: &["collector-core", "procmond", "daemoneye-cli", "testkit"],
        reason: "the agent and the collectors share the bus alone",
    },
    Boundary { package: "daemoneye-agent", forbidden: &NETWORK, reason: "the agent knows no network but its sinks" },
    Boundary {
        package: "daemoneye-eventbus",
        forbidden: &["daemoneye-lib", "collector-core", "testkit"],
        reason: "the bus knows no process and no alert",
    },
    Boundary {
        package: "daemoneye-conformance",
        forbidden: &["daemoneye-lib", "daemoneye-eventbus", "collector-core", "testkit"],
        reason: "the suite judges by the protocol alone, not by our own code",
    },
    Boundary {
        package: "daemoneye-lib",
        forbidden: &["daemoneye-eventbus", "interprocess", "testkit"],
        reason: "the library knows no bus",
    },
];

/// Crates whose values cross our own interfaces, or that are too heavy to be compiled twice.
const ONE_VERSION: [&str; 10] = [
    "arrow",
    "arrow-array",
    "arrow-schema",
    "datafusion",
    "datafusion-common",
    "prost",
    "redb",
    "rustix",
    "sqlparser",
    "tokio",
];

pub(crate) fn run(out: &mut impl Write) -> Result<(), Failure> {
    for boundary in BOUNDARIES {
        let said = respected(boundary)?;
        say(out, &said)?;
    }
    one_version_each()?;
    say(out, &format!("one version each of {}", ONE_VERSION.join(", ")))?;
    compiled_once()?;
    say(out, "the tests use the dependencies as the programs do: they are compiled once for both")?;
    cargo_output(&["check", "--quiet", "--package", "procmond"])?;
    say(out, "procmond compiles on its own, with the features that it asks for itself")
}

fn say(out: &mut impl Write, what: &str) -> Result<(), Failure> {
    writeln!(out, "ok: {what}").map_err(|error| Failure::new(format!("cannot write: {error}")))
}

fn respected(Boundary { package, forbidden, reason }: &Boundary) -> Result<String, Failure> {
    let tree = cargo_tree(&["--package", package, "--edges", "normal"])?;
    let linked = packages(&tree);
    match forbidden.iter().find(|name| linked.contains_key(**name)) {
        None => Ok(format!("{package}: {reason} ({} packages)", linked.len())),
        Some(found) => Err(Failure::new(format!(
            "`{package}` depends on `{found}`, but {reason}\nhint: cargo tree -p {package} -e normal -i {found}"
        ))),
    }
}

fn one_version_each() -> Result<(), Failure> {
    let tree = cargo_tree(&["--workspace", "--edges", "normal,build"])?;
    let all = packages(&tree);
    for name in ONE_VERSION {
        match all.get(name) {
            Some(versions) if versions.len() == 1 => {}
            Some(versions) => return Err(Failure::new(format!("`{name}` is there in several versions: {versions:?}"))),
            None => return Err(Failure::new(format!("`{name}` is gone: take it out of the list of single versions"))),
        }
    }
    Ok(())
}

/// A feature that only the tests ask for would have the dependency, and all that depends on it, compiled twice.
fn compiled_once() -> Result<(), Failure> {
    let programs = cargo_tree(&["--workspace", "--edges", "normal,build"])?;
    let tests = cargo_tree(&["--workspace", "--edges", "normal,build,dev"])?;
    match missing_from(&programs, &tests) {
        None => Ok(()),
        Some(unit) => Err(Failure::new(format!(
            "the tests compile `{unit}` again, with more features\n\
             hint: ask for these features in [workspace.dependencies], or for fewer in [dev-dependencies]"
        ))),
    }
}

fn cargo_tree(arguments: &[&str]) -> Result<String, Failure> {
    cargo_output(&[&["tree", "--prefix", "none", "--format", "{p} [{f}]"], arguments].concat())
}

fn cargo_output(arguments: &[&str]) -> Result<String, Failure> {
    let mut command = cargo();
    command.args(arguments).arg("--locked");
    let output = command.output().map_err(|error| Failure::new(format!("cannot run {command:?}: {error}")))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!("{command:?} ended with {}:\n{stderr}", output.status)))
    }
}

/// The first package of one tree that is not in the other with the same features.
fn missing_from<'a>(tree: &'a str, other: &str) -> Option<&'a str> {
    // Cargo marks with (*) what it has shown before.
    let unit = |line: &'a str| line.trim_end_matches(" (*)");
    let known: BTreeSet<_> = other.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    tree.lines().map(unit).find(|unit| !known.contains(unit))
}

/// The versions of each package in cargo's tree, one `name vX.Y.Z …` a line.
fn packages(tree: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut packages = BTreeMap::<_, BTreeSet<_>>::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            packages.entry(name).or_default().insert(version);
        }
    }
    packages
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn packages_are_counted_by_version() {
        let tree =
            "procmond v0.1.0 (/w/procmond) []\nrustix v1.1.6 [fs]\nrustix v1.1.6 [fs] (*)\n\nrustix v0.38.1 []\n";
        let packages = packages(tree);
        assert_eq!(packages["rustix"].len(), 2);
        assert_eq!(packages["procmond"].len(), 1);
        assert_eq!(packages.len(), 2);
    }

    #[test]
    fn a_package_with_other_features_is_another_one() {
        let programs = "a v1.0.0 [std]\nb v1.0.0 []\nb v1.0.0 [] (*)\n";
        assert_eq!(missing_from(programs, "a v1.0.0 [std] (*)\nb v1.0.0 []\nc v1.0.0 []\n"), None);
        assert_eq!(missing_from(programs, "a v1.0.0 [rng,std]\nb v1.0.0 []\n"), Some("a v1.0.0 [std]"));
    }

    #[test]
    fn a_forbidden_dependency_is_named_with_the_command_that_finds_it() {
        let boundary = Boundary { package: "testkit", forbidden: &["redb", "rustix"], reason: "it is a test" };
        let failure = respected(&boundary).unwrap_err().to_string();
        assert!(failure.contains("`testkit` depends on `rustix`"), "{failure}");
        assert!(failure.contains("cargo tree -p testkit -e normal -i rustix"), "{failure}");
        assert!(respected(&Boundary { forbidden: &["redb"], ..boundary }).is_ok());
    }
}
