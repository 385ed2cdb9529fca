//! The arguments of programs in a raw log of auditd: its records of type EXECVE.
//!
//! A record is `type=EXECVE msg=audit(TIME:SERIAL): argc=2 a0="/bin/true" a1=782079`: what is printable and without blanks or quotes
//! stands in quotes, everything else in hexadecimal digits. Long arguments come in pieces, `a1_len=… a1[0]=… a1[1]=…`, which
//! may go on in further records of the same event (the kernel's `audit_log_execve_info`).

use std::collections::BTreeMap;

/// Which argument, and bytes of it.
type Piece = (usize, Vec<u8>);

/// The arguments of each event in the log, in the order of the events' names.
pub(super) fn commands(log: &str) -> Vec<Vec<Vec<u8>>> {
    let mut events = BTreeMap::<&str, BTreeMap<usize, Vec<u8>>>::new();
    for line in log.lines() {
        let Some((event, arguments)) = execve(line) else { continue };
        let known = events.entry(event).or_default();
        for (index, piece) in arguments {
            known.entry(index).or_default().extend(piece);
        }
    }
    events.into_values().map(|arguments| arguments.into_values().collect()).collect()
}

/// The event that the record belongs to, and the arguments or pieces of them that it holds.
fn execve(line: &str) -> Option<(&str, impl Iterator<Item = Piece>)> {
    // The last line may be half written yet.
    let (event, fields) = line.strip_prefix("type=EXECVE msg=audit(")?.split_once("):")?;
    Some((event, fields.split(' ').filter_map(argument)))
}

fn argument(field: &str) -> Option<Piece> {
    let (name, value) = field.strip_prefix('a')?.split_once('=')?;
    let index = name.split_once('[').map_or(name, |(index, _)| index).parse().ok()?;
    let bytes = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?.as_bytes().to_vec(),
        None => unhex(value)?,
    };
    Some((index, bytes))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(log: &str) -> Vec<String> {
        let commands = commands(log);
        assert_eq!(commands.len(), 1, "{commands:?}");
        commands.into_iter().flatten().map(|argument| String::from_utf8_lossy(&argument).into_owned()).collect()
    }

    #[test]
    fn arguments_are_quoted_or_hexadecimal() {
        let log = "type=SYSCALL msg=audit(1795288083.831:7): arch=c000003e syscall=59 a0=55d6 a1=55d7 comm=\"true\"\n\
            type=EXECVE msg=audit(1795288083.831:7): argc=4 a0=\"/bin/true\" a1=782079 a2=\"run.17\" a3=22\n\
            type=CWD msg=audit(1795288083.831:7): cwd=\"/tmp\"\n\
            type=PROCTITLE msg=audit(1795288083.831:7): proctitle=2F62\n";
        assert_eq!(one(log), ["/bin/true", "x y", "run.17", "\""]);
    }

    #[test]
    fn a_long_argument_is_put_together_from_pieces_and_records() {
        let log = "type=EXECVE msg=audit(5.000:9): argc=3 a0=\"sh\" a1_len=12 a1[0]=\"abcd\"\n\
            type=EXECVE msg=audit(5.000:8): argc=1 a0=\"other\"\n\
            type=EXECVE msg=audit(5.000:9):  a1[1]=\"efgh\" a1[2]=696A6B6C a2=\"last\"\n";
        let all = commands(log);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], [b"sh".to_vec(), b"abcdefghijkl".to_vec(), b"last".to_vec()]);
    }

    #[test]
    fn more_than_ten_arguments_stay_in_order() {
        let fields: String = (0..12).map(|index| format!(" a{index}=\"{index}\"")).collect();
        let expected: Vec<_> = (0..12).map(|index| index.to_string()).collect();
        assert_eq!(one(&format!("type=EXECVE msg=audit(1.0:1): argc=12{fields}")), expected);
    }

    #[test]
    fn what_is_broken_off_or_no_argument_is_left_out() {
        assert_eq!(one("type=EXECVE msg=audit(1.0:1): argc=3 a0=\"true\" a1=\"half"), ["true"]);
        assert_eq!(one("type=EXECVE msg=audit(1.0:1): argc=3 a0=\"true\" a1=78207 a2= arch=1 ab=41"), ["true"]);
        for nothing in ["", "type=EXECVE", "type=EXECVE msg=audit(1.0:1", "type=EXECVE_ msg=audit(1.0:1): a0=41"] {
            assert!(commands(nothing).is_empty(), "{nothing}");
        }
    }
}
