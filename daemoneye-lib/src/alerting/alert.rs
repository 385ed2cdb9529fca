//! One alert for all matches that mean the same.

use crate::detection::engine::Match;
use crate::detection::rules::Rule;
use crate::proto::common::Alert;

/// The most event ids that an alert lists, and so recognises when they come again: the newest.
pub const MAX_EVENT_IDS: usize = 100;
/// The most reasons for doubt that an alert collects.
const MAX_REASONS: usize = 20;

/// What a match became.
#[derive(Clone, Debug, PartialEq)]
pub enum Generated {
    /// An alert that was not there.
    New(Alert),
    /// An alert that was there, with one more occurrence.
    Again(Alert),
    /// The alert has this event already: rows are evaluated again after a crash.
    Known,
}

/// Makes an alert of a match, or counts it to the newest alert of the same rule and dedup key while its window lasts.
///
/// `event_time` is that of the matched event, in nanoseconds since 1970-01-01 UTC; `degraded_reasons` say what could not be
/// seen around it.
pub fn generate_alert(
    rule: &Rule,
    found: &Match,
    event_time: i64,
    degraded_reasons: &[String],
    newest: Option<Alert>,
) -> Generated {
    match newest {
        Some(newest) if newest.event_ids.contains(&found.event_id) => Generated::Known,
        Some(mut alert) if within_window(rule, &alert, event_time) => {
            alert.count += 1;
            alert.first_seen = alert.first_seen.min(event_time);
            alert.last_seen = alert.last_seen.max(event_time);
            if alert.event_ids.len() >= MAX_EVENT_IDS {
                alert.event_ids.remove(0);
            }
            alert.event_ids.push(found.event_id.clone());
            for reason in degraded_reasons {
                if alert.degraded_reasons.len() < MAX_REASONS && !alert.degraded_reasons.contains(reason) {
                    alert.degraded_reasons.push(reason.clone());
                }
            }
            Generated::Again(alert)
        }
        _ => Generated::New(Alert {
            alert_id: alert_id(rule, found),
            rule_id: rule.id.clone(),
            title: rule.title.clone(),
            severity: rule.severity.into(),
            status: "open".to_owned(),
            first_seen: event_time,
            last_seen: event_time,
            count: 1,
            dedup_key: found.dedup_key.clone(),
            tags: rule.tags.clone(),
            author: rule.author.clone(),
            process_key: found.process_key.clone(),
            pid: found.pid,
            name: found.name.clone(),
            executable_path: found.executable_path.clone(),
            row: found.row.clone(),
            event_ids: vec![found.event_id.clone()],
            degraded_reasons: degraded_reasons.to_vec(),
            false_positives: rule.false_positives.clone(),
            references: rule.references.clone(),
            license: rule.license.clone(),
        }),
    }
}

fn within_window(rule: &Rule, alert: &Alert, event_time: i64) -> bool {
    let window = i64::try_from(rule.dedup_window.as_nanos()).unwrap_or(i64::MAX);
    event_time.saturating_sub(alert.last_seen) <= window
}

/// The same match gives the same id, however often it is evaluated.
fn alert_id(rule: &Rule, found: &Match) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("daemoneye 2026 alert-id v1");
    for part in [&rule.id, &found.dedup_key, &found.event_id] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().as_str().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::common::Severity;
    use std::time::Duration;

    fn rule() -> Rule {
        Rule {
            id: "r".into(),
            title: "R".into(),
            severity: Severity::High,
            tags: vec!["t".into()],
            author: "A".into(),
            references: vec!["https://example.org".into()],
            license: "L".into(),
            dedup: vec!["pid".into()],
            dedup_window: Duration::from_nanos(10),
            file: "r.toml".into(),
            ..Rule::default()
        }
    }

    fn found(event: &str) -> Match {
        Match {
            event_id: event.into(),
            process_key: "k".into(),
            pid: 7,
            name: None,
            executable_path: None,
            dedup_key: "[7]".into(),
            row: "{}".into(),
        }
    }

    fn new(generated: Generated) -> Alert {
        match generated {
            Generated::New(alert) => alert,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn matches_within_the_window_are_one_alert() {
        let first = new(generate_alert(&rule(), &found("e-1"), 100, &[], None));
        assert_eq!((first.count, first.pid, first.author.as_str(), first.license.as_str()), (1, 7, "A", "L"));
        assert_eq!(first.references, ["https://example.org"]);
        let Generated::Again(second) =
            generate_alert(&rule(), &found("e-2"), 110, &["polling".into()], Some(first.clone()))
        else {
            panic!("a second alert");
        };
        assert_eq!((second.alert_id.as_str(), second.count, second.last_seen), (first.alert_id.as_str(), 2, 110));
        assert_eq!(second.degraded_reasons, ["polling"]);
        let third = new(generate_alert(&rule(), &found("e-3"), 121, &[], Some(second)));
        assert_ne!(third.alert_id, first.alert_id);
    }

    #[test]
    fn the_same_event_counts_once() {
        let first = new(generate_alert(&rule(), &found("e-1"), 100, &[], None));
        assert_eq!(generate_alert(&rule(), &found("e-1"), 100, &[], Some(first)), Generated::Known);
    }

    #[test]
    fn the_list_of_events_is_bounded() {
        let mut alert = new(generate_alert(&rule(), &found("e-0"), 0, &[], None));
        for event in 1..=300 {
            let Generated::Again(next) = generate_alert(&rule(), &found(&format!("e-{event}")), 0, &[], Some(alert))
            else {
                panic!("a second alert");
            };
            alert = next;
        }
        assert_eq!((alert.count, alert.event_ids.len()), (301, MAX_EVENT_IDS));
        assert_eq!(alert.event_ids.last().map(String::as_str), Some("e-300"));
    }
}
