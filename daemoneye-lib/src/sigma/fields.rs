//! Sigma's log sources and fields, and the tables and columns in which DaemonEye has them.
//!
//! A field without a column of its own is looked for in `platform_data`, under its own name. A field that is not in these lists
//! is unknown: a rule with one is refused, because it would never match.

use super::problem::SigmaProblem;
use crate::models::catalog::Table;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) table: Table,
    /// The types of events, as a condition.
    events: &'static str,
    /// Whether the rule is for Windows, where some fields mean something else.
    pub(super) windows: bool,
}

/// What a field of an event is in SQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Operand {
    /// As an argument of a function.
    pub(super) sql: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Text,
    Integer,
    Time,
}

impl Operand {
    /// Beside an operator.
    pub(super) fn tight(&self) -> String {
        if self.sql.contains(' ') { format!("({})", self.sql) } else { self.sql.clone() }
    }
}

/// Where a field is.
#[derive(Clone, Copy)]
pub(super) enum At {
    Text(&'static str),
    Integer(&'static str),
    Time(&'static str),
    /// In `platform_data`, under its own name.
    Platform,
    /// A user id of the login: on Windows, which has none, a number of another kind.
    Login,
}

pub(super) type Fields = &'static [(&'static str, At)];

/// Who did it: in every event.
const SUBJECT: Fields = &[
    ("Image", At::Text("executable_path")),
    ("User", At::Text("user")),
    ("ProcessId", At::Integer("pid")),
    ("ProcessGuid", At::Text("process_key")),
    ("UtcTime", At::Time("event_time")),
    ("Computer", At::Platform),
    ("EventID", At::Platform),
    ("EventType", At::Platform),
    ("Provider_Name", At::Platform),
    ("RuleName", At::Platform),
];

const PROCESS: Fields = &[
    ("CommandLine", At::Text("command_line")),
    ("ParentImage", At::Text("parent_executable_path")),
    ("ParentCommandLine", At::Text("parent_command_line")),
    ("CurrentDirectory", At::Text("cwd")),
    ("ParentProcessId", At::Integer("ppid")),
    ("ParentProcessGuid", At::Text("parent_key")),
    ("LogonId", At::Login),
    ("sha256", At::Text("executable_hash")),
    ("Company", At::Platform),
    ("Description", At::Platform),
    ("FileVersion", At::Platform),
    ("GrandParentCommandLine", At::Platform),
    ("GrandParentImage", At::Platform),
    ("Hashes", At::Text("coalesce(platform_data ->> 'Hashes', 'SHA256=' || executable_hash)")),
    ("Imphash", At::Platform),
    ("IntegrityLevel", At::Platform),
    ("LogonGuid", At::Platform),
    ("OriginalFileName", At::Platform),
    ("ParentIntegrityLevel", At::Platform),
    ("ParentOriginalFileName", At::Platform),
    ("ParentUser", At::Platform),
    ("Product", At::Platform),
    ("Signature", At::Platform),
    ("SignatureStatus", At::Platform),
    ("Signed", At::Platform),
    ("TerminalSessionId", At::Platform),
    ("imphash", At::Platform),
    ("md5", At::Platform),
    ("sha1", At::Platform),
];

/// Of a connection that the other side began, that side is the source.
const NETWORK: Fields = &[
    ("Protocol", At::Text("protocol")),
    ("Initiated", At::Text("CASE direction WHEN 'out' THEN 'true' WHEN 'in' THEN 'false' END")),
    ("SourceIp", At::Text("CASE direction WHEN 'in' THEN remote_address ELSE local_address END")),
    ("SourcePort", At::Integer("CASE direction WHEN 'in' THEN remote_port ELSE local_port END")),
    ("SourceIsIpv6", At::Text(IS_IPV6)),
    ("DestinationIp", At::Text("CASE direction WHEN 'in' THEN local_address ELSE remote_address END")),
    ("DestinationPort", At::Integer("CASE direction WHEN 'in' THEN local_port ELSE remote_port END")),
    ("DestinationIsIpv6", At::Text(IS_IPV6)),
    ("DestinationHostname", At::Platform),
    ("DestinationPortName", At::Platform),
    ("SourceHostname", At::Platform),
    ("SourcePortName", At::Platform),
];
const IS_IPV6: &str = "CASE family WHEN 'ipv6' THEN 'true' WHEN 'ipv4' THEN 'false' END";

const FILE: Fields = &[("TargetFilename", At::Text("path")), ("CreationUtcTime", At::Platform)];
const RENAMED: Fields = &[("SourceFilename", At::Text("path")), ("TargetFilename", At::Text("target_path"))];

/// Where keywords are looked for.
const KEYWORDS_PROCESS: &[&str] = &[
    "command_line",
    "executable_path",
    "name",
    "parent_command_line",
    "parent_executable_path",
    "parent_name",
    "cwd",
    "user",
    "json_texts(platform_data)",
];
const KEYWORDS_NETWORK: &[&str] =
    &["executable_path", "name", "user", "local_address", "remote_address", "json_texts(platform_data)"];
const KEYWORDS_FILE: &[&str] = &["path", "target_path", "executable_path", "name", "user", "json_texts(platform_data)"];

/// The fields that an event of a table may have.
pub(super) const fn fields_of(table: Table) -> [Fields; 2] {
    let own = match table {
        Table::NetworkConnections => NETWORK,
        Table::FilesystemEvents => FILE,
        _ => PROCESS,
    };
    [SUBJECT, own]
}

impl Source {
    /// Where the events of a log source are.
    pub(super) fn of(category: &str, product: Option<&str>) -> Result<Self, SigmaProblem> {
        let windows = match product {
            None | Some("linux" | "macos") => false,
            Some("windows") => true,
            Some(other) => {
                let problem = SigmaProblem::new(format!("the product `{other}` is not watched"));
                return Err(problem.hint("linux, macos and windows are"));
            }
        };
        let (table, events) = match category {
            "process_creation" => (Table::ProcessEvents, "event_type IN ('exec', 'seen')"),
            "network_connection" => (Table::NetworkConnections, "event_type IN ('connect', 'accept', 'seen')"),
            "file_event" => (Table::FilesystemEvents, "event_type IN ('created', 'modified')"),
            "file_change" => (Table::FilesystemEvents, "event_type IN ('modified', 'attributes')"),
            "file_delete" => (Table::FilesystemEvents, "event_type = 'deleted'"),
            "file_rename" => (Table::FilesystemEvents, "event_type = 'renamed'"),
            other => {
                let problem = SigmaProblem::new(format!("the log source category `{other}` has no table here"));
                return Err(problem.hint(format!("those that have: {}", CATEGORIES.join(", "))));
            }
        };
        Ok(Self { table, events, windows })
    }

