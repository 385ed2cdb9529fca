//! `/proc/PID/stat`: what the kernel says about a process in one line.
//!
//! The name in parentheses is the process's own choice and may hold spaces, parentheses and newlines; all later fields
//! are numbers, so the last `)` of the file ends it. Field numbers are those of proc_pid_stat(5).

use super::number;
pub(crate) use crate::stat::Stat;

/// Reads the line; `None` when it is not one.
pub(crate) fn parse(line: &[u8]) -> Option<Stat<'_>> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let comm = line.get(open + 1..close)?;
    let mut fields = line.get(close + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let [state] = fields.next()? else { return None };
    // Numbers from here on; the fields that can be negative are none of ours, except that a device number is printed
    // as a signed one.
    let ppid = number(fields.next()?)?;
    let session = number(fields.nth(1)?).unwrap_or(0);
    let tty = device(fields.next()?)?;
    let flags = number(fields.nth(1)?)?;
    let user: u64 = number(fields.nth(4)?)?;
    let system: u64 = number(fields.next()?)?;
    let start_ticks = number(fields.nth(6)?)?;
    let resident_pages = number(fields.nth(1)?).unwrap_or(0);
    let cpu_ticks = user.saturating_add(system);
    Some(Stat { comm, state: *state, ppid, session, tty, flags, cpu_ticks, start_ticks, resident_pages })
}

/// How many threads the process has (field 20), of such a line.
pub(crate) fn threads(line: &[u8]) -> Option<u32> {
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let mut fields = line.get(close + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    // The state is field 3.
    number(fields.nth(17)?)
}

fn device(field: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(field).ok()?;
    text.parse::<i32>().ok().map(i32::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::{EXITING, KERNEL_THREAD, WORKER};
    use proptest::prelude::*;

    /// A line as the kernel writes it.
    fn line(comm: &[u8], state: char, flags: u32) -> Vec<u8> {
        let mut line = b"42 (".to_vec();
        line.extend(comm);
        line.extend(
            format!(
                ") {state} 7 42 40 34817 -1 {flags} 1 2 3 4 500 25 0 0 20 0 3 0 123456 9999 77 18446744073709551615 1 1 0\n"
            )
            .bytes(),
        );
        line
    }

    #[test]
    fn fields_are_found_behind_any_name() {
        for comm in ["sleep", "a b", ") R 1 1 1", "((", "", "new\nline", ") Z 0 0 0 0 -1 4 ("] {
            let line = line(comm.as_bytes(), 'S', 0x0040_0000);
            let stat = parse(&line).unwrap();
            assert_eq!(stat.name(), comm.as_bytes());
            assert_eq!((stat.state, stat.ppid, stat.session, stat.tty), (b'S', 7, 40, 34817));
            assert_eq!((stat.cpu_ticks, stat.start_ticks, stat.resident_pages), (525, 123_456, 77));
            assert!(!stat.is_kernel_thread() && !stat.is_ending());
            assert_eq!(threads(&line), Some(3));
        }
    }

    #[test]
    fn the_work_of_a_kernel_worker_is_not_its_name() {
        for (comm, name) in [
            ("kworker/0:1-events", "kworker/0:1"),
            ("kworker/u8:2+flush-253:0", "kworker/u8:2"),
            ("kworker/R-rcu_g", "kworker/R-rcu_g"),
            ("kworker/3:0", "kworker/3:0"),
        ] {
            let line = line(comm.as_bytes(), 'I', KERNEL_THREAD | WORKER);
            assert_eq!(parse(&line).unwrap().name(), name.as_bytes());
        }
        let pretender = line(b"kworker/0:1-evil", 'S', WORKER);
        assert_eq!(parse(&pretender).unwrap().name(), b"kworker/0:1-evil", "only the kernel's own");
    }

    #[test]
    fn what_ends_is_recognized() {
        assert!(parse(&line(b"x", 'Z', 0)).unwrap().is_ending());
        assert!(parse(&line(b"x", 'R', EXITING)).unwrap().is_ending());
    }

    #[test]
    fn half_a_line_is_none() {
        let whole = line(b"x", 'S', 0);
        let needed = whole.len() - " 18446744073709551615 1 1 0\n".len();
        for length in 0..needed - 2 {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = (parse(&bytes), threads(&bytes));
        }

        #[test]
        fn no_name_moves_the_fields(comm: Vec<u8>) {
            let line = line(&comm, 'S', 0);
            let stat = parse(&line).unwrap();
            prop_assert_eq!(stat.name(), &comm[..]);
            prop_assert_eq!(stat.start_ticks, 123_456);
        }
    }
}
