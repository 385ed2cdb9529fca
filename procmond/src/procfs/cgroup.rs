//! `/proc/PID/cgroup`: where a process is in the hierarchy of control groups, and which container that means.
//!
//! The names of groups are conventions of the container runtimes. Whoever may create groups may imitate them, so a
//! container id is what the host says, not a proof.

/// The path of the process's group, as bytes of the host.
///
/// The unified hierarchy (v2) counts where the process is in a group of it; else that of systemd, else the first
/// hierarchy (v1) in which it is in one. `None` when the file names no hierarchy.
pub(crate) fn path(file: &[u8]) -> Option<&[u8]> {
    let mut best: Option<(u8, &[u8])> = None;
    for line in file.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let rank = match (path, hierarchy, controllers) {
            (b"/", ..) => 3,
            (_, b"0", b"") => 0,
            (_, _, b"name=systemd") => 1,
            _ => 2,
        };
        if best.is_none_or(|(other, _)| rank < other) {
            best = Some((rank, path));
        }
    }
    best.map(|(_, path)| path)
}

/// The innermost container that the path of a group names: the 64 hex digits that Docker, containerd, Podman and CRI-O
/// give one (below Kubernetes or not), the id of an ECS task's container, or the name of an LXC or nspawn one.
pub(crate) fn container(path: &str) -> Option<&str> {
    path.split('/').rev().find_map(container_of_segment)
}

fn container_of_segment(segment: &str) -> Option<&str> {
    if let Some(name) = segment.strip_prefix("lxc.payload.") {
        return Some(name).filter(|name| !name.is_empty());
    }
    if let Some(name) = segment.strip_prefix("systemd-nspawn@").and_then(|unit| unit.strip_suffix(".service")) {
        return Some(name).filter(|name| !name.is_empty());
    }
    let unit = segment.strip_suffix(".scope").or_else(|| segment.strip_suffix(".service")).unwrap_or(segment);
    // "…slice:cri-containerd:ID" is what containerd writes where the kubelet names groups for systemd and it does not.
    let (runtime, id) = unit.rsplit_once([':', '-']).unwrap_or(("", unit));
    // Podman's and CRI-O's monitor of a container lives in a group of its own beside it.
    if is_hex(id, 64) && !runtime.ends_with("conmon") {
        return Some(id);
    }
    // ECS on Fargate: 32 hex digits, a dash, a number.
    let (task, number) = segment.split_once('-')?;
    (is_hex(task, 32) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(segment)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_group_that_says_most_is_taken() {
        for (file, expected) in [
            ("0::/user.slice/session-1.scope\n", Some("/user.slice/session-1.scope")),
            ("0::/\n", Some("/")),
            ("12:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n", Some("/c")),
            ("12:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/\n", Some("/b")),
            ("12:pids:/\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/\n", Some("/docker/x")),
            ("0::/with:colon\n", Some("/with:colon")),
            ("", None),
            ("garbage\n", None),
        ] {
            assert_eq!(path(file.as_bytes()), expected.map(str::as_bytes), "{file}");
        }
    }

    #[test]
    fn containers_of_the_usual_runtimes_are_recognized() {
        let id = "0123456789abcdef".repeat(4);
        let pod = "pod0f2c3a4b-1111-2222-3333-444455556666";
        for (path, expected) in [
            (format!("/docker/{id}"), Some(id.as_str())),
            (format!("/system.slice/docker-{id}.scope"), Some(&id)),
            (format!("/docker/{id}/init.scope"), Some(&id)),
            (format!("/kubepods/besteffort/{pod}/{id}"), Some(&id)),
            (format!("/kubepods.slice/kubepods-{pod}.slice/cri-containerd-{id}.scope"), Some(&id)),
            (format!("/system.slice/containerd.service/kubepods-{pod}.slice:cri-containerd:{id}"), Some(&id)),
            (format!("/kubepods.slice/x.slice/crio-{id}.scope"), Some(&id)),
            (format!("/kubepods.slice/x.slice/crio-conmon-{id}.scope"), None),
            (format!("/machine.slice/libpod-{id}.scope/container"), Some(&id)),
            (format!("/machine.slice/libpod-conmon-{id}.scope"), None),
            (format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope"), Some(&id)),
            (format!("/docker/{}/docker/{id}", "f".repeat(64)), Some(&id)),
            (format!("/ecs/task/{id}"), Some(&id)),
            (
                "/ecs/0123456789abcdef0123456789abcdef-1234567890".into(),
                Some("0123456789abcdef0123456789abcdef-1234567890"),
            ),
            ("/lxc.payload.web/system.slice/cron.service".into(), Some("web")),
            ("/machine.slice/systemd-nspawn@web.service/payload".into(), Some("web")),
            ("/system.slice/ssh.service".into(), None),
            ("/user.slice/user-1000.slice/session-1.scope".into(), None),
            (format!("/docker/{}", id.to_uppercase()), None),
            (format!("/docker/{}", &id[1..]), None),
            ("/".into(), None),
        ] {
            assert_eq!(container(&path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, text: String) {
            let _ = path(&bytes);
            let _ = container(&text);
        }
    }
}
