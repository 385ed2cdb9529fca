//! The rows of the tables that DaemonEye keeps about itself, with their columns.
//!
//! They are protobuf messages because the store keeps some of them; they never cross a process boundary, so that they
//! have no `.proto` file.

use crate::models::columns::{Column, Value, array, completeness};
use crate::proto::common::ProcessRecord;
use crate::proto::ipc::{ColumnKind, Feature, Gap, ScanSummary, TaskType, TriggerRequest};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;

/// A row of `system.gaps`: a stretch in which something was not seen.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GapRow {
    /// Unique in the store.
    #[prost(uint64, tag = "1")]
    pub gap_id: u64,
    /// Whose blindness it is.
    #[prost(string, tag = "2")]
    pub collector: String,
    /// From when to when, how many, which kind, why.
    #[prost(message, required, tag = "3")]
    pub gap: Gap,
    /// The bits of the domains that the collector watches; 0 where they are not known, and then it may be any. It is filled
    /// in by whoever reads the row.
    #[prost(uint32, tag = "4")]
    pub domains: u32,
    /// The tables, `schema.table`, that it alone concerns; none where it concerns all of its domains.
    #[prost(string, repeated, tag = "5")]
    pub tables: Vec<String>,
}

/// A row of `system.scans`: one enumeration of all processes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScanRow {
    /// Who scanned.
    #[prost(string, tag = "1")]
    pub collector: String,
    /// What it found.
    #[prost(message, required, tag = "2")]
    pub scan: ScanSummary,
}

/// A row of `processes.snapshots`: what a process used at one scan.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SnapshotRow {
    /// Who scanned.
    pub collector: String,
    /// The scan, in this run of the collector.
    pub scan_id: u64,
    /// The process, with what it used and little more.
    pub process: ProcessRecord,
}

/// A row of `system.triggers`: a task that one collector asked of another.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TriggerRow {
    /// Unique in the store.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Who asked.
    #[prost(string, tag = "2")]
    pub collector: String,
    /// What was asked.
    #[prost(message, required, tag = "3")]
    pub request: TriggerRequest,
    /// `due`, `done`, `failed` or `refused`.
    #[prost(string, tag = "4")]
    pub status: String,
    /// When it was known what became of it.
    #[prost(int64, optional, tag = "5")]
    pub finished_at: Option<i64>,
    /// Why it failed or was refused.
    #[prost(string, optional, tag = "6")]
    pub error: Option<String>,
    /// What the target answered, as a JSON object.
    #[prost(string, optional, tag = "7")]
    pub result: Option<String>,
}

impl TriggerRow {
    /// The status of one that is to be carried out, or is under way.
    pub const DUE: &str = "due";

    /// Whether it is still to be known what becomes of it.
    pub fn is_due(&self) -> bool {
        self.status == Self::DUE
    }

    fn task_type(&self) -> &'static str {
        let task = self.request.task.as_ref();
        task.and_then(|task| TaskType::try_from(task.task_type).ok()).map_or("unknown", |kind| kind.as_str_name())
    }
}

/// A row of `system.collectors`: a collector as the agent knows it now.
#[derive(Clone, PartialEq, Default)]
pub struct CollectorRow {
    /// The collector's name.
    pub collector: String,
    /// `attached`, `detached`, or what its supervision is doing.
    pub state: String,
    /// How it observes.
    pub mode: String,
    /// Why it observes in this way.
    pub mode_reason: String,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: Option<u32>,
    /// When its present run began.
    pub start_time: Option<i64>,
    /// Until when what it saw is committed.
    pub observed_until: Option<i64>,
    /// Its spool's epoch.
    pub epoch: String,
    /// How often this agent has restarted it.
    pub restarts: u64,
    /// What it tells of.
    pub domains: Vec<String>,
    /// What its source can do.
    pub source_caps: Vec<String>,
    /// The types of tasks that it does.
    pub tasks: Vec<String>,
    /// The interval between two scans that is in force.
    pub scan_interval_ms: Option<u64>,
    /// What waits in its spool.
    pub spool_items: Option<u64>,
    /// What its spool takes on disk.
    pub spool_bytes: Option<u64>,
    /// What it cannot see.
    pub limitations: Vec<String>,
    /// The newest trouble, for the operator.
    pub last_error: Option<String>,
    /// What its separate parts can do here.
    pub features: Vec<Feature>,
}

