//! `/proc/PID/cgroup`: where a process is in the hierarchy of control groups, and which container that means.
//!
//! The names of groups are conventions of the container runtimes. Whoever may create groups may imitate them, so a
//! container id is what the host says, not a proof.

use daemoneye_lib::proto::common::ProcessRecord;

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

/// The root of our own cgroup namespace, in the paths that the kernel's programs see: what `/proc` shows to us begins there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root(Vec<u8>);

impl Root {
    /// From the path of a group and what `/proc` shows of it; nothing where it lies outside of the namespace.
    pub(crate) fn of(absolute: &[u8], shown: &[u8]) -> Option<Self> {
        let root = if shown == b"/" { absolute } else { absolute.strip_suffix(shown)? };
        Some(Self(root.strip_suffix(b"/").unwrap_or(root).to_vec()))
    }

    /// The path of what `/proc` shows like this.
    pub(crate) fn absolute(&self, shown: &[u8]) -> Vec<u8> {
        let mut path = self.0.clone();
        for name in shown.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if name == b".." {
                path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
            } else {
                path.push(b'/');
                path.extend_from_slice(name);
            }
        }
        if path.is_empty() { b"/".to_vec() } else { path }
    }
}

/// What the path of a group says of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The innermost container: the 64 hex digits that Docker, containerd, Podman and CRI-O give one, the id of a container
    /// of an ECS task, or the name of an LXC or nspawn one.
    pub(crate) container: Option<String>,
    /// What made that container, where its group's name tells.
    pub(crate) runtime: Option<&'static str>,
    /// The innermost pod: the uid of Kubernetes' (of a static one the hash of its file), or the id of Podman's.
    pub(crate) pod: Option<String>,
}

/// What the path of a group says of containers, in its record.
pub(crate) fn put_membership(path: Option<&[u8]>, record: &mut ProcessRecord) {
    let Membership { container, runtime, pod } = path.map(membership).unwrap_or_default();
    record.container_id = container;
    for (note, value) in [("container_runtime", runtime.map(str::to_owned)), ("pod_id", pod)] {
        record.platform_data.extend(value.map(|value| (note.to_owned(), value)));
    }
}

/// The container and the pod that the path of a group names.
pub(crate) fn membership(path: &[u8]) -> Membership {
    let mut found = Membership::default();
    let (mut parent, mut in_kubernetes) = ("", false);
    for segment in path.split(|byte| *byte == b'/') {
        // No runtime gives a name that is not UTF-8.
        let segment = std::str::from_utf8(segment).unwrap_or_default();
        in_kubernetes |= segment.contains("kubepods");
        if let Some(pod) = pod_of(segment, parent, in_kubernetes) {
            found.pod = Some(pod);
        }
        if let Some((container, runtime)) = container_of(segment, parent) {
            (found.container, found.runtime) = (Some(container), runtime);
        }
        parent = segment;
    }
    found
}

fn container_of(segment: &str, parent: &str) -> Option<(String, Option<&'static str>)> {
    if let Some(name) = named(segment, parent) {
        return Some(name);
    }
    let unit = segment.strip_suffix(".scope").or_else(|| segment.strip_suffix(".service")).unwrap_or(segment);
    // "…slice:cri-containerd:ID" is what containerd writes where the kubelet names groups for systemd and it does not.
    let (prefix, id) = unit.rsplit_once([':', '-']).unwrap_or(("", unit));
    let prefix = prefix.rsplit_once(':').map_or(prefix, |(_, runtime)| runtime);
    // Podman's and CRI-O's monitor of a container lives in a group of its own beside it.
    if is_hex(id, 64) && !prefix.ends_with("conmon") && !(prefix.is_empty() && parent == PODMAN_PARENT) {
        let runtime = match prefix {
            "docker" => Some("docker"),
            "cri-containerd" | "containerd" | "nerdctl" => Some("containerd"),
            "libpod" | "libpod-payload" => Some("podman"),
            "crio" => Some("cri-o"),
            "" if parent == "docker" => Some("docker"),
            _ => None,
        };
        return Some((id.to_owned(), runtime));
    }
    // ECS on Fargate: 32 hex digits, a dash, a number.
    let (task, number) = segment.split_once('-')?;
    let is_ecs = is_hex(task, 32) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_ecs.then(|| (segment.to_owned(), None))
}

