//! What tables and their columns mean, a line for each: what `daemoneye-cli tables` shows.

use super::catalog::Table;
use super::domain::Domain;

/// A table's line.
pub fn table(table: Table) -> &'static str {
    let (schema, name) = table.qualified_name();
    let found = TABLES.iter().find(|(own, _)| own.split_once('.') == Some((schema, name)));
    found.map_or("", |(_, text)| text)
}

/// A column's line; nothing for a column that is not there.
pub fn column(table: Table, column: &str) -> Option<&'static str> {
    let (schema, name) = table.qualified_name();
    let own = OF_TABLES.iter().find(|(own, _)| own.split_once('.') == Some((schema, name)));
    let in_list =
        |list: &[(&'static str, &'static str)]| list.iter().find(|(own, _)| *own == column).map(|(_, text)| *text);
    let found = own.and_then(|(_, list)| in_list(list));
    let event = || table.is_of_events().then(|| in_list(EVENT)).flatten();
    let process = || (table.domain() == Some(Domain::Process)).then(|| in_list(PROCESS)).flatten();
    found.or_else(event).or_else(process)
}

static TABLES: &[(&str, &str)] = &[
    ("processes.current", "a process with its latest image; ended ones stay until retention"),
    ("processes.events", "an event of a process: exec, fork, exit, seen, changed"),
    ("processes.snapshots", "a process at one scan, with what it used"),
    ("network.connections", "what happened to a socket or a connection"),
    ("filesystem.events", "what happened to a file"),
    ("performance.samples", "a measurement of the host, of a process or of a device"),
    ("security.events", "what the kernel saw a process do that matters for security"),
    ("processes.ancestors", "an ancestor of a process: its parent at depth 1, the parent's parent at 2, up to 64"),
    ("system.scans", "an enumeration of all processes"),
    ("system.gaps", "a stretch in which something was not seen, and why"),
    ("system.triggers", "a task that one collector asked of another, and what became of it"),
    ("system.collectors", "a collector, how it observes, how it is"),
    ("detection.rules", "a rule with its state, what it found and what it cost"),
    ("detection.runs", "an evaluation of a rule"),
    ("alerts.current", "an alert: matches of a rule that mean the same"),
    ("alerts.deliveries", "what became of an alert on its way to a sink"),
];

type Columns = &'static [(&'static str, &'static str)];

static OF_TABLES: &[(&str, Columns)] = &[
    ("processes.events", PROCESS_EVENT),
    ("network.connections", NETWORK),
    ("filesystem.events", FILESYSTEM),
    ("performance.samples", PERFORMANCE),
    ("security.events", SECURITY),
    ("processes.ancestors", ANCESTOR),
    ("processes.snapshots", SNAPSHOT),
    ("system.scans", SCAN),
    ("system.gaps", GAP),
    ("system.triggers", TRIGGER),
    ("system.collectors", COLLECTOR),
    ("detection.rules", RULE),
    ("detection.runs", RUN),
    ("alerts.current", ALERT),
    ("alerts.deliveries", DELIVERY),
];

static EVENT: Columns =
    &[("event_id", "the event's own id: epoch and sequence"), ("event_time", "when it was observed")];

static PROCESS_EVENT: Columns = &[("event_type", "exec, fork, exit, seen or changed; a start is exec or seen")];

static SNAPSHOT: Columns = &[
    ("snapshot_time", "when the process was looked at"),
    ("scan_id", "the scan, in this run of the collector"),
    ("collector", "who scanned"),
];

static ANCESTOR: Columns = &[
    ("process_key", "whose ancestor it is"),
    ("depth", "1 for the parent, 2 for the parent's parent"),
    ("ancestor_key", "the ancestor's process_key; the columns that follow are the ancestor's"),
];