/// A row of `detection.rules`: a rule file as it was loaded, or why it was not.
#[derive(Clone, PartialEq, Default)]
pub struct RuleRow {
    /// The rule's id; the file's path where the id could not be read.
    pub rule_id: String,
    /// For people.
    pub title: String,
    /// low, medium, high or critical.
    pub severity: String,
    /// `healthy`, `unhealthy`, `suspended`, `disabled` or `refused`.
    pub state: String,
    /// Why it is not healthy.
    pub reason: Option<String>,
    /// Where it was read from.
    pub file: String,
    /// ATT&CK techniques and the like.
    pub tags: Vec<String>,
    /// Who wrote it.
    pub author: String,
    /// Batches over which it was evaluated.
    pub evaluations: u64,
    /// Rows over which it was evaluated.
    pub rows: u64,
    /// Rows that it returned.
    pub matches: u64,
    /// Rows over which it could not be evaluated.
    pub failed_rows: u64,
    /// What its evaluations have cost together.
    pub cost_ns: u64,
    /// When it last returned a row.
    pub last_match: Option<i64>,
    /// Whether the operator wants it to run.
    pub enabled: bool,
    /// What it looks for and why.
    pub description: String,
    /// Harmless things that match it.
    pub false_positives: Vec<String>,
    /// What its author points to.
    pub references: Vec<String>,
    /// Under which licence it may be used.
    pub license: String,
    /// How far its author trusts it.
    pub status: String,
    /// When it was written.
    pub date: String,
    /// When it was last changed.
    pub modified: String,
    /// Columns that make two matches the same alert.
    pub dedup: Vec<String>,
    /// For how many seconds they do.
    pub dedup_window_s: Option<u64>,
    /// How many seconds a scheduled rule looks back.
    pub window_s: Option<u64>,
    /// Seconds between two of its runs.
    pub every_s: Option<u64>,
    /// `all` or `diff`, for a scheduled rule.
    pub mode: Option<String>,
    /// Its exceptions as a JSON array: where, reason, expires, applies.
    pub exceptions: Option<String>,
    /// How many of them no longer apply.
    pub expired_exceptions: u64,
    /// Rows that its exceptions took out.
    pub excepted: u64,
    /// Its query.
    pub sql: Option<String>,
}

/// A row of `detection.runs`: one evaluation of one rule.
#[derive(Clone, PartialEq, Default)]
pub struct RunRow {
    /// When it ended.
    pub run_time: i64,
    /// Which rule.
    pub rule_id: String,
    /// Rows that it read.
    pub rows: u64,
    /// Rows that the rule returned.
    pub matches: u64,
    /// Processor time.
    pub cost_ns: u64,
    /// Why the evaluation could not see everything.
    pub degraded_reasons: Vec<String>,
}

/// A row of `alerts.deliveries`: an attempt to hand an alert to a sink.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeliveryRow {
    /// Which alert.
    #[prost(string, tag = "1")]
    pub alert_id: String,
    /// The sink's name in the configuration.
    #[prost(string, tag = "2")]
    pub sink: String,
    /// `delivered` or `failed`.
    #[prost(string, tag = "3")]
    pub status: String,
    /// When it was last tried.
    #[prost(int64, tag = "4")]
    pub time: i64,
    /// How often it was tried.
    #[prost(uint32, tag = "5")]
    pub attempts: u32,
    /// Why it failed.
    #[prost(string, optional, tag = "6")]
    pub error: Option<String>,
}

macro_rules! columns {
    ($($name:ident $kind:ident = |$row:ident| $get:expr;)*) => {
        &[$(Column { name: stringify!($name), kind: ColumnKind::$kind, get: |$row| Value::from($get) }),*]
    };
}

/// The columns of `system.gaps`.
pub static GAP: &[Column<GapRow>] = columns! {
    gap_id Integer = |g| g.gap_id;
    collector Text = |g| g.collector.as_str();
    kind Text = |g| g.gap.kind.as_str();
    from_time Time = |g| g.gap.from;
    to_time Time = |g| g.gap.to;
    count Integer = |g| g.gap.count;
    reason Text = |g| g.gap.reason.as_str();
    tables Json = |g| if g.tables.is_empty() { Value::Null } else { array(&g.tables) };
};

/// The columns of `system.scans`.
pub static SCAN: &[Column<ScanRow>] = columns! {
    scan_id Integer = |s| s.scan.scan_id;
    collector Text = |s| s.collector.as_str();
    start_time Time = |s| s.scan.started;
    end_time Time = |s| s.scan.finished;
    processes Integer = |s| s.scan.processes;
    vanished Integer = |s| s.scan.vanished;
    denied Integer = |s| s.scan.denied;
    full Boolean = |s| s.scan.full;
    cpu_time_ns Integer = |s| s.scan.cpu_time_ns;
};

/// The columns of `processes.snapshots`.
pub static SNAPSHOT: &[Column<SnapshotRow>] = columns! {
    snapshot_time Time = |s| s.process.collection_time;
    scan_id Integer = |s| s.scan_id;
    collector Text = |s| s.collector.as_str();
    process_key Text = |s| s.process.process_key.as_str();
    pid Integer = |s| s.process.pid;
    ppid Integer = |s| s.process.ppid;
    name Text = |s| &s.process.name;
    uid Integer = |s| s.process.uid;
    status Text = |s| &s.process.status;
    cpu_usage Real = |s| s.process.cpu_usage;
    memory_usage Integer = |s| s.process.memory_usage;
    cpu_time_ns Integer = |s| s.process.cpu_time_ns;
};

