//! Alerts for whoever watches: each on `alerts.SEVERITY`, when it is committed, new or seen again.
//!
//! Nobody need take them. The bus drops what nobody subscribed to and cuts a subscriber off that does not keep up, so that
//! publishing waits for no reader; what a watcher missed is in the store.

use daemoneye_eventbus::proto::AlertPayload;
use daemoneye_eventbus::{Client, Payload};
use daemoneye_lib::proto::common::Alert;
use prost::Message as _;

/// The largest alert that goes out as it is, well below what a frame holds; of a larger one the row is left out.
const MAX_BYTES: usize = 1 << 20;

/// Publishes alerts. It has a client of its own: nothing else of the agent's ends with it.
pub(crate) struct Feed(pub(crate) Client);

impl Feed {
    pub(crate) async fn publish(&self, alerts: &[Alert]) {
        for alert in alerts {
            let Some(message) = encoded(alert) else {
                tracing::warn!(alert = %alert.alert_id, "the alert is too large to be shown to those who watch");
                continue;
            };
            let topic = format!("alerts.{}", alert.severity().name());
            if let Err(closed) = self.0.publish(&topic, Payload::Alert(AlertPayload { message })).await {
                tracing::debug!(%closed, alert = %alert.alert_id, "the alert could not be shown to those who watch");
                return;
            }
        }
    }
}

/// The alert within its bounds.
fn encoded(alert: &Alert) -> Option<Vec<u8>> {
    if alert.encoded_len() <= MAX_BYTES {
        return Some(alert.encode_to_vec());
    }
    let mut without_row = alert.clone();
    without_row.row = "{}".to_owned();
    Some(without_row.encode_to_vec()).filter(|message| message.len() <= MAX_BYTES)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn a_large_row_is_left_out_and_nothing_larger_goes_out() {
        let small = Alert { row: r#"{"pid":7}"#.to_owned(), ..Alert::default() };
        assert_eq!(Alert::decode(encoded(&small).unwrap().as_slice()), Ok(small));
        let large = Alert { alert_id: "a".to_owned(), row: "x".repeat(2 * MAX_BYTES), ..Alert::default() };
        let shown = Alert::decode(encoded(&large).unwrap().as_slice()).unwrap();
        assert_eq!((shown.alert_id.as_str(), shown.row.as_str()), ("a", "{}"));
        assert_eq!(encoded(&Alert { dedup_key: "x".repeat(2 * MAX_BYTES), ..Alert::default() }), None);
    }
}
