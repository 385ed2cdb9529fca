//! `/proc/self/mountinfo`: whether the mount options of `/proc` hide processes.

/// The options of the proc file system at `/proc` that hide other users' processes (`hidepid=…`), as they stand there.
pub(crate) fn hiding_options(mountinfo: &[u8]) -> Vec<String> {
    let mut hiding = Vec::new();
    for line in String::from_utf8_lossy(mountinfo).lines() {
        // 23 28 0:21 / /proc rw,relatime shared:12 - proc proc rw,hidepid=2
        let Some((mount, file_system)) = line.split_once(" - ") else { continue };
        let mut file_system = file_system.split(' ');
        if mount.split(' ').nth(4) != Some("/proc") || file_system.next() != Some("proc") {
            continue;
        }
        // A later line lies over an earlier one.
        let options = file_system.nth(1).unwrap_or_default().split(',');
        hiding = options.filter(|option| hides(option)).map(str::to_owned).collect();
    }
    hiding
}

fn hides(option: &str) -> bool {
    match option.split_once('=') {
        Some(("hidepid", how)) => !matches!(how, "0" | "off"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::hiding_options;
    use proptest::prelude::*;

    #[test]
    fn only_what_hides_processes_is_told() {
        let with = |options: &str| {
            format!("1 2 0:3 / / rw - ext4 /dev/x rw\n23 28 0:21 / /proc rw,relatime shared:12 - proc proc {options}\n")
        };
        assert_eq!(hiding_options(with("rw,hidepid=2,gid=5").as_bytes()), ["hidepid=2"]);
        assert_eq!(hiding_options(with("rw,hidepid=invisible").as_bytes()), ["hidepid=invisible"]);
        assert!(hiding_options(with("rw").as_bytes()).is_empty());
        assert!(hiding_options(with("rw,hidepid=0").as_bytes()).is_empty());
        let elsewhere = b"23 28 0:21 / /chroot/proc rw - proc proc rw,hidepid=2\n";
        assert!(hiding_options(elsewhere).is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = hiding_options(&bytes);
        }
    }
}
