//! What rules would have raised over recorded events: matches become alerts as they do in the agent, and nothing is kept.

use super::{Generated, generate_alert};
use crate::detection::engine::Match;
use crate::detection::rules::Rule;
use crate::proto::common::Alert;
use std::collections::HashMap;

/// The most alerts that a trial holds; further ones are counted.
const MAX_ALERTS: usize = 1_000;
/// The most different matches whose newest alert a trial remembers; beyond them every match counts as an alert.
const MAX_KEYS: usize = 100_000;

/// Alerts that would have been raised.
#[derive(Debug, Default)]
pub struct Trial {
    /// In the order in which they would have been raised, the first thousand of them.
    pub alerts: Vec<Alert>,
    /// How many there would have been.
    pub raised: u64,
    /// How many matches there were.
    pub matches: u64,
    newest: HashMap<(String, String), Newest>,
}

/// The newest alert of a rule and a dedup key.
#[derive(Debug)]
enum Newest {
    /// One of those that are held.
    Held(usize),
    /// One that is only counted.
    Counted(Box<Alert>),
}

impl Trial {
    /// Takes matches that were taken before, and so raise nothing.
    pub fn add_repeated(&mut self, matches: u64) {
        self.matches += matches;
    }

    /// Takes a match; tells whether it would have raised an alert.
    pub fn add(&mut self, rule: &Rule, found: &Match, moment: i64) -> bool {
        self.matches += 1;
        let key = (rule.id.clone(), found.dedup_key.clone());
        let newest = match self.newest.get(&key) {
            Some(Newest::Held(index)) => self.alerts.get(*index).cloned(),
            Some(Newest::Counted(alert)) => Some(alert.as_ref().clone()),
            None => None,
        };
        match generate_alert(rule, found, moment, &[], newest) {
            Generated::Known => false,
            Generated::Again(alert) => {
                match self.newest.get_mut(&key) {
                    Some(Newest::Held(index)) => {
                        if let Some(held) = self.alerts.get_mut(*index) {
                            *held = alert;
                        }
                    }
                    Some(Newest::Counted(counted)) => **counted = alert,
                    None => {}
                }
                false
            }
            Generated::New(alert) => {
                self.raised += 1;
                let known = self.newest.len() < MAX_KEYS || self.newest.contains_key(&key);
                let newest = if self.alerts.len() < MAX_ALERTS {
                    self.alerts.push(alert);
                    Newest::Held(self.alerts.len() - 1)
                } else {
                    Newest::Counted(Box::new(alert))
                };
                if known {
                    self.newest.insert(key, newest);
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn found(number: usize) -> Match {
        Match {
            event_id: format!("e-{number}"),
            process_key: "k".into(),
            pid: 7,
            name: None,
            executable_path: None,
            dedup_key: format!("[{}]", number % 2_000),
            row: "{}".into(),
        }
    }

    #[test]
    fn matches_become_alerts_as_in_the_agent_and_what_is_held_is_bounded() {
        let rule = Rule { id: "r".into(), dedup_window: Duration::from_secs(1), ..Rule::default() };
        let mut trial = Trial::default();
        assert!((0..2_000).all(|number| trial.add(&rule, &found(number), 0)));
        assert!(!(2_000..4_000).any(|number| trial.add(&rule, &found(number), 1)), "all are known, held or not");
        assert!(trial.add(&rule, &found(4_000), 10_000_000_000), "the window is over");
        assert_eq!((trial.alerts.len(), trial.raised, trial.matches), (MAX_ALERTS, 2_001, 4_001));
        assert_eq!(trial.alerts[0].count, 2);
    }
}