    fn own(self) -> [Fields; 2] {
        let own = fields_of(self.table);
        if self.events.contains("renamed") { [own[0], RENAMED] } else { own }
    }

    /// What a field is in SQL.
    pub(super) fn field(self, name: &str) -> Result<Operand, SigmaProblem> {
        let fields = self.own();
        let mut all = fields.iter().flat_map(|fields| fields.iter());
        let Some((name, at)) = all.find(|(own, _)| *own == name) else {
            let names = fields.iter().flat_map(|fields| fields.iter()).map(|(own, _)| *own);
            let problem =
                SigmaProblem::new(format!("the field `{}` is not known here", super::problem::shortened(name)));
            return Err(match nearest(name, names) {
                Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
                None => problem.hint("a rule with a field that no event has would never match"),
            });
        };
        let (sql, kind) = match at {
            At::Text(sql) => ((*sql).to_owned(), Kind::Text),
            At::Integer(sql) => ((*sql).to_owned(), Kind::Integer),
            At::Time(sql) => ((*sql).to_owned(), Kind::Time),
            At::Login if !self.windows => ("loginuid".to_owned(), Kind::Integer),
            At::Platform | At::Login => (format!("platform_data ->> '{name}'"), Kind::Text),
        };
        Ok(Operand { sql, kind })
    }