static PROCESS: Columns = &[
    ("process_key", "identifies the process across the reuse of pids; join by it"),
    ("parent_key", "process_key of the parent when the process was first seen"),
    ("pid", "process id in procmond's namespace"),
    ("ppid", "the parent's pid; 0 for none"),
    ("name", "the kernel's name, up to 15 bytes; the process can change it"),
    ("executable_path", "the program's file, links resolved; a script's is its interpreter"),
    ("command_line", "argv joined by one space, unquoted"),
    ("cwd", "working directory"),
    ("start_time", "when the process began"),
    ("end_time", "when it ended; NULL while it runs"),
    ("exit_code", "exit status; polling cannot know it"),
    ("uid", "real user id"),
    ("gid", "real group id"),
    ("euid", "effective user id"),
    ("user", "name of uid"),
    ("session_id", "id of the session; 0 for none"),
    ("tty", "controlling terminal"),
    ("status", "running, sleeping, stopped, zombie, …"),
    ("cpu_usage", "per cent of one core since the scan before"),
    ("memory_usage", "resident bytes"),
    ("executable_hash", "digest of the program's file, lower-case hex"),
    ("hash_algorithm", "which digest it is"),
    ("fuzzy_hash", "digest by which similar files are found"),
    ("file_exists", "whether a file is at executable_path"),
    ("image_mismatch", "whether the program that runs is another file than that: deleted or replaced"),
    ("parent_name", "name of the parent"),
    ("parent_executable_path", "executable_path of the parent"),
    ("parent_command_line", "command_line of the parent"),
    ("container_id", "id or name of the container"),
    ("cgroup", "path of the control group"),
    ("namespaces", "kind of namespace to inode number"),
    ("platform_data", "what only this platform has"),
    ("argv", "the arguments as an array"),
    ("invoked_path", "the string given to execve; polling cannot know it"),
    ("command_line_truncated", "whether command_line is only a beginning"),
    ("egid", "effective group id"),
    ("loginuid", "user id of the login, as the audit system has it"),
    ("audit_session", "session of the login, as the audit system has it"),
    ("exit_signal", "the signal that ended it"),
    ("cpu_time_ns", "processor time so far"),
    ("max_rss", "the most resident bytes so far"),
    ("environment", "configured variables of its environment"),
    ("source", "which source saw it"),
    ("provenance", "column to captured, scraped, inferred, or unavailable with the reason"),
    ("collection_time", "when the row was made"),
];

static NETWORK: Columns = &[
    ("event_type", "connect, accept, close, listen or seen"),
    ("process_key", "of the process that has the socket; join by it"),
    ("parent_key", "process_key of its parent"),
    ("pid", "its process id"),
    ("name", "its name"),
    ("executable_path", "its program's file"),
    ("uid", "its real user id"),
    ("user", "name of uid"),
    ("protocol", "tcp, udp, …"),
    ("family", "ipv4, ipv6 or unix"),
    ("local_address", "address of this side; the path of a Unix socket"),
    ("local_port", "port of this side"),
    ("remote_address", "address of the other side"),
    ("remote_port", "port of the other side"),
    ("direction", "in where the other side began, out where this one did"),
    ("state", "listen, established, close_wait, …"),
    ("bytes_sent", "since the connection began"),
    ("bytes_received", "since the connection began"),
    ("inode", "of the socket"),
    ("namespace", "inode number of the network namespace"),
    ("container_id", "id or name of the container"),
    ("platform_data", "what only this platform has"),
    ("source", "which source saw it"),
    ("provenance", "column to captured, scraped, inferred, or unavailable with the reason"),
    ("collection_time", "when the row was made"),
];

static FILESYSTEM: Columns = &[
    ("event_type", "created, modified, deleted, renamed, opened or attributes"),
    ("process_key", "of the process that did it; join by it"),
    ("parent_key", "process_key of its parent"),
    ("pid", "its process id"),
    ("name", "its name"),
    ("executable_path", "its program's file"),
    ("uid", "its real user id"),
    ("user", "name of uid"),
    ("path", "the file"),
    ("target_path", "the new name of what was renamed, what a link points to"),
    ("file_type", "regular, directory, symlink, …"),
    ("size", "bytes"),
    ("mode", "permissions with set-user-id, set-group-id and sticky"),
    ("owner_uid", "user id of the owner"),
    ("owner_gid", "group id of the file"),
    ("inode", "of the file"),
    ("device", "on which it is"),
    ("modified_time", "when its content last changed"),
    ("file_hash", "digest of its content, lower-case hex"),
    ("hash_algorithm", "which digest it is"),
    ("container_id", "id or name of the container"),
    ("platform_data", "what only this platform has"),
    ("source", "which source saw it"),
    ("provenance", "column to captured, scraped, inferred, or unavailable with the reason"),
    ("collection_time", "when the row was made"),
];

