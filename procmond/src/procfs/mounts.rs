//! `/proc/PID/mountinfo`: whether the mount options of `/proc` hide processes, and what is mounted.

use super::number;

/// The device of the file system that this mount is of, as the kernel numbers it; stat(2) may give files on it another.
pub(crate) fn device(mountinfo: &[u8], mount: u64) -> Option<(u32, u32)> {
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = fields.next().and_then(number::<u64>)?;
        let device = fields.nth(1).filter(|_| id == mount)?;
        let colon = device.iter().position(|byte| *byte == b':')?;
        Some((number(&device[..colon])?, number(&device[colon + 1..])?))
    })
}

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
    use super::{device, hiding_options};
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

    #[test]
    fn a_mount_has_the_device_of_its_file_system() {
        let table = b"1 2 0:3 / / rw - ext4 /dev/x rw\n23 28 0:21 / /x rw - fuse x rw\n12 1 broken\n";
        assert_eq!(
            [1, 23, 2, 28, 12].map(|mount| device(table, mount)),
            [Some((0, 3)), Some((0, 21)), None, None, None]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = (hiding_options(&bytes), device(&bytes, 1));
        }
    }
}
