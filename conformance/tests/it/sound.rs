//! Collectors that are right pass every check.

use daemoneye_conformance::Subject;
use std::path::Path;
use std::process::Command;
use testkit::binary;

fn passes(name: &str, program: &str, arguments: &[&str], settings: &str) {
    let mut command = vec![binary(program).into_os_string()];
    command.extend(arguments.iter().map(Into::into));
    let mut subject = Subject::new(name, command);
    settings.clone_into(&mut subject.settings);
    let faults: Vec<_> =
        daemoneye_conformance::run(&subject).into_iter().filter(|(_, verdict)| verdict.is_err()).collect();
    assert!(faults.is_empty(), "{program}: {faults:#?}");
}

#[test]
fn procmond_passes() {
    let dir = std::env::temp_dir().join(format!("daemoneye-conformance-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let config = dir.join("config.toml");
    std::fs::write(&config, "[app]\nscan_interval_ms = 100\nmax_scan_cpu = 50.0\n").unwrap();
    passes("procmond", "procmond", &["--config", config.to_str().unwrap()], "{}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_small_example_passes() {
    passes("census", "daemoneye-census", &[], "{\"interval_ms\":50}");
}

#[test]
fn a_collector_without_any_library_passes() {
    passes("bare", "daemoneye-defective", &[], "{}");
}

#[test]
fn the_program_says_which_checks_fail_and_exits_accordingly() {
    let run = |defect: &[&str], checks: &[&str]| {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_daemoneye-conformance")));
        for check in checks {
            command.args(["--check", check]);
        }
        let output = command.arg("--").arg(binary("daemoneye-defective")).args(defect).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = run(&[], &["hello", "schema"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("2 of 2 checks passed\n"), "{said}");
    let (code, said) = run(&["--defect", "double-column"], &["hello", "schema"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("FAIL  schema") && said.contains("\"pid\" twice"), "{said}");
}