/// Containers that have a name in the place of an id.
fn named(segment: &str, parent: &str) -> Option<(String, Option<&'static str>)> {
    let lxc = match parent {
        // Before LXC 4.0.
        "lxc" | "lxc.payload" => Some(segment),
        _ => segment.strip_prefix("lxc.payload."),
    };
    let nspawn = || {
        let service = segment.strip_prefix("systemd-nspawn@").and_then(|unit| unit.strip_suffix(".service"));
        // Of the scopes that systemd-machined makes, virtual machines have their driver in the name.
        let scope = || segment.strip_prefix("machine-")?.strip_suffix(".scope");
        let name = unescaped(service.or_else(scope)?)?;
        (!name.starts_with("qemu-")).then_some(name)
    };
    let named = match lxc {
        Some(name) => (name.to_owned(), Some("lxc")),
        None => (nspawn()?, Some("systemd-nspawn")),
    };
    Some(named).filter(|(name, _)| !name.is_empty())
}

/// The group of Podman's pods and containers where systemd does not make the groups.
const PODMAN_PARENT: &str = "libpod_parent";

fn pod_of(segment: &str, parent: &str, in_kubernetes: bool) -> Option<String> {
    let unit = segment.split_once(".slice").map_or(segment, |(unit, _)| unit);
    if let Some((_, id)) = unit.rsplit_once("libpod_pod_") {
        return is_hex(id, 64).then(|| id.to_owned());
    }
    if parent == PODMAN_PARENT && is_hex(segment, 64) {
        return Some(segment.to_owned());
    }
    // In a slice's name a dash parts it from the slice above it, so that the uid's own dashes are underscores there.
    let uid =
        unit.strip_prefix("pod").or_else(|| unit.rsplit_once("-pod").map(|(_, uid)| uid)).filter(|_| in_kubernetes)?;
    let uid = uid.replace('_', "-");
    let digits: String = uid.split('-').collect();
    (is_hex(&digits, 32) && matches!(uid.len(), 32 | 36)).then_some(uid)
}