static PERFORMANCE: Columns = &[
    ("event_type", "sample"),
    ("process_key", "of the process that was measured; join by it"),
    ("parent_key", "process_key of its parent"),
    ("pid", "its process id"),
    ("name", "its name"),
    ("executable_path", "its program's file"),
    ("uid", "its real user id"),
    ("user", "name of uid"),
    ("scope", "system, process, container or device"),
    ("metric", "what was measured"),
    ("value", "the measurement"),
    ("unit", "percent, bytes, …"),
    ("interval_ms", "the stretch over which it was measured; NULL for a momentary value"),
    ("device", "which of several: a disk, a core, an interface"),
    ("container_id", "id or name of the container"),
    ("platform_data", "what only this platform has"),
    ("source", "which source saw it"),
    ("provenance", "column to captured, scraped, inferred, or unavailable with the reason"),
    ("collection_time", "when the row was made"),
];

static SECURITY: Columns = &[
    ("event_type", "credentials, ptrace, module_load, bpf_load or memory_exec"),
    ("process_key", "of the process that did it; join by it"),
    ("parent_key", "process_key of its parent"),
    ("pid", "its process id"),
    ("name", "its name"),
    ("executable_path", "its program's file"),
    ("uid", "its real user id"),
    ("user", "name of uid"),
    ("target_process_key", "of the process that is traced"),
    ("target_pid", "its process id"),
    ("target_name", "its name"),
    ("object", "the module, the eBPF program, the mapping's file or anonymous, the capabilities gained"),
    ("count", "how many like it, of one process, it stands for"),
    ("old_uid", "real user id before it changed"),
    ("new_uid", "real user id after it changed"),
    ("old_euid", "effective user id before it changed"),
    ("new_euid", "effective user id after it changed"),
    ("container_id", "id or name of the container"),
    ("platform_data", "what only this platform has"),
    ("source", "which source saw it"),
    ("provenance", "column to captured, scraped, inferred, or unavailable with the reason"),
    ("collection_time", "when the row was made"),
];

static TRIGGER: Columns = &[
    ("trigger_id", "chosen by the collector that asked"),
    ("collector", "who asked"),
    ("target", "who is to do it"),
    ("task_type", "what is to be done"),
    ("reason", "why, as the collector says"),
    ("requested_at", "when it was asked"),
    ("finished_at", "when it was known what became of it"),
    ("status", "due, done, failed or refused"),
    ("error", "why it failed or was refused"),
    ("result", "what the target answered"),
];

static SCAN: Columns = &[
    ("scan_id", "its number in this run of the collector"),
    ("collector", "who scanned"),
    ("start_time", "when it began"),
    ("end_time", "when it ended"),
    ("processes", "how many processes it found"),
    ("vanished", "how many ended while they were read"),
    ("denied", "how many could not be read whole"),
    ("full", "whether it knew nothing of an earlier scan"),
    ("cpu_time_ns", "processor time that it took"),
];

static GAP: Columns = &[
    ("gap_id", "its number in the store; 0 for one that is not recorded, because it lasts"),
    ("collector", "whose blindness it is: a collector, or a rule"),
    ("kind", "polling, without_FEATURE, collector_down, spool_overflow, rule_failed, …"),
    ("from_time", "since when"),
    ("to_time", "until when; NULL while it lasts"),
    ("count", "how much was not seen; NULL where nobody can know"),
    ("reason", "why"),
    ("tables", "the tables that it alone concerns; NULL where it concerns all that the collector tells of"),
];

static COLLECTOR: Columns = &[
    ("collector", "its name"),
    ("state", "attached, detached, or what its supervision does"),
    ("mode", "how it observes"),
    ("mode_reason", "why in this way"),
    ("version", "its version"),
    ("pid", "its process"),
    ("start_time", "when its present run began"),
    ("observed_until", "until when what it saw is stored"),
    ("epoch", "its spool"),
    ("restarts", "how often the agent restarted it"),
    ("scan_interval_ms", "between two scans, as it is in force"),
    ("spool_items", "what waits in its spool"),
    ("spool_bytes", "what its spool takes on disk"),
    ("limitations", "what it cannot see"),
    ("last_error", "its newest trouble"),
    ("domains", "what it tells of: process, network, filesystem, performance, security, trigger"),
    ("source_caps", "what its source can do: realtime, kernel-level, system-wide, …"),
    ("tasks", "the types of tasks that it does"),
    ("features", "its parts: name to available, or unavailable with the reason"),
];

