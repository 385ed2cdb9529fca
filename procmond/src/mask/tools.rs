//! The forms in which common tools are given secrets, where no general form covers them.

use std::ops::Range;

/// How a secret stands in its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It is the word.
    Whole,
    /// It stands behind the first of these: `user:secret`.
    After(char),
    /// As in `user/secret@database`.
    SlashAt,
    /// It is the word, unless that is a setting or a flag.
    Plain,
    /// `user:secret`, unless it is a URL.
    Credentials,
}
use Form::{After, Credentials, Plain, SlashAt, Whole};

impl Form {
    /// Where the secret is; quotes around the word are none of it.
    pub(super) fn secret(self, word: &str) -> Option<Range<usize>> {
        let quoted =
            word.len() >= 2 && ["'", "\""].iter().any(|quote| word.starts_with(quote) && word.ends_with(quote));
        let inner = if quoted { 1..word.len() - 1 } else { 0..word.len() };
        let text = word.get(inner.clone())?;
        let within = match self {
            Whole => 0..text.len(),
            Plain if text.contains('=') || text.starts_with('-') => return None,
            Plain => 0..text.len(),
            Credentials if text.contains("://") => return None,
            Credentials => text.find(':')? + 1..text.len(),
            After(mark) => text.find(mark)? + mark.len_utf8()..text.len(),
            SlashAt => {
                let slash = text.find('/').filter(|at| *at > 0)?;
                slash + 1..text.find('@').filter(|at| *at > slash).unwrap_or(text.len())
            }
        };
        (!within.is_empty()).then(|| inner.start + within.start..inner.start + within.end)
    }
}

/// Where the value of a flag may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the next word.
    Next,
    /// In the flag's own word.
    Glued,
    /// In either.
    Both,
}
use Place::{Both, Glued, Next};

/// A flag, or a word, that is followed by a secret.
pub(super) struct Flag {
    pub(super) text: &'static str,
    pub(super) form: Form,
    pub(super) place: Place,
}

/// Secrets that stand behind others, without a flag.
pub(super) struct Tail {
    /// The words, one right behind the other, or the letter of a short flag, after which they come.
    pub(super) behind: &'static [&'static str],
    /// So many words that are no flags come first. Since a flag may have a value, all that follow may be secrets.
    pub(super) skip: usize,
    pub(super) form: Form,
}

/// A tool's flags.
pub(super) struct Tool {
    pub(super) flags: &'static [Flag],
    /// The word behind which alone they mean a secret.
    pub(super) only_after: Option<&'static str>,
    /// How a secret stands in words that are no flags.
    pub(super) operands: Option<Form>,
    pub(super) tails: &'static [Tail],
}

const fn flag(text: &'static str, form: Form, place: Place) -> Flag {
    Flag { text, form, place }
}

const fn tool(flags: &'static [Flag]) -> Tool {
    Tool { flags, only_after: None, operands: None, tails: &[] }
}

const fn tail(behind: &'static [&'static str], skip: usize, form: Form) -> Tail {
    Tail { behind, skip, form }
}

static MYSQL: Tool = tool(&[flag("-p", Whole, Glued)]);
static MYSQL_ADMIN: Tool = tool(&[flag("-p", Whole, Glued), flag("password", Whole, Next)]);
static SHORT_P: Tool = tool(&[flag("-p", Whole, Both)]);
static LARGE_P: Tool = tool(&[flag("-P", Whole, Both)]);
static LOGIN: Tool = Tool { only_after: Some("login"), ..tool(&[flag("-p", Whole, Both)]) };
static REDIS: Tool =
    tool(&[flag("-a", Whole, Next), flag("requirepass", Whole, Next), flag("masterauth", Whole, Next)]);
