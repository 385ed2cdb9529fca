//! Whether a collector that registers is let in: what it says of itself, judged before anything of it is stored.
//!
//! Refused is what this agent could not keep its word about: domains and tables that it does not have, columns of
//! another kind than ours, recorded events outside of tests, and texts without end.

use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::domain::{Domain, Domains};
use daemoneye_lib::proto::ipc::{Feature, RegisterCollector, TableSchema};
use std::collections::BTreeSet;

/// The mode of collectors that tell what was recorded earlier.
const REPLAY: &str = "replay";
const MAX_TEXT: usize = 4_096;
const MAX_TEXTS: usize = 64;
/// Each that is missing may be an open gap, of which a collector has no more than a few.
const MAX_FEATURES: usize = 24;
const MAX_FEATURE_NAME: usize = 32;

/// Why the registration is refused, after "the collector `NAME` ".
pub(crate) fn judge(register: &RegisterCollector, test_mode: bool) -> Result<(), String> {
    let texts = [&register.version].into_iter().chain(&register.limitations).chain(&register.source_caps);
    let capabilities = register.capabilities.clone().unwrap_or_default();
    let lists =
        [register.limitations.len(), register.source_caps.len(), capabilities.domains.len(), capabilities.tasks.len()];
    if lists.into_iter().any(|length| length > MAX_TEXTS) || texts.into_iter().any(|text| text.len() > MAX_TEXT) {
        return Err(too_much());
    }
    if register.epoch.len() != 16 || register.run.len() != 16 {
        return Err("has an epoch or a run that is not 16 bytes".to_owned());
    }
    let all = Domain::ALL.map(Domain::name).join(", ");
    match capabilities.domains.iter().find(|domain| Domain::find(domain).is_none()) {
        Some(other) => return Err(format!("registers the domain {:?}: there is {all}", cut(other))),
        None if capabilities.domains.is_empty() => return Err(format!("registers no domain: there is {all}")),
        None => {}
    }
    let domains = Domains::named(&capabilities.domains);
    way(&register.mode, &register.mode_reason, &register.features, domains, test_mode)?;
    capabilities.tables.iter().try_for_each(|schema| table(schema, domains))
}

/// The same for the way in which a collector of these domains observes, which a status can change.
pub(crate) fn way(
    mode: &str,
    mode_reason: &str,
    features: &[Feature],
    domains: Domains,
    test_mode: bool,
) -> Result<(), String> {
    if mode == REPLAY && !test_mode {
        return Err("replays recorded events: only an agent with DAEMONEYE_AGENT_TEST_MODE=1 accepts that".to_owned());
    }
    let reasons = features.iter().map(|feature| feature.reason.as_str());
    if [mode, mode_reason].into_iter().chain(reasons).any(|text| text.len() > MAX_TEXT) {
        return Err(too_much());
    }
    if features.len() > MAX_FEATURES {
        return Err(format!("has {} features: {MAX_FEATURES} are the limit", features.len()));
    }
    let mut names = BTreeSet::new();
    features.iter().try_for_each(|feature| {
        let name = cut(&feature.name);
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if feature.name.is_empty() || feature.name.len() > MAX_FEATURE_NAME || !feature.name.bytes().all(is_plain) {
            return Err(format!("has the feature {name:?}: a name is up to {MAX_FEATURE_NAME} of a-z, 0-9, _ and -"));
        }
        if !names.insert(&feature.name) {
            return Err(format!("has the feature {name:?} twice"));
        }
        if !feature.available && feature.reason.is_empty() {
            return Err(format!("does not say why its feature {name:?} is not available"));
        }
        feature.tables.iter().try_for_each(|own| fills(own, domains).map(drop))
    })
}

fn too_much() -> String {
    format!("says too much of itself: {MAX_TEXTS} texts of {MAX_TEXT} bytes are the limit")
}

/// The table of this name, which a collector of these domains can fill.
fn fills(name: &str, domains: Domains) -> Result<Table, String> {
    let own = cut(name);
    let Some((table, domain)) = Table::find(name).and_then(|table| Some((table, table.domain()?))) else {
        return Err(format!("registers the table {own:?}, which collectors cannot fill"));
    };
    match domains.contains(domain) {
        true => Ok(table),
        false => Err(format!("registers the table {own:?} without its domain {:?}", domain.name())),
    }
}

