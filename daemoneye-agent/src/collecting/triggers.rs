//! Tasks that collectors ask of other collectors, carried out by the way of the operators' tasks.
//!
//! ```text
//! pipeline (committed) ──a queue of 64──► judged ──► at most 4 under way ──► the target
//!                                            └─ refused                └────► the outcome, in system.triggers
//! ```
//!
//! A trigger is committed before it comes here, once however often it is told; what was due when the agent ended is carried
//! out at the next start. Refused are a target that is not there or does no such tasks, more than ten a minute of one
//! collector, and circles: who was asked by a collector within the last minute, even by way of others, may not ask it.

use crate::collecting::collectors::Collectors;
use crate::collecting::tasks::{call_failed, check};
use daemoneye_eventbus::Client;
use daemoneye_eventbus::topic::base;
use daemoneye_lib::models::rows::TriggerRow;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::DetectionResult;
use daemoneye_lib::storage::Store;
use prost::Message as _;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::timeout;

/// Triggers between pipeline and here; a further one is refused.
pub(crate) const QUEUE: usize = 64;
/// Tasks under way.
const AT_ONCE: usize = 4;
/// Triggers of one collector that are carried out within a minute.
const A_MINUTE: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// The longest that a task may take.
const LONGEST: Duration = Duration::from_secs(300);
/// A collector that says nothing for so long does not do the task any more.
const SILENCE: Duration = Duration::from_secs(30);
/// Processes of an answer that are kept.
const MAX_PROCESSES: usize = 20;
/// The longest text of an answer that is kept.
const MAX_TEXT: usize = 4_096;

/// Carries out triggers until the pipeline ends.
pub(crate) struct Triggers {
    pub(crate) due: Receiver<TriggerRow>,
    pub(crate) store: Arc<Store>,
    pub(crate) bus: Client,
    pub(crate) collectors: Collectors,
}

impl Triggers {
    pub(crate) async fn run(mut self) -> String {
        let mut recent = Recent::default();
        let mut under_way: JoinSet<TriggerRow> = JoinSet::new();
        let left = block_in_place(|| self.store.snapshot().and_then(|snapshot| snapshot.due_triggers()));
        let left = left.unwrap_or_else(|error| {
            tracing::error!(%error, "triggers of before the start cannot be read: they stay due");
            Vec::new()
        });
        let mut waiting: VecDeque<TriggerRow> = left.into();
        loop {
            while under_way.len() < AT_ONCE
                && let Some(row) = waiting.pop_front()
            {
                match recent.judge(&row, Instant::now()).and_then(|()| self.check(&row)) {
                    Ok(()) => {
                        tracing::info!(collector = %row.collector, target = %row.request.target, id = %row.request.trigger_id, "a trigger");
                        under_way.spawn(carry_out(row, self.bus.clone()));
                    }
                    Err(why) => self.settle(settled(row, "refused", Some(why), None)),
                }
            }
            tokio::select! {
                Some(done) = under_way.join_next() => match done {
                    Ok(row) => self.settle(row),
                    Err(panic) => return format!("a trigger: {panic}"),
                },
                // What waits in the queue waits there.
                row = self.due.recv(), if waiting.is_empty() => match row {
                    Some(row) => waiting.push_back(row),
                    // Whoever ends the pipeline ends this.
                    None => std::future::pending().await,
                },
            }
        }
    }

    /// Whether the target takes the task now.
    fn check(&self, row: &TriggerRow) -> Result<(), String> {
        let task = row.request.task.as_ref().ok_or("it has no task")?;
        check(&row.request.target, task, &self.collectors).map(drop).map_err(|error| error.message)
    }

    fn settle(&self, row: TriggerRow) {
        if let Some(why) = &row.error {
            tracing::warn!(collector = %row.collector, target = %row.request.target, id = %row.request.trigger_id, status = %row.status, %why, "a trigger was not carried out");
        }
        if let Err(error) = block_in_place(|| self.store.settle_trigger(&row)) {
            tracing::error!(%error, id = %row.request.trigger_id, "the outcome of a trigger cannot be stored: it is carried out again at the next start");
        }
    }
}

/// The row with what became of it.
pub(crate) fn settled(row: TriggerRow, status: &str, error: Option<String>, result: Option<String>) -> TriggerRow {
    TriggerRow { status: status.to_owned(), finished_at: Some(time::now_ns()), error, result, ..row }
}

/// What was asked within the last minute, by whom, of whom.
#[derive(Default)]
struct Recent(VecDeque<(Instant, String, String)>);

impl Recent {
    /// Whether a trigger may be carried out; if so, it counts.
    fn judge(&mut self, row: &TriggerRow, now: Instant) -> Result<(), String> {
        while self.0.front().is_some_and(|(at, ..)| now.duration_since(*at) > MINUTE) {
            self.0.pop_front();
        }
        let (from, to) = (base(&row.collector), base(&row.request.target));
        if from == to {
            return Err("a collector does not ask itself".to_owned());
        }
        if self.0.iter().filter(|(_, own, _)| own == from).count() >= A_MINUTE {
            return Err(format!("`{from}` has asked {A_MINUTE} times within a minute"));
        }
        // Whoever asked this collector, or asked who did.
        let mut above = BTreeSet::from([from]);
        loop {
            let more: Vec<&str> = self
                .0
                .iter()
                .filter(|(_, asked_by, asked)| above.contains(asked.as_str()) && !above.contains(asked_by.as_str()))
                .map(|(_, asked_by, _)| asked_by.as_str())
                .collect();
            if more.is_empty() {
                break;
            }
            above.extend(more);
        }
        if above.contains(to) {
            return Err(format!("`{to}` has asked `{from}` within a minute: triggers do not go round in circles"));
        }
        self.0.push_back((now, from.to_owned(), to.to_owned()));
        Ok(())
    }
}

