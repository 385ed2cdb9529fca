//! Whether a collector that registers is let in: what it says of itself, judged before anything of it is stored.
//!
//! Refused is what this agent could not keep its word about: domains and tables that it does not store, columns of
//! another kind than ours, recorded events outside of tests, and texts without end.

use daemoneye_lib::models::columns;
use daemoneye_lib::proto::ipc::{RegisterCollector, TableSchema};
use std::collections::BTreeSet;

/// The domain whose events are stored.
const DOMAIN: &str = "process";
/// The table that collectors fill.
const TABLE: &str = "processes";
/// The mode of collectors that tell what was recorded earlier.
const REPLAY: &str = "replay";
const MAX_TEXT: usize = 4_096;
const MAX_TEXTS: usize = 64;

/// Why the registration is refused, after "the collector `NAME` ".
pub(crate) fn judge(register: &RegisterCollector, test_mode: bool) -> Result<(), String> {
    if register.mode == REPLAY && !test_mode {
        return Err("replays recorded events: only an agent with DAEMONEYE_AGENT_TEST_MODE=1 accepts that".to_owned());
    }
    let texts = [&register.mode, &register.mode_reason, &register.version].into_iter().chain(&register.limitations);
    if register.limitations.len() > MAX_TEXTS || texts.into_iter().any(|text| text.len() > MAX_TEXT) {
        return Err(format!("says too much of itself: {MAX_TEXTS} texts of {MAX_TEXT} bytes are the limit"));
    }
    if register.epoch.len() != 16 || register.run.len() != 16 {
        return Err("has an epoch or a run that is not 16 bytes".to_owned());
    }
    let capabilities = register.capabilities.clone().unwrap_or_default();
    match capabilities.domains.iter().find(|domain| *domain != DOMAIN) {
        Some(other) => return Err(format!("registers the domain {other:?}: this agent stores {DOMAIN:?} events only")),
        None if capabilities.domains.is_empty() => return Err(format!("registers no domain; {DOMAIN:?} is stored")),
        None => {}
    }
    capabilities.tables.iter().try_for_each(table)
}

fn table(schema: &TableSchema) -> Result<(), String> {
    if schema.table != TABLE {
        return Err(format!("registers the table {:?}: this agent stores {TABLE:?} only", cut(&schema.table)));
    }
    let mut names = BTreeSet::new();
    for column in &schema.columns {
        let name = cut(&column.name);
        let Some(ours) = columns::PROCESS.iter().find(|ours| ours.name == column.name) else {
            return Err(format!("registers the column {name:?}, which {TABLE:?} does not have"));
        };
        if column.kind != i32::from(ours.kind) {
            return Err(format!("registers the column {name:?} as {:?}; it is {:?}", column.kind(), ours.kind));
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
        let tables = vec![TableSchema { table: TABLE.into(), columns: columns.iter().map(column).collect() }];
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
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let good = register(&["process"], &[]);
        let cases = [
            (RegisterCollector { mode: "replay".into(), ..good.clone() }, "DAEMONEYE_AGENT_TEST_MODE=1"),
            (RegisterCollector { epoch: vec![1; 8], ..good.clone() }, "16 bytes"),
            (RegisterCollector { limitations: vec!["x".repeat(MAX_TEXT + 1)], ..good.clone() }, "too much"),
            (RegisterCollector { limitations: vec![String::new(); MAX_TEXTS + 1], ..good }, "too much"),
            (register(&["process", "network"], &[]), "\"network\""),
            (register(&[], &[]), "no domain"),
            (register(&["process"], &[("pids", ColumnKind::Integer)]), "\"pids\""),
            (register(&["process"], &[("pid", ColumnKind::Text)]), "it is Integer"),
            (register(&["process"], &[("pid", ColumnKind::Integer), ("pid", ColumnKind::Integer)]), "twice"),
        ];
        for (registration, words) in cases {
            let why = judge(&registration, false).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
        let mut foreign = register(&["process"], &[]);
        if let Some(capabilities) = &mut foreign.capabilities {
            capabilities.tables[0].table = "network.flows".into();
        }
        assert!(judge(&foreign, false).unwrap_err().contains("network.flows"));
    }
}
