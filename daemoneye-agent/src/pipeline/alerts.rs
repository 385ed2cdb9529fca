//! From what rules found to alerts, and to the sinks that they are due to.

use super::{Pipeline, PipelineError};
use daemoneye_lib::alerting::{Generated, generate_alert};
use daemoneye_lib::detection::engine::Match;
use daemoneye_lib::detection::rules::Rule;
use daemoneye_lib::models::rows::DeliveryRow;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::common::Alert;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Between two attempts.
pub(crate) const DELIVERY_RETRY: Duration = Duration::from_secs(5);
/// Deliveries that are tried again at once.
const DELIVERY_BATCH: usize = 256;

/// A match on its way to an alert.
pub(super) struct Suspicion {
    pub(super) rule: Arc<Rule>,
    pub(super) found: Match,
    pub(super) moment: i64,
    /// Why something may be missing around it.
    pub(super) doubts: Vec<String>,
}

impl Pipeline {
    /// Makes alerts of matches, or counts them to alerts that are there.
    pub(super) async fn raise(&mut self, suspicions: Vec<Suspicion>) -> Result<(), PipelineError> {
        if suspicions.is_empty() {
            return Ok(());
        }
        let mut alerts: Vec<(Alert, bool)> = Vec::new();
        for Suspicion { rule, found, moment, doubts } in &suspicions {
            let pending =
                alerts.iter().rposition(|(alert, _)| alert.rule_id == rule.id && alert.dedup_key == found.dedup_key);
            let earlier = match pending {
                Some(index) => Some(alerts[index].0.clone()),
                None => self.storage.insist(|store| store.latest_alert(&rule.id, &found.dedup_key)).await?,
            };
            match (generate_alert(rule, found, *moment, doubts, earlier), pending) {
                (Generated::Known, _) => {}
                (Generated::Again(alert), Some(index)) => alerts[index].0 = alert,
                (Generated::Again(alert), None) => alerts.push((alert, false)),
                (Generated::New(alert), _) => alerts.push((alert, true)),
            }
            tracing::debug!(event = %found.event_id, rule = %rule.id, "matched");
        }
        let evaluated = self.evaluated;
        self.dispatch(alerts, evaluated).await
    }

    /// Commits alerts with their due deliveries, then hands the new ones to the sinks.
    async fn dispatch(&mut self, alerts: Vec<(Alert, bool)>, next_row: u64) -> Result<(), PipelineError> {
        let fresh = alerts.iter().filter(|(_, is_new)| *is_new);
        let due: Vec<(DeliveryRow, Alert)> = fresh
            .clone()
            .flat_map(|(alert, _)| self.sinks.due(alert).into_iter().map(|row| (row, alert.clone())))
            .collect();
        let rows: Vec<DeliveryRow> = due.iter().map(|(row, _)| row.clone()).collect();
        let new = fresh.count() as u64;
        self.metrics.alerted(&alerts);
        for (alert, is_new) in &alerts {
            let event = alert.event_ids.last().map(String::as_str).unwrap_or_default();
            tracing::debug!(event, alert = %alert.alert_id, rule = %alert.rule_id, is_new, "alert");
        }
        let alerts: Vec<Alert> = alerts.into_iter().map(|(alert, _)| alert).collect();
        self.storage.insist(|store| store.commit_alerts(&alerts, &rows, next_row)).await?;
        self.storage.progress.note(|state| state.alerts += new);
        self.feed.publish(&alerts).await;
        for (row, alert) in due {
            self.deliver(row, alert);
        }
        Ok(())
    }

    fn deliver(&mut self, row: DeliveryRow, alert: Alert) {
        let key = (row.alert_id.clone(), row.sink.clone());
        if self.under_way.contains_key(&key) {
            return;
        }
        tracing::debug!(alert = %key.0, sink = %key.1, "delivering");
        if self.sinks.deliver_alert(row, Arc::new(alert)) {
            self.under_way.insert(key, Instant::now());
        }
    }

    /// Records what became of deliveries, and tries again what is still due.
    pub(super) async fn settle_deliveries(&mut self) -> Result<(), PipelineError> {
        let outcomes: Vec<DeliveryRow> =
            self.outcomes.get_mut().unwrap_or_else(PoisonError::into_inner).try_iter().collect();
        if !outcomes.is_empty() {
            self.storage.insist(|store| store.record_deliveries(&outcomes)).await?;
        }
        for row in outcomes {
            let began = self.under_way.remove(&(row.alert_id.clone(), row.sink.clone()));
            self.metrics.delivered(&row, began.map(|began| began.elapsed()));
            tracing::debug!(alert = %row.alert_id, sink = %row.sink, status = %row.status, "delivery");
            self.storage.progress.note(|state| match row.error {
                Some(why) => {
                    tracing::warn!(sink = %row.sink, %why, attempts = row.attempts, "an alert could not be delivered");
                    state.sink_troubles.insert(row.sink, why);
                }
                None => {
                    state.sink_troubles.remove(&row.sink);
                }
            });
        }
        Ok(())
    }

    pub(super) async fn retry_deliveries(&mut self) -> Result<(), PipelineError> {
        let due = self.storage.insist(|store| store.due_deliveries(DELIVERY_BATCH)).await?;
        let mut homeless = Vec::new();
        for (mut row, alert) in due {
            if self.sinks.has(&row.sink) {
                self.deliver(row, alert);
            } else if !self.under_way.contains_key(&(row.alert_id.clone(), row.sink.clone())) {
                // Counted like any attempt, so that it does not stand before those that can be delivered for ever.
                row.status = "failed".to_owned();
                row.error = Some("the sink is not configured any more".to_owned());
                row.attempts += 1;
                row.time = time::now_ns();
                homeless.push(row);
            }
        }
        if !homeless.is_empty() {
            tracing::warn!(deliveries = homeless.len(), sink = %homeless[0].sink, "alerts are due to a sink that is gone");
            self.storage.insist(|store| store.record_deliveries(&homeless)).await?;
        }
        Ok(())
    }
}
