//! What the run loop tells of itself: its status, its telemetry, and in the log what was dropped.

use super::{Collector, memory};
use daemoneye_lib::proto::ipc::{CollectorStatus, CollectorTelemetry, RegisterCollector};
use daemoneye_lib::telemetry::Usage;

impl Collector {
    pub(super) fn status(&self) -> CollectorStatus {
        let (source, _) = self.intake.status();
        // Back to what was described is a change too, where the agent knows only of what came between.
        let RegisterCollector { mode, mode_reason, mode_since, features, .. } = match self.registration() {
            now if now.mode_since > 0 => now,
            _ => RegisterCollector::default(),
        };
        let (settings_version, settings_refused) = self.intake.answered_settings();
        CollectorStatus {
            settings_version,
            settings_refused,
            paused: self.intake.is_paused(),
            memory_bytes: memory::resident().unwrap_or(0),
            spool_bytes: self.spool.bytes(),
            spool_items: self.spool.items(),
            spool_limit_bytes: self.spool.max_bytes(),
            scan_interval_ms: source.scan_interval_ms,
            last_error: self.spool.trouble().map(str::to_owned).or(source.last_error).unwrap_or_default(),
            telemetry: self.tells_telemetry.then(|| self.telemetry()),
            mode,
            mode_reason,
            mode_since,
            features,
        }
    }

    /// As it was described, with what has become of it since: an agent that comes later knows nothing of earlier statuses.
    pub(super) fn registration(&self) -> RegisterCollector {
        let mut registration = self.registration.clone();
        let (source, since) = self.intake.status();
        registration.mode_since = since;
        if let Some((mode, mode_reason)) = source.mode {
            (registration.mode, registration.mode_reason) = (mode, mode_reason);
        }
        if !source.features.is_empty() {
            registration.features = source.features;
        }
        registration
    }

    fn telemetry(&self) -> CollectorTelemetry {
        let (queue_items, queue_limit_items, items_emitted) = self.intake.queued();
        let usage = Usage::of_this_process();
        CollectorTelemetry {
            items_emitted,
            batches_published: self.published,
            items_dropped: self.spool.dropped(),
            queue_items,
            queue_limit_items,
            resident_bytes: usage.resident_bytes.unwrap_or(0),
            cpu_time_ns: u64::try_from(usage.cpu_time.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn tell_dropped(&mut self) {
        let dropped = self.spool.dropped();
        if dropped > self.told_dropped {
            tracing::warn!(
                items = dropped - self.told_dropped,
                bytes = self.spool.bytes(),
                limit = self.spool.max_bytes(),
                "items were dropped: the spool is full or its disk refuses them; the agent will show a gap"
            );
            self.told_dropped = dropped;
        }
    }
}