    /// The events of which a condition is to be true. A hash may come later than its process.
    pub(super) fn events(self, condition: &str) -> &'static str {
        if self.table == Table::ProcessEvents && condition.contains("executable_hash") {
            "event_type IN ('exec', 'seen', 'changed')"
        } else {
            self.events
        }
    }

    /// Where keywords are looked for.
    pub(super) fn keyword_operands(self) -> Vec<Operand> {
        let columns = match self.table {
            Table::NetworkConnections => KEYWORDS_NETWORK,
            Table::FilesystemEvents => KEYWORDS_FILE,
            _ => KEYWORDS_PROCESS,
        };
        columns.iter().map(|sql| Operand { sql: (*sql).to_owned(), kind: Kind::Text }).collect()
    }

    /// What the reader of an alert wants to see.
    pub(super) const fn columns(self) -> &'static str {
        match self.table {
            Table::NetworkConnections => {
                "process_key, pid, name, executable_path, user, protocol, direction, local_address, local_port, \
                 remote_address, remote_port"
            }
            Table::FilesystemEvents => "process_key, pid, name, executable_path, user, event_type, path, target_path",
            _ => {
                "process_key, pid, name, executable_path, command_line, user, cwd, parent_executable_path, \
                 parent_command_line"
            }
        }
    }

    /// The columns that make two matches the same alert, where they are not those that every rule has.
    pub(super) const fn dedup(self) -> Option<&'static [&'static str]> {
        match self.table {
            Table::NetworkConnections => Some(&["process_key", "executable_path", "remote_address", "remote_port"]),
            Table::FilesystemEvents => Some(&["process_key", "executable_path", "path"]),
            _ => None,
        }
    }
}

const CATEGORIES: [&str; 6] =
    ["process_creation", "network_connection", "file_event", "file_change", "file_delete", "file_rename"];

/// The name that was probably meant.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 100 {
        return None;
    }
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(category: &str, product: &str, name: &str) -> String {
        let source = Source::of(category, Some(product)).unwrap();
        source.field(name).map_or_else(|problem| problem.to_string(), |operand| operand.sql)
    }

    #[test]
    fn fields_are_columns_or_in_platform_data() {
        for (category, product, name, wanted) in [
            ("process_creation", "linux", "Image", "executable_path"),
            ("process_creation", "linux", "LogonId", "loginuid"),
            ("process_creation", "windows", "LogonId", "platform_data ->> 'LogonId'"),
            ("process_creation", "macos", "OriginalFileName", "platform_data ->> 'OriginalFileName'"),
            ("file_event", "linux", "TargetFilename", "path"),
            ("file_rename", "linux", "TargetFilename", "target_path"),
            ("network_connection", "linux", "Protocol", "protocol"),
        ] {
            assert_eq!(field(category, product, name), wanted);
        }
        assert!(field("process_creation", "linux", "Commandline").contains("did you mean `CommandLine`?"));
        assert!(field("process_creation", "linux", "TargetFilename").contains("is not known here"));
        assert!(Source::of("dns_query", None).unwrap_err().to_string().contains("process_creation"));
        assert!(Source::of("process_creation", Some("aws")).is_err());
    }

    #[test]
    fn every_column_is_there() {
        for category in CATEGORIES {
            let source = Source::of(category, None).unwrap();
            let columns = source.table.columns();
            let known = |name: &str| columns.iter().any(|(own, _)| *own == name);
            for (_, at) in source.own().into_iter().flatten() {
                if let At::Text(sql) | At::Integer(sql) | At::Time(sql) = at
                    && !sql.contains(' ')
                {
                    assert!(known(sql), "{sql}");
                }
            }
            assert!(source.columns().split(", ").chain(source.dedup().unwrap_or_default().iter().copied()).all(known));
        }
    }
}
