//! What this process has in memory.

use std::fs;

/// Resident bytes, where the system tells them.
pub(super) fn resident() -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn resident_bytes_are_read_from_the_status() {
        assert_eq!(parse("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n"), Some(1234 * 1024));
        assert_eq!(parse("Name:\tVmRSS\n"), None);
        assert_eq!(parse("VmRSS:\t-1 kB\n"), None);
    }
}