/// A part of a unit's name without systemd's escapes: `\x2d` for a dash.
fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split("\\x");
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(part.get(2..)?.bytes());
    }
    String::from_utf8(bytes).ok()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_namespace_shows_has_one_path() {
        for (absolute, shown, root) in
            [("/docker/a", "/", "/docker/a"), ("/docker/a/b", "/b", "/docker/a"), ("/a", "/a", ""), ("/", "/", "")]
        {
            assert_eq!(Root::of(absolute.as_bytes(), shown.as_bytes()), Some(Root(root.into())), "{absolute} {shown}");
        }
        assert_eq!(Root::of(b"/other", b"/../other"), None);
        let root = Root(b"/docker/a".to_vec());
        for (shown, absolute) in [
            ("/", "/docker/a"),
            ("/b/c", "/docker/a/b/c"),
            ("/../x", "/docker/x"),
            ("/../../..", "/"),
            ("/../../y", "/y"),
        ] {
            assert_eq!(root.absolute(shown.as_bytes()), absolute.as_bytes(), "{shown}");
        }
    }

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

    /// Stand for their letters in the paths below.
    const ID: &str = "605439acbd4fb18c145069289094b17f17e0cfa938f78012d4960bc797305f22";
    const OUTER: &str = "73bfe475650de66df8e2affdc98d440dcbe84f8df83b6f75a68a82eb7026136a";
    const UID: &str = "dc380811-8168-4a9e-9b4a-56ded1b6fe9c";
    const STATIC: &str = "0cea0b1f3b7c3e7a4b1d2c3e4f5a6b7c";

    /// Path, container, runtime, pod; `-` for none.
    #[track_caller]
    fn assert_all(cases: &[(&str, &str, &str, &str)]) {
        let filled = |text: &str| {
            let slice_uid = UID.replace('-', "_");
            let names =
                [("<ID>", ID), ("<OUTER>", OUTER), ("<UID>", UID), ("<U_I_D>", &slice_uid), ("<STATIC>", STATIC)];
            names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        for (path, container, runtime, pod) in cases {
            let path = filled(path);
            let Membership { container: id, runtime: made_by, pod: of } = membership(path.as_bytes());
            let found = [id.as_deref(), made_by, of.as_deref()].map(|found| found.unwrap_or("-").to_owned());
            assert_eq!(found, [filled(container), (*runtime).to_owned(), filled(pod)], "{path}");
        }
    }

    #[test]
    fn docker() {
        assert_all(&[
            ("/docker/<ID>", "<ID>", "docker", "-"),
            ("/system.slice/docker-<ID>.scope", "<ID>", "docker", "-"),
            ("/system.slice/docker-<ID>.scope/init.scope", "<ID>", "docker", "-"),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-<ID>.scope", "<ID>", "docker", "-"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service/system.slice/docker/<ID>",
                "<ID>",
                "docker",
                "-",
            ),
            ("/system.slice/containerd.service/system.slice:docker:<ID>", "<ID>", "docker", "-"),
            // With a parent of the operator's choice, or none.
            ("/limited/<ID>", "<ID>", "-", "-"),
            ("/<ID>", "<ID>", "-", "-"),
            // Docker's daemon is in no container.
            ("/system.slice/docker.service", "-", "-", "-"),
            ("/docker/buildkit", "-", "-", "-"),
        ]);
    }

    #[test]
    fn containerd() {
        assert_all(&[
            ("/system.slice/nerdctl-<ID>.scope", "<ID>", "containerd", "-"),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/nerdctl-<ID>.scope", "<ID>", "containerd", "-"),
            ("/system.slice/containerd-<ID>.scope", "<ID>", "containerd", "-"),
            ("/default/<ID>", "<ID>", "-", "-"),
            ("/system.slice/containerd.service", "-", "-", "-"),
        ]);
    }

    #[test]
    fn podman() {
        assert_all(&[
            ("/machine.slice/libpod-<ID>.scope", "<ID>", "podman", "-"),
            ("/machine.slice/libpod-<ID>.scope/container", "<ID>", "podman", "-"),
            ("/machine.slice/libpod-<ID>.scope/container/init.scope", "<ID>", "podman", "-"),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<ID>.scope/container",
                "<ID>",
                "podman",
                "-",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-<ID>",
                "<ID>",
                "podman",
                "-",
            ),
            (
                "/machine.slice/machine-libpod_pod_<OUTER>.slice/libpod-<ID>.scope/container",
                "<ID>",
                "podman",
                "<OUTER>",
            ),
            ("/user.slice/user-libpod_pod_<OUTER>.slice/libpod-<ID>.scope", "<ID>", "podman", "<OUTER>"),
            ("/libpod_parent/libpod-<ID>", "<ID>", "podman", "-"),
            ("/libpod_parent/<OUTER>/libpod-<ID>", "<ID>", "podman", "<OUTER>"),
            ("/libpod_parent/<OUTER>", "-", "-", "<OUTER>"),
            ("/machine.slice/libpod-conmon-<ID>.scope", "-", "-", "-"),
            ("/libpod_parent/libpod-conmon-<ID>", "-", "-", "-"),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/podman-pause-651d8c4c.scope", "-", "-", "-"),
        ]);
    }

    #[test]
    fn kubernetes_with_groups_of_its_own() {
        assert_all(&[
            ("/kubepods/besteffort/pod<UID>/<ID>", "<ID>", "-", "<UID>"),
            ("/kubepods/burstable/pod<UID>/<ID>", "<ID>", "-", "<UID>"),
            ("/kubepods/pod<UID>/<ID>", "<ID>", "-", "<UID>"),
            ("/kubepods/burstable/pod<STATIC>/<ID>", "<ID>", "-", "<STATIC>"),
            ("/kubepods/besteffort/pod<UID>/crio-<ID>", "<ID>", "cri-o", "<UID>"),
            ("/kubepods/besteffort/pod<UID>/crio-conmon-<ID>", "-", "-", "<UID>"),
            ("/kubepods/besteffort/pod<UID>", "-", "-", "<UID>"),
            ("/kubelet/kubepods/besteffort/pod<UID>/<ID>", "<ID>", "-", "<UID>"),
            ("/kubepods/besteffort", "-", "-", "-"),
        ]);
    }

    #[test]
    fn kubernetes_with_groups_of_systemds() {
        const QOS: &str = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<U_I_D>.slice";
        let below = |rest: &str| format!("{QOS}{rest}");
        for (rest, container, runtime) in [
            ("/cri-containerd-<ID>.scope", "<ID>", "containerd"),
            ("/crio-<ID>.scope", "<ID>", "cri-o"),
            ("/crio-<ID>.scope/container", "<ID>", "cri-o"),
            ("/docker-<ID>.scope", "<ID>", "docker"),
            ("/crio-conmon-<ID>.scope", "-", "-"),
            ("", "-", "-"),
        ] {
            assert_all(&[(&below(rest), container, runtime, "<UID>")]);
        }
        assert_all(&[
            ("/kubepods.slice/kubepods-pod<U_I_D>.slice/cri-containerd-<ID>.scope", "<ID>", "containerd", "<UID>"),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<STATIC>.slice/crio-<ID>.scope",
                "<ID>",
                "cri-o",
                "<STATIC>",
            ),
            // The kubelet names groups for systemd, and containerd does not.
            (
                "/system.slice/containerd.service/kubepods-burstable-pod<U_I_D>.slice:cri-containerd:<ID>",
                "<ID>",
                "containerd",
                "<UID>",
            ),
            ("/kubepods-burstable-pod<U_I_D>.slice:cri-containerd:<ID>", "<ID>", "containerd", "<UID>"),
            // kind: a cluster in a container.
            (
                "/system.slice/docker-<OUTER>.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
                 kubelet-kubepods-besteffort-pod<U_I_D>.slice/cri-containerd-<ID>.scope",
                "<ID>",
                "containerd",
                "<UID>",
            ),
            ("/kubepods.slice/kubepods-besteffort.slice", "-", "-", "-"),
        ]);
    }

    #[test]
    fn ecs() {
        assert_all(&[
            ("/ecs/<STATIC>/<ID>", "<ID>", "-", "-"),
            ("/ecs/cluster/<STATIC>/<ID>", "<ID>", "-", "-"),
            ("/ecstasks.slice/ecstasks-<STATIC>.slice/docker-<ID>.scope", "<ID>", "docker", "-"),
            ("/ecs/<STATIC>/<STATIC>-2531612879", "<STATIC>-2531612879", "-", "-"),
            ("/ecs/<STATIC>-x", "-", "-", "-"),
        ]);
    }

    #[test]
    fn lxc_and_nspawn() {
        assert_all(&[
            ("/lxc/web", "web", "lxc", "-"),
            ("/lxc/101/ns/init.scope", "101", "lxc", "-"),
            ("/lxc.payload/web/system.slice/cron.service", "web", "lxc", "-"),
            ("/lxc.payload.web/system.slice/cron.service", "web", "lxc", "-"),
            ("/lxc.payload.web/.lxc", "web", "lxc", "-"),
            ("/lxc.monitor.web", "-", "-", "-"),
            ("/lxc.monitor/web", "-", "-", "-"),
            ("/lxc.payload.", "-", "-", "-"),
            ("/lxc", "-", "-", "-"),
            ("/machine.slice/systemd-nspawn@web.service/payload/system.slice", "web", "systemd-nspawn", "-"),
            ("/machine.slice/systemd-nspawn@web\\x2d1.service/payload", "web-1", "systemd-nspawn", "-"),
            ("/machine.slice/machine-web.scope/payload", "web", "systemd-nspawn", "-"),
            ("/machine.slice/machine-qemu\\x2d1\\x2dwin11.scope/libvirt/emulator", "-", "-", "-"),
            ("/machine.slice/machine-x\\x2.scope", "-", "-", "-"),
        ]);
    }

    #[test]
    fn of_nested_containers_the_innermost() {
        assert_all(&[
            ("/docker/<OUTER>/docker/<ID>", "<ID>", "docker", "-"),
            ("/lxc.payload.web/docker/<ID>", "<ID>", "docker", "-"),
            ("/docker/<OUTER>/lxc.payload.web/init.scope", "web", "lxc", "-"),
            ("/kubepods/besteffort/pod<UID>/<OUTER>/docker/<ID>", "<ID>", "docker", "<UID>"),
            ("/docker/<OUTER>/kubelet/kubepods/burstable/pod<STATIC>/<ID>", "<ID>", "-", "<STATIC>"),
            // A monitor in it, and what it runs in.
            ("/docker/<OUTER>/machine.slice/libpod-conmon-<ID>.scope", "<OUTER>", "docker", "-"),
        ]);
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        assert_all(&[
            ("/", "-", "-", "-"),
            ("/init.scope", "-", "-", "-"),
            ("/system.slice/ssh.service", "-", "-", "-"),
            ("/system.slice/system-getty.slice/getty@tty1.service", "-", "-", "-"),
            ("/user.slice/user-1000.slice/session-1.scope", "-", "-", "-"),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.x-1234.scope", "-", "-", "-"),
            ("/system.slice/run-r<STATIC>.scope", "-", "-", "-"),
            // A user's group of that name, outside of Kubernetes.
            ("/user.slice/pod<UID>", "-", "-", "-"),
            ("/kubepods/besteffort/pod<UID>0", "-", "-", "-"),
            ("/kubepods/besteffort/podium", "-", "-", "-"),
        ]);
        assert_eq!(membership(format!("/docker/{}", ID.to_uppercase()).as_bytes()), Membership::default());
        assert_eq!(membership(format!("/docker/{}", &ID[1..]).as_bytes()), Membership::default());
        let strange = [b"/docker/\xff/", ID.as_bytes()].concat();
        assert_eq!(membership(&strange).container.as_deref(), Some(ID));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, text in "(/|-|:|_|\\.|pod|kubepods|slice|scope|lxc|\\\\x|[0-9a-f]{32}|é){0,12}") {
            let _ = path(&bytes);
            let _ = membership(&bytes);
            let _ = membership(text.as_bytes());
        }
    }
}
