//! Process identity that survives the reuse of pids.

/// The context that separates these digests from every other use of BLAKE3.
const CONTEXT: &str = "daemoneye 2026 process-key v1";

/// The 32 lower-case hex digits that identify a process of this boot across restarts of DaemonEye.
///
/// `start_ticks` is the start time in clock ticks since boot, as in field 22 of `/proc/PID/stat`: unlike a wall-clock
/// time it does not move when the clock is set.
///
/// The digest is BLAKE3 in its key-derivation mode over `boot_id`, a zero byte, `pid` and `start_ticks` (both little-endian),
/// cut to 128 bits.
pub fn process_key(boot_id: &str, pid: u32, start_ticks: u64) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(boot_id.trim().as_bytes());
    hasher.update(&[0]);
    hasher.update(&pid.to_le_bytes());
    hasher.update(&start_ticks.to_le_bytes());
    let digest = hasher.finalize().to_hex();
    digest.as_str().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::process_key;

    const BOOT: &str = "2f5c0f3e-7a46-4f7e-9d0a-0c6c3a1f9b11";

    #[test]
    fn every_part_of_the_identity_counts() {
        let key = process_key(BOOT, 7, 42);
        assert_eq!(key.len(), 32);
        assert!(key.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_ne!(key, process_key(BOOT, 8, 42));
        assert_ne!(key, process_key(BOOT, 7, 43));
        assert_ne!(key, process_key("other", 7, 42));
    }

    #[test]
    fn the_newline_of_the_boot_id_file_does_not_count() {
        assert_eq!(process_key(BOOT, 7, 42), process_key(&format!("{BOOT}\n"), 7, 42));
    }
}
