//! The name of a controlling terminal from its device number.

/// The name below `/dev`, or the numbers where the driver is not a usual one; `None` for no terminal.
///
/// Major numbers are those of the kernel's `devices.txt`.
pub(crate) fn name(device: u32) -> Option<String> {
    if device == 0 {
        return None;
    }
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0x000f_ff00);
    Some(match (major, minor) {
        (4, 0..=63) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (5, 0) => "tty".to_owned(),
        (5, 1) => "console".to_owned(),
        (136..=143, _) => format!("pts/{}", minor + (major - 136) * 256),
        (188, _) => format!("ttyUSB{minor}"),
        (204, 64..) => format!("ttyAMA{}", minor - 64),
        (229, _) => format!("hvc{minor}"),
        _ => format!("{major}:{minor}"),
    })
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn terminals_have_the_names_of_their_devices() {
        for (device, expected) in [
            (0x8800, Some("pts/0")),
            (0x8801, Some("pts/1")),
            (0x0010_8800, Some("pts/256")),
            (0x0401, Some("tty1")),
            (0x0440, Some("ttyS0")),
            (0x0501, Some("console")),
            (0xe500, Some("hvc0")),
            (0x0703, Some("7:3")),
            (0, None),
        ] {
            assert_eq!(name(device).as_deref(), expected, "{device:#x}");
        }
        let _ = name(u32::MAX);
    }
}
