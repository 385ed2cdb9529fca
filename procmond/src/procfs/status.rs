//! `/proc/PID/status`: the user and group ids, and the largest resident size.

use super::number;

/// The fields of interest; those that the file does not have are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The real user id.
    pub(crate) uid: Option<u32>,
    /// The real group id.
    pub(crate) gid: Option<u32>,
    /// The largest resident size so far, in bytes.
    pub(crate) max_resident: Option<u64>,
}

/// Reads the file. The kernel escapes newlines in the name, the only text of the process's own choice, so a line that
/// starts with a key is that key.
pub(crate) fn parse(file: &[u8]) -> Status {
    let mut status = Status::default();
    for line in file.split(|byte| *byte == b'\n') {
        if let Some(ids) = line.strip_prefix(b"Uid:") {
            status.uid = first_number(ids);
        } else if let Some(ids) = line.strip_prefix(b"Gid:") {
            status.gid = first_number(ids);
        } else if let Some(size) = line.strip_prefix(b"VmHWM:") {
            status.max_resident = first_number::<u64>(size).and_then(|kib| kib.checked_mul(1024));
            break;
        }
    }
    status
}

fn first_number<T: TryFrom<u64>>(line: &[u8]) -> Option<T> {
    number(line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_ids_and_the_largest_size_are_read() {
        let file =
            b"Name:\tx\\nUid:\\t0\nState:\tS (sleeping)\nUid:\t1000\t0\t0\t0\nGid:\t100\t5\t5\t5\nGroups:\t1 2\n\
            VmPeak:\t  9 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(parse(file), Status { uid: Some(1000), gid: Some(100), max_resident: Some(1234 * 1024) });
    }

    #[test]
    fn a_kernel_thread_has_no_sizes() {
        assert_eq!(parse(b"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n").max_resident, None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
