//! Where processes are seen, on a host that lacks this or that.

use crate::program::procmond;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "PROCMOND_PROCMOND__SOURCE";

/// What procmond says when it begins; nobody is there to take its events, so it ends at once.
fn said(mut command: Command) -> String {
    let output = command.env("NO_COLOR", "1").output().unwrap();
    assert!(!output.status.success(), "without an agent and a token it cannot run");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The same after a shell, in namespaces of its own, has changed what it finds; mounts are always of its own, so that the
/// host's stay as they are.
fn changed(dir: &Path, namespaces: &[&str], change: &str, source: &str) -> String {
    let inner = procmond(dir);
    let mut command = Command::new("unshare");
    command.arg("--mount").args(namespaces).args(["/bin/sh", "-c", &format!("{change} && exec \"$0\" \"$@\"")]);
    command.arg(inner.get_program()).args(inner.get_args()).env(SOURCE, source);
    said(command)
}

const NO_BTF: &str = "mount -t tmpfs none /sys/kernel/btf";

#[test]
fn the_best_source_that_works_is_taken_and_the_others_say_what_is_missing() {
    if !testkit::require("root", testkit::is_root(), "makes namespaces") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = changed(dir.path(), &[], "true", "auto");
    assert!(whole.contains("mode=\"ebpf\" reason=\"the best source\""), "{whole}");
    let blind = changed(dir.path(), &[], NO_BTF, "auto");
    assert!(blind.contains("mode=\"connector\" reason=\"no eBPF: this kernel has no BTF"), "{blind}");
    let neither = changed(dir.path(), &["--net"], NO_BTF, "auto");
    assert!(neither.contains("mode=\"poll\" reason=\"no eBPF: this kernel has no BTF"), "{neither}");
    assert!(neither.contains("no connector: the proc connector is only in the host's first network namespace"));
}

#[test]
fn a_source_that_is_asked_for_and_cannot_work_is_an_error_with_what_is_missing() {
    if !testkit::require("root", testkit::is_root(), "makes namespaces and another user's process") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let refused = |said: &str, source: &str, reason: &str| {
        let expected = format!("error: procmond.source = \"{source}\" cannot work here: {reason}");
        assert!(said.contains(&expected), "{said}");
    };
    refused(&changed(dir.path(), &[], NO_BTF, "ebpf"), "ebpf", "this kernel has no BTF at /sys/kernel/btf/vmlinux");
    let net = changed(dir.path(), &["--net"], "true", "connector");
    refused(&net, "connector", "the proc connector is only in the host's first network namespace");
    let pid = changed(dir.path(), &["--pid", "--fork"], "mount -t proc none /proc", "connector");
    refused(&pid, "connector", "the proc connector answers only in the host's first PID namespace");

    let own = dir.path().join("procmond");
    std::fs::copy(env!("CARGO_BIN_EXE_procmond"), &own).unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut nobody = Command::new(own);
    nobody.arg("--config").arg(dir.path().join("config.toml")).arg("--data-dir").arg(dir.path().join("own"));
    nobody.env(SOURCE, "ebpf").env("HOME", dir.path()).uid(54_321).gid(54_321).current_dir("/");
    refused(&said(nobody), "ebpf", "the capabilities CAP_BPF and CAP_PERFMON");
}