async fn carry_out(row: TriggerRow, bus: Client) -> TriggerRow {
    match timeout(LONGEST, ask(&row, &bus)).await {
        Ok(Ok(result)) => settled(row, "done", None, Some(result)),
        Ok(Err(why)) => settled(row, "failed", Some(why), None),
        Err(_) => settled(row, "failed", Some(format!("it took longer than {} s", LONGEST.as_secs())), None),
    }
}

async fn ask(row: &TriggerRow, bus: &Client) -> Result<String, String> {
    let target = base(&row.request.target);
    let mut task = row.request.task.clone().unwrap_or_default();
    task.task_id = format!("trigger-{}", row.number);
    task.timeout_ms = task.timeout_ms.min(u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX));
    let failed = |error| call_failed(error, target).message;
    let mut answer =
        bus.call_stream(&format!("tasks.{target}"), task.encode_to_vec(), SILENCE).await.map_err(failed)?;
    let mut found = Found::default();
    while let Some(part) = answer.next().await {
        let part = part.map_err(failed)?;
        let part =
            DetectionResult::decode(part.as_slice()).map_err(|error| format!("an answer of `{target}`: {error}"))?;
        if let Some(why) = part.error_message.clone().filter(|_| !part.success) {
            return Err(why);
        }
        found.take(part);
    }
    Ok(found.json().to_string())
}

/// What an answer comes to.
#[derive(Default)]
struct Found {
    count: u64,
    processes: Vec<Json>,
    rest: Map<String, Json>,
}

impl Found {
    fn take(&mut self, part: DetectionResult) {
        self.count += part.processes.len() as u64;
        for process in part.processes.iter().take(MAX_PROCESSES.saturating_sub(self.processes.len())) {
            let path = process.executable_path.as_deref().map(cut);
            let name = process.name.as_deref().map(cut);
            let key = cut(&process.process_key);
            self.processes.push(json!({"process_key": key, "pid": process.pid, "name": name, "executable_path": path}));
        }
        if let Some(hash) = part.hash_result {
            let own = json!({
                "algorithm": cut(&hash.algorithm), "value": cut(&hash.hash_value), "path": cut(&hash.file_path),
                "success": hash.success, "error": hash.error_message.as_deref().map(cut), "matches": hash.matches,
            });
            self.rest.insert("hash".to_owned(), own);
        }
        if let Some(report) = part.executable {
            let problems: Vec<String> =
                report.problems.iter().take(MAX_PROCESSES).map(|problem| cut(problem)).collect();
            let own = json!({
                "path": cut(&report.path), "pid": report.pid, "exists": report.exists, "size": report.size,
                "uid": report.uid, "gid": report.gid, "mode": report.mode, "problems": problems,
            });
            self.rest.insert("executable".to_owned(), own);
        }
    }

    fn json(mut self) -> Json {
        if self.count > 0 {
            self.rest.insert("process_count".to_owned(), self.count.into());
            self.rest.insert("processes".to_owned(), self.processes.into());
        }
        Json::Object(self.rest)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use daemoneye_lib::proto::common::ProcessRecord;
    use daemoneye_lib::proto::ipc::{HashResult, TriggerRequest};

    fn row(collector: &str, target: &str) -> TriggerRow {
        let request = TriggerRequest { target: target.to_owned(), ..TriggerRequest::default() };
        TriggerRow { collector: collector.to_owned(), request, ..TriggerRow::default() }
    }

    #[test]
    fn triggers_do_not_go_round_in_circles_and_not_too_often() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        let mut ask = |from: &str, to: &str, at: Duration| recent.judge(&row(from, to), now + at);
        assert!(ask("a", "a", Duration::ZERO).unwrap_err().contains("itself"));
        assert!(ask("a@2", "a", Duration::ZERO).unwrap_err().contains("itself"), "an instance is the same collector");
        ask("a", "b", Duration::ZERO).unwrap();
        ask("b", "c", Duration::ZERO).unwrap();
        assert!(ask("b", "a", Duration::from_secs(1)).unwrap_err().contains("circles"));
        assert!(ask("c", "a", Duration::from_secs(1)).unwrap_err().contains("circles"), "by way of another");
        ask("a", "c", Duration::from_secs(2)).unwrap();
        ask("c", "a", Duration::from_secs(70)).unwrap();
        for _ in 0..A_MINUTE {
            ask("d", "a", Duration::from_secs(70)).unwrap();
        }
        assert!(ask("d", "a", Duration::from_secs(71)).unwrap_err().contains("within a minute"));
        ask("e", "a", Duration::from_secs(71)).unwrap();
        ask("d", "a", Duration::from_secs(140)).unwrap();
    }

    #[test]
    fn of_an_answer_the_first_of_many_are_kept() {
        let mut found = Found::default();
        assert_eq!(Found::default().json(), json!({}));
        for _ in 0..3 {
            let processes = vec![ProcessRecord { pid: 7, name: Some("x".repeat(9_000)), ..Default::default() }; 15];
            found.take(DetectionResult { processes, ..DetectionResult::default() });
        }
        let hash = HashResult { hash_value: "ab".to_owned(), success: true, ..HashResult::default() };
        found.take(DetectionResult { hash_result: Some(hash), ..DetectionResult::default() });
        let all = found.json();
        assert_eq!((all["process_count"].clone(), all["hash"]["value"].clone()), (json!(45), json!("ab")));
        assert_eq!(all["processes"].as_array().unwrap().len(), MAX_PROCESSES);
        assert_eq!(all["processes"][0]["name"].as_str().unwrap().len(), MAX_TEXT);
    }
}
