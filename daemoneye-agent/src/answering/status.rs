//! The live status line of a terminal.

use crate::answering::health::Health;
use crate::pipeline::Progress;
use daemoneye_lib::cli::logging;
use daemoneye_lib::models::text::CLEAR_LINE;
use daemoneye_lib::proto::ipc::HealthStatus;
use std::io::{self, Write as _};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const EVERY: Duration = Duration::from_secs(1);

/// Rewrites one line of stderr each second, for as long as it is polled.
pub(crate) async fn show(health: Health, progress: Progress) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before = progress.now().events;
    logging::status_line(true);
    loop {
        tick.tick().await;
        let state = progress.now();
        let line = line(health.report().status(), state.last_scan_processes, state.events - before, state.alerts);
        before = state.events;
        // A terminal that is gone ends us by its own signal.
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{CLEAR_LINE}{line}");
        let _ = stderr.flush();
    }
}

/// Takes the line away.
pub(crate) fn end() {
    logging::status_line(false);
    let _ = write!(io::stderr().lock(), "{CLEAR_LINE}");
}

fn line(status: HealthStatus, processes: Option<u32>, events: u64, alerts: u64) -> String {
    let status = match status {
        HealthStatus::Starting => "starting",
        HealthStatus::Ok => "ok",
        HealthStatus::Degraded => "degraded (see daemoneye-cli health)",
        HealthStatus::Failed => "FAILED (see daemoneye-cli health)",
    };
    let processes = processes.map_or_else(|| "no scan yet".to_owned(), |processes| format!("{processes} processes"));
    format!("daemoneye: {status} · {processes} · {events} events/s · {alerts} alerts")
}