fn table(schema: &TableSchema, domains: Domains) -> Result<(), String> {
    let own = cut(&schema.table);
    let table = fills(&schema.table, domains)?;
    let columns = table.columns();
    let mut names = BTreeSet::new();
    for column in &schema.columns {
        let name = cut(&column.name);
        let Some((_, kind)) = columns.iter().find(|(ours, _)| *ours == column.name) else {
            return Err(format!("registers the column {name:?}, which {own:?} does not have"));
        };
        if column.kind != i32::from(*kind) {
            return Err(format!("registers the column {name:?} as {:?}; it is {kind:?}", column.kind()));
        }
        if !names.insert(&column.name) {
            return Err(format!("registers the column {name:?} twice"));
        }
    }
    Ok(())
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use daemoneye_lib::proto::ipc::{CollectionCapabilities, ColumnKind, ColumnSchema};

    fn register(domains: &[&str], columns: &[(&str, ColumnKind)]) -> RegisterCollector {
        let column = |(name, kind): &(&str, ColumnKind)| ColumnSchema { name: (*name).into(), kind: (*kind).into() };
        let tables = vec![TableSchema { table: "processes".into(), columns: columns.iter().map(column).collect() }];
        RegisterCollector {
            epoch: vec![1; 16],
            run: vec![2; 16],
            capabilities: Some(CollectionCapabilities {
                domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
                tables,
                ..CollectionCapabilities::default()
            }),
            ..RegisterCollector::default()
        }
    }

    #[test]
    fn what_is_stored_is_let_in() {
        let good = register(&["process"], &[("pid", ColumnKind::Integer), ("start_time", ColumnKind::Time)]);
        assert_eq!(judge(&good, false), Ok(()));
        assert_eq!(judge(&RegisterCollector { mode: "replay".into(), ..good }, true), Ok(()));
        let mut other = register(&["network", "trigger"], &[("remote_port", ColumnKind::Integer)]);
        if let Some(capabilities) = &mut other.capabilities {
            capabilities.tables[0].table = "network.connections".into();
        }
        assert_eq!(judge(&other, false), Ok(()));
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let good = register(&["process"], &[]);
        let cases = [
            (RegisterCollector { mode: "replay".into(), ..good.clone() }, "DAEMONEYE_AGENT_TEST_MODE=1"),
            (RegisterCollector { epoch: vec![1; 8], ..good.clone() }, "16 bytes"),
            (RegisterCollector { limitations: vec!["x".repeat(MAX_TEXT + 1)], ..good.clone() }, "too much"),
            (RegisterCollector { limitations: vec![String::new(); MAX_TEXTS + 1], ..good }, "too much"),
            (register(&["process", "weather"], &[]), "\"weather\""),
            (register(&["network"], &[]), "without its domain \"process\""),
            (register(&[], &[]), "no domain"),
            (register(&["process"], &[("pids", ColumnKind::Integer)]), "\"pids\""),
            (register(&["process"], &[("pid", ColumnKind::Text)]), "it is Integer"),
            (register(&["process"], &[("pid", ColumnKind::Integer), ("pid", ColumnKind::Integer)]), "twice"),
        ];
        for (registration, words) in cases {
            let why = judge(&registration, false).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
        let feature = |name: &str, reason: &str, table: &str| Feature {
            name: name.to_owned(),
            reason: reason.to_owned(),
            tables: vec![table.to_owned()],
            ..Feature::default()
        };
        let with = |features| RegisterCollector { features, ..register(&["process"], &[]) };
        let exec = feature("exec", "why", "processes.events");
        assert_eq!(judge(&with(vec![exec.clone()]), false), Ok(()));
        let cases = [
            (vec![feature("Exec me", "why", "processes")], "\"Exec me\""),
            (vec![feature("", "why", "processes")], "a name is"),
            (vec![exec.clone(), exec.clone()], "twice"),
            (vec![feature("exec", "", "processes")], "does not say why"),
            (vec![feature("exec", &"x".repeat(MAX_TEXT + 1), "processes")], "too much"),
            (vec![feature("ptrace", "why", "security.events")], "without its domain \"security\""),
            (vec![feature("alerts", "why", "alerts")], "cannot fill"),
            (vec![exec; MAX_FEATURES + 1], "limit"),
        ];
        for (features, words) in cases {
            let why = judge(&with(features), false).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
        let mut foreign = register(&["process"], &[]);
        if let Some(capabilities) = &mut foreign.capabilities {
            capabilities.tables[0].table = "system.scans".into();
        }
        assert!(judge(&foreign, false).unwrap_err().contains("cannot fill"));
    }
}