static RULE: Columns = &[
    ("rule_id", "its id; the file's path where the id could not be read"),
    ("title", "for people"),
    ("severity", "low, medium, high or critical"),
    ("state", "healthy, unhealthy, suspended, disabled or refused"),
    ("reason", "why it is not healthy"),
    ("file", "where it was read from"),
    ("tags", "ATT&CK techniques and the like"),
    ("author", "who wrote it"),
    ("evaluations", "batches or runs over which it was evaluated"),
    ("rows", "rows that it read"),
    ("matches", "rows that it returned"),
    ("failed_rows", "rows over which it could not be evaluated"),
    ("cost_ns", "processor time of all evaluations together"),
    ("last_match", "when it last returned a row"),
    ("enabled", "whether the operator wants it to run"),
    ("description", "what it looks for, and what its silence does not mean"),
    ("false_positives", "harmless causes"),
    ("dedup", "columns that make two matches the same alert"),
    ("dedup_window_s", "for how many seconds they do"),
    ("window_s", "how many seconds a scheduled rule looks back"),
    ("every_s", "seconds between two of its runs"),
    ("mode", "all or diff, for a scheduled rule"),
    ("exceptions", "rows that are no matches: where, reason, expires, applies"),
    ("expired_exceptions", "how many of them no longer apply"),
    ("excepted", "rows that they took out"),
    ("sql", "its query"),
    ("references", "what its author points to"),
    ("license", "its licence"),
    ("status", "how far its author trusts it"),
    ("date", "when it was written"),
    ("modified", "when it was last changed"),
];

static RUN: Columns = &[
    ("run_time", "when it ended"),
    ("rule_id", "which rule"),
    ("rows", "rows that it read"),
    ("matches", "rows that it returned"),
    ("cost_ns", "processor time"),
    ("completeness", "whether it could see everything, and why not"),
];

static ALERT: Columns = &[
    ("alert_id", "its id"),
    ("rule_id", "the rule that raised it"),
    ("title", "the rule's title"),
    ("severity", "low, medium, high or critical"),
    ("status", "open"),
    ("first_seen", "time of the first match"),
    ("last_seen", "time of the newest match"),
    ("count", "how many matches it stands for"),
    ("dedup_key", "values by which matches are the same alert"),
    ("tags", "the rule's tags"),
    ("author", "the rule's author"),
    ("process_key", "of the first match"),
    ("pid", "of the first match"),
    ("name", "of the first match"),
    ("executable_path", "of the first match"),
    ("row", "the first match, whole"),
    ("event_ids", "the newest matched events, at most 100"),
    ("completeness", "whether something may be missing around it, and why"),
    ("false_positives", "harmless causes, as the rule names them"),
    ("references", "what the rule's author points to"),
    ("license", "the rule's licence"),
];

static DELIVERY: Columns = &[
    ("alert_id", "which alert"),
    ("sink", "which sink"),
    ("status", "due, delivered or failed"),
    ("time", "when it was last tried"),
    ("attempts", "how often it was tried"),
    ("error", "why it failed"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_and_every_column_is_described() {
        for one in Table::ALL {
            assert_ne!(table(one), "", "{one:?}");
            for (name, _) in one.columns() {
                assert!(column(one, name).is_some_and(|text| !text.is_empty()), "{one:?}.{name}");
            }
        }
        assert_eq!(column(Table::Gaps, "pid"), None);
    }

    #[test]
    fn nothing_is_described_that_is_not_there() {
        for (own, list) in OF_TABLES.iter().copied().chain([("processes.current", PROCESS)]) {
            let columns = Table::find(own).unwrap().columns();
            for (name, _) in list {
                assert!(columns.iter().any(|(own, _)| own == name), "{own}.{name}");
            }
        }
    }
}