static LDAP: Tool = tool(&[flag("-w", Whole, Both), flag("-s", Whole, Next), flag("-a", Whole, Next)]);
static LDAP_SEARCH: Tool = tool(&[flag("-w", Whole, Both)]);
static SAMBA: Tool = tool(&[flag("-U", After('%'), Both), flag("--user", After('%'), Both)]);
static CURL: Tool = tool(&[
    flag("-u", After(':'), Both),
    flag("--user", After(':'), Both),
    flag("-U", After(':'), Both),
    flag("--proxy-user", After(':'), Both),
    flag("-E", After(':'), Both),
    flag("--cert", After(':'), Both),
    flag("-b", After('='), Both),
    flag("--cookie", After('='), Both),
]);
static HTTPIE: Tool = tool(&[flag("-a", After(':'), Both), flag("--auth", After(':'), Both)]);
static SKOPEO: Tool = tool(&[
    flag("--creds", After(':'), Both),
    flag("--src-creds", After(':'), Both),
    flag("--dest-creds", After(':'), Both),
]);
static LFTP: Tool = tool(&[flag("-u", After(','), Both)]);
static OPENSSL: Tool = tool(&[
    flag("pass:", Whole, Glued),
    flag("-k", Whole, Next),
    flag("-K", Whole, Next),
    flag("-pass", After(':'), Next),
]);
static ARCHIVE: Tool = tool(&[flag("-p", Whole, Glued), flag("-hp", Whole, Glued)]);
static FREERDP: Tool = tool(&[flag("/p:", Whole, Glued), flag("/gp:", Whole, Glued), flag("/pth:", Whole, Glued)]);
static SNMP: Tool = tool(&[flag("-A", Whole, Both), flag("-X", Whole, Both), flag("-c", Whole, Both)]);
static SSH_KEYGEN: Tool = tool(&[flag("-N", Whole, Both), flag("-P", Whole, Both)]);
static NETWORK: Tool = tool(&[flag("password", Whole, Next), flag("psk", Whole, Next)]);
static AWS: Tool = tool(&[flag("aws_secret_access_key", Whole, Next), flag("aws_session_token", Whole, Next)]);
static HTPASSWD: Tool = Tool { tails: &[tail(&["-b"], 2, Whole), tail(&["-n"], 1, Whole)], ..tool(&[]) };
static RABBIT: Tool = Tool {
    tails: &[
        tail(&["add_user"], 1, Whole),
        tail(&["change_password"], 1, Whole),
        tail(&["authenticate_user"], 1, Whole),
    ],
    ..tool(&[])
};
static MINIO: Tool = Tool {
    tails: &[tail(&["alias", "set"], 3, Whole), tail(&["host", "add"], 3, Whole), tail(&["user", "add"], 2, Whole)],
    ..tool(&[])
};
static VAULT: Tool = Tool { tails: &[tail(&["login"], 0, Plain)], ..tool(&[]) };
/// Started by others, and their flags are none of those.
static OTHER: Tool = tool(&[]);
static ORACLE: Tool = Tool { operands: Some(SlashAt), ..tool(&[]) };

/// The tool of this name, if its flags are known.
pub(super) fn find(name: &str) -> Option<&'static Tool> {
    Some(match name {
        "mysqladmin" | "mariadb-admin" => &MYSQL_ADMIN,
        "mysql" | "mysqldump" | "mysqlimport" | "mysqlshow" | "mysqlcheck" | "mysqlslap" | "mysqlbinlog"
        | "mysqlsh" | "mysqlpump" | "mysql_upgrade" | "mariadb" | "mariadb-dump" | "mariadb-import"
        | "mariadb-show" | "mariadb-check" | "mariadb-binlog" | "mariadb-backup" | "mariabackup" | "xtrabackup" => {
            &MYSQL
        }
        "sshpass" | "mongo" | "mongosh" | "mongodump" | "mongorestore" | "mongoexport" | "mongoimport"
        | "mongostat" | "mongotop" | "rdesktop" | "useradd" | "usermod" | "ncftp" | "ncftpget" | "ncftpput" => &SHORT_P,
        "sqlcmd" | "bcp" | "isql" | "tsql" | "ipmitool" | "mosquitto_pub" | "mosquitto_sub" | "zip" | "unzip" => {
            &LARGE_P
        }
        "docker" | "podman" | "nerdctl" | "buildah" | "helm" | "crane" | "oras" | "az" | "oc" | "cf" => &LOGIN,
        "redis-cli" | "keydb-cli" | "valkey-cli" => &REDIS,
        "ldapsearch" | "ldapadd" | "ldapmodify" | "ldapdelete" | "ldapmodrdn" | "ldapcompare" | "ldapwhoami" => {
            &LDAP_SEARCH
        }
        "ldappasswd" => &LDAP,
        "smbclient" | "rpcclient" | "smbget" | "smbcacls" | "smbmap" | "net" | "winexe" | "wmic" => &SAMBA,
        "curl" => &CURL,
        "http" | "https" | "httpie" => &HTTPIE,
        "skopeo" => &SKOPEO,
        "lftp" => &LFTP,
        "openssl" => &OPENSSL,
        "7z" | "7za" | "7zr" | "rar" | "unrar" => &ARCHIVE,
        "xfreerdp" | "xfreerdp3" | "wlfreerdp" => &FREERDP,
        "snmpget" | "snmpwalk" | "snmpset" | "snmpbulkwalk" | "snmpbulkget" | "snmpgetnext" | "snmptrap" => &SNMP,
        "ssh-keygen" => &SSH_KEYGEN,
        "nmcli" | "iwctl" | "wpa_cli" => &NETWORK,
        "aws" => &AWS,
        "sqlplus" | "rman" | "exp" | "imp" | "expdp" | "impdp" | "sqlldr" => &ORACLE,
        "htpasswd" => &HTPASSWD,
        "rabbitmqctl" => &RABBIT,
        "mc" | "mcli" => &MINIO,
        "vault" | "bao" => &VAULT,
        "ssh" | "scp" | "sftp" | "rsync" | "sh" | "bash" => &OTHER,
        _ => return None,
    })
}
