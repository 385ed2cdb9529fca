//! The shipped example and the table in the manual, made from the table of keys and compared with the files.
//!
//! `DAEMONEYE_BLESS=1` writes the files anew.

use super::keys::{KEYS, Key, Kind, Preset, takes_effect_at_once};
use super::{Layer, file};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const EXAMPLE: &str = "config/daemoneye.toml";
const MANUAL: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- keys: begin -->\n";
const END: &str = "<!-- keys: end -->";

const PREAMBLE: &str = "\
# DaemonEye's configuration: every key with its default. Copy to /etc/daemoneye/config.toml or
# ~/.config/daemoneye/config.toml and take away the `#` where you want another value.
# `daemoneye-cli config check` checks it, `daemoneye-cli config show --origin` says what is in force and why.
";

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The default as TOML, and what to add in words.
fn default_of(key: &Key) -> (String, Option<String>) {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    match key.default {
        Preset::Integer(number) => (number.to_string(), None),
        Preset::Real(number) => (toml::Value::Float(number).to_string(), None),
        Preset::Text(text) => (quoted(text), None),
        Preset::Boolean(value) => (value.to_string(), None),
        Preset::Names(names) => (toml::Value::from(names.to_vec()).to_string(), None),
        Preset::Place(root, user) => (quoted(root), Some(format!("as a user: {user}"))),
        Preset::Unset => (String::new(), None),
    }
}

/// What stands in the example for a key without a default.
fn sample(key: &Key) -> &'static str {
    match key.path {
        "app.bus_keys" => "\"/var/lib/daemoneye/keys\"",
        "cli.format" => "\"table\"",
        "collectors.NAME.command" => "[\"/usr/local/bin/example\", \"--flag\"]",
        "collectors.NAME.settings" => "{ word = \"text\", number = 1 }",
        "sinks.NAME.type" => "\"file\"",
        "sinks.NAME.format" => "\"jsonl\"",
        "sinks.NAME.path" => "\"/var/log/daemoneye/alerts.jsonl\"",
        other => panic!("{other} needs a sample"),
    }
}

fn example() -> String {
    let mut out = PREAMBLE.to_owned();
    let mut section = "";
    for key in KEYS {
        let (place, leaf) = key.path.rsplit_once('.').unwrap();
        if place != section {
            section = place;
            writeln!(out, "\n[{}]", place.replace("NAME", "example")).unwrap();
            if place.starts_with("sinks") || place.starts_with("collectors") {
                out.insert_str(out.rfind('[').unwrap(), "# ");
            }
        }
        let (default, remark) = default_of(key);
        let value = if default.is_empty() { sample(key).to_owned() } else { default };
        let allowed = match key.kind {
            Kind::Path => String::new(),
            _ => format!(" ({})", key.kind.allowed()),
        };
        let remark = remark.map(|remark| format!("  # {remark}")).unwrap_or_default();
        writeln!(out, "# {}{allowed}\n# {leaf} = {value}{remark}", key.doc).unwrap();
    }
    out
}

fn table() -> String {
    let mut out = "| key | default | allowed | takes effect | what it does |\n|---|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let (default, remark) = default_of(key);
        let default = match (default.as_str(), remark) {
            ("", _) => "not set".to_owned(),
            (value, None) => format!("`{value}`"),
            (value, Some(remark)) => format!("as root: `{value}`; {remark}"),
        };
        let doc = key.doc.replace('<', "\\<");
        let default = default.replace('<', "\\<");
        // The command line reads its configuration each time.
        let at_once = takes_effect_at_once(&key.path.replace("NAME", "x")) || key.path.starts_with("cli.");
        let effect = if at_once { "on reload" } else { "on restart" };
        writeln!(out, "| `{}` | {default} | {} | {effect} | {doc} |", key.path, key.kind.allowed()).unwrap();
    }
    out
}

fn compare(path: &str, wanted: &str) {
    let path = in_repository(path);
    if std::env::var_os("DAEMONEYE_BLESS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == wanted, "{} differs from the table of keys; DAEMONEYE_BLESS=1 writes it anew", path.display());
}

#[test]
fn the_example_states_every_key_and_its_default() {
    compare(EXAMPLE, &example());
    let nothing = file::parse(&example(), EXAMPLE, Layer::ConfigFile).unwrap();
    assert!(nothing.is_empty());

    let uncomment = |line: &str| match line.strip_prefix("# ") {
        Some(bare) if bare.starts_with('[') || bare.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => {
            bare.to_owned()
        }
        _ => line.to_owned(),
    };
    let active: Vec<_> = example().lines().map(uncomment).collect();
    let set = file::parse(&active.join("\n"), EXAMPLE, Layer::ConfigFile).unwrap();
    for key in KEYS {
        let path = key.path.replace("NAME", "example");
        let value = &set.iter().find(|set| set.key == path).unwrap_or_else(|| panic!("{path} is not there")).value;
        let (default, _) = default_of(key);
        assert!(default.is_empty() || value.to_string() == default, "{path} = {value}");
    }
}

#[test]
fn the_manual_lists_every_key() {
    let manual = std::fs::read_to_string(in_repository(MANUAL)).unwrap();
    let (before, rest) = manual.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    compare(MANUAL, &format!("{before}{BEGIN}{}{END}{after}", table()));
}
