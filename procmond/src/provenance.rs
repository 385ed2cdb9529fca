//! Where a column's value comes from, or why it has none: the words of the `provenance` map.

use crate::reader::Unreadable;
use daemoneye_lib::proto::common::ProcessRecord;

/// For every column that has a value and no entry of its own.
pub(crate) const EVERY: &str = "*";

/// For every column that has none and no entry of its own.
pub(crate) const NONE: &str = "-";

/// The columns about the parent beside its key.
pub(crate) const OF_PARENT: [&str; 3] = ["parent_name", "parent_executable_path", "parent_command_line"];

pub(crate) const CAPTURED: &str = "captured";
pub(crate) const SCRAPED: &str = "scraped";
pub(crate) const HASH_STABLE: &str = "scraped: stable while it was read";
pub(crate) const HASH_DELETED: &str = "scraped: stable while it was read; its name was deleted";
pub(crate) const HASH_REPLACED: &str = "scraped: stable while it was read; another file has its name";
pub(crate) const INFERRED: &str = "inferred";

pub(crate) const DENIED: &str = "unavailable: permission denied";
pub(crate) const ENDED: &str = "unavailable: process has ended";
pub(crate) const UNREADABLE: &str = "unavailable: could not be read";
pub(crate) const KERNEL_THREAD: &str = "unavailable: kernel thread";
pub(crate) const NOT_CONTAINED: &str = "unavailable: not in a container";
pub(crate) const HASH_WAITS: &str = "unavailable: hash is being computed";
pub(crate) const HASH_QUEUE_FULL: &str = "unavailable: hashing queue full";
pub(crate) const HASH_TOO_LARGE: &str = "unavailable: executable is too large to hash";
pub(crate) const HASH_UNSTABLE: &str = "unavailable: executable was written while it was read";
pub(crate) const HASH_OUT_OF_REACH: &str = "unavailable: executable is out of reach";
pub(crate) const HASH_DENIED: &str = "unavailable: executable may not be read";
pub(crate) const HASH_NOT_REGULAR: &str = "unavailable: executable is not a regular file";
pub(crate) const HASHING_BROKEN: &str = "unavailable: hashing has failed";
pub(crate) const HASHING_OFF: &str = "unavailable: hashing is off";
pub(crate) const BY_SIGNAL: &str = "unavailable: ended by a signal";
pub(crate) const NOBODY_SEEN: &str = "unavailable: no process was seen to use it";
pub(crate) const NOT_COLLECTED: &str = "unavailable: not collected";
pub(crate) const NOT_EXECUTED: &str = "unavailable: not told of an exec";
pub(crate) const NOT_FORKED: &str = "unavailable: not told of a fork";
pub(crate) const NOT_HASHED: &str = "unavailable: not hashed";
pub(crate) const NOT_KEPT: &str = "unavailable: not kept until the end";
pub(crate) const NOT_SET: &str = "unavailable: not set";
pub(crate) const NO_PARENT: &str = "unavailable: no parent";
pub(crate) const NO_SIGNAL: &str = "unavailable: not ended by a signal";
pub(crate) const NO_TERMINAL: &str = "unavailable: no terminal";
pub(crate) const PARENT_ENDED: &str = "unavailable: parent ended before it was seen";
pub(crate) const PARENT_GONE: &str = "unavailable: parent has ended";
pub(crate) const PARENT_UNKNOWN: &str = "unavailable: not known of the parent";
pub(crate) const POLLING: &str = "unavailable: polling";
pub(crate) const RUNNING: &str = "unavailable: running";
pub(crate) const TOO_LARGE: &str = "unavailable: too large to tell";
pub(crate) const UNKNOWN_USER: &str = "unavailable: not in /etc/passwd";

/// Of a gap.
pub(crate) const SHED_FORKS: &str =
    "more than half of the spool waits for the agent: fork events were given up for exec and exit events";

pub(crate) const SHED_CONNECTIONS: &str =
    "more than half of the spool waits for the agent: connections were given up for events of processes";

/// The reason in a record for what could not be read.
pub(crate) fn reason(unreadable: Unreadable) -> &'static str {
    match unreadable {
        Unreadable::Gone => ENDED,
        Unreadable::Denied => DENIED,
        Unreadable::Failed(_) => UNREADABLE,
    }
}

/// Whether the column has no value for a reason that says nothing about the process itself.
pub(crate) fn is_withheld(record: &ProcessRecord, column: &str) -> bool {
    let reason = record.provenance.get(column).map(String::as_str);
    matches!(reason, Some(DENIED | ENDED | UNREADABLE))
}

/// Whether this says what came of hashing the file as it is: for good, or until it is tried again.
pub(crate) fn is_word_on_hash(reason: &str) -> bool {
    matches!(reason, HASH_TOO_LARGE | HASH_DENIED | HASH_NOT_REGULAR | HASH_UNSTABLE | HASH_OUT_OF_REACH)
}

/// Notes where the value of this column comes from.
pub(crate) fn from(record: &mut ProcessRecord, column: &str, origin: &str) {
    record.provenance.insert(column.to_owned(), origin.to_owned());
}

/// Adds the column to a list among the record's notes.
pub(crate) fn note(record: &mut ProcessRecord, list: &str, column: &str) {
    let columns = record.platform_data.entry(list.to_owned()).and_modify(|columns| columns.push(',')).or_default();
    columns.push_str(column);
}

/// Notes why these columns have no value.
pub(crate) fn absent(record: &mut ProcessRecord, columns: &[&str], reason: &str) {
    for column in columns {
        record.provenance.insert((*column).to_owned(), reason.to_owned());
    }
}