/// The columns of `system.triggers`.
pub static TRIGGER: &[Column<TriggerRow>] = columns! {
    trigger_id Text = |t| t.request.trigger_id.as_str();
    collector Text = |t| t.collector.as_str();
    target Text = |t| t.request.target.as_str();
    task_type Text = |t| t.task_type();
    reason Text = |t| t.request.reason.as_str();
    requested_at Time = |t| t.request.requested_at;
    finished_at Time = |t| t.finished_at;
    status Text = |t| t.status.as_str();
    error Text = |t| &t.error;
    result Json = |t| &t.result;
};

/// The columns of `system.collectors`.
pub static COLLECTOR: &[Column<CollectorRow>] = columns! {
    collector Text = |c| c.collector.as_str();
    state Text = |c| c.state.as_str();
    mode Text = |c| c.mode.as_str();
    mode_reason Text = |c| c.mode_reason.as_str();
    version Text = |c| c.version.as_str();
    pid Integer = |c| c.pid;
    start_time Time = |c| c.start_time;
    observed_until Time = |c| c.observed_until;
    epoch Text = |c| c.epoch.as_str();
    restarts Integer = |c| c.restarts;
    scan_interval_ms Integer = |c| c.scan_interval_ms;
    spool_items Integer = |c| c.spool_items;
    spool_bytes Integer = |c| c.spool_bytes;
    limitations Json = |c| array(&c.limitations);
    last_error Text = |c| &c.last_error;
    domains Json = |c| array(&c.domains);
    source_caps Json = |c| array(&c.source_caps);
    tasks Json = |c| array(&c.tasks);
    features Json = |c| features(&c.features);
};

/// Name to `available`, or to `unavailable: REASON`; NULL where there are none.
fn features(features: &[Feature]) -> Value<'static> {
    if features.is_empty() {
        return Value::Null;
    }
    let state = |own: &Feature| match own.available {
        true => "available".to_owned(),
        false => format!("unavailable: {}", own.reason),
    };
    let object: Map<String, Json> = features.iter().map(|own| (own.name.clone(), state(own).into())).collect();
    Value::Text(Cow::Owned(Json::Object(object).to_string()))
}

/// The columns of `detection.rules`.
pub static RULE: &[Column<RuleRow>] = columns! {
    rule_id Text = |r| r.rule_id.as_str();
    title Text = |r| r.title.as_str();
    severity Text = |r| r.severity.as_str();
    state Text = |r| r.state.as_str();
    reason Text = |r| &r.reason;
    file Text = |r| r.file.as_str();
    tags Json = |r| array(&r.tags);
    author Text = |r| r.author.as_str();
    evaluations Integer = |r| r.evaluations;
    rows Integer = |r| r.rows;
    matches Integer = |r| r.matches;
    failed_rows Integer = |r| r.failed_rows;
    cost_ns Integer = |r| r.cost_ns;
    last_match Time = |r| r.last_match;
    enabled Boolean = |r| r.enabled;
    description Text = |r| r.description.as_str();
    false_positives Json = |r| array(&r.false_positives);
    dedup Json = |r| array(&r.dedup);
    dedup_window_s Integer = |r| r.dedup_window_s;
    window_s Integer = |r| r.window_s;
    every_s Integer = |r| r.every_s;
    mode Text = |r| &r.mode;
    exceptions Json = |r| &r.exceptions;
    expired_exceptions Integer = |r| r.expired_exceptions;
    excepted Integer = |r| r.excepted;
    sql Text = |r| &r.sql;
    references Json = |r| array(&r.references);
    license Text = |r| known(&r.license);
    status Text = |r| known(&r.status);
    date Text = |r| known(&r.date);
    modified Text = |r| known(&r.modified);
};

/// An empty text is one that was not given.
fn known(text: &str) -> Value<'_> {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

/// The columns of `detection.runs`.
pub static RUN: &[Column<RunRow>] = columns! {
    run_time Time = |r| r.run_time;
    rule_id Text = |r| r.rule_id.as_str();
    rows Integer = |r| r.rows;
    matches Integer = |r| r.matches;
    cost_ns Integer = |r| r.cost_ns;
    completeness Json = |r| completeness(&r.degraded_reasons);
};

/// The columns of `alerts.deliveries`.
pub static DELIVERY: &[Column<DeliveryRow>] = columns! {
    alert_id Text = |d| d.alert_id.as_str();
    sink Text = |d| d.sink.as_str();
    status Text = |d| d.status.as_str();
    time Time = |d| d.time;
    attempts Integer = |d| d.attempts;
    error Text = |d| &d.error;
};
