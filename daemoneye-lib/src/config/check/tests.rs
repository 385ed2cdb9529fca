//! What `config check` finds, and that it finds nothing where all is well.

use super::super::{Environment, Overrides, create_private_dir, load};
use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

/// A place where everything is as it should be, with the shipped kind of rules directory.
struct Place {
    dir: TempDir,
    env: Environment,
    host: Host,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("de").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["data", "data/run", "rules", "programs"] {
            create_private_dir(&at(name)).unwrap();
        }
        fs::write(at("rules/a.toml"), "").unwrap();
        fs::set_permissions(at("rules/a.toml"), Permissions::from_mode(0o644)).unwrap();
        let env = Environment {
            variables: BTreeMap::from([("HOME".to_owned(), at("home").into_os_string())]),
            uid: 1000,
            privileged: false,
            current_dir: dir.path().to_owned(),
            system_dir: at("etc"),
        };
        let host = Host {
            free_bytes: |_| Some(1 << 40),
            is_in_memory: |_| false,
            memory_bytes: Some(16 << 30),
            programs: Some(at("programs")),
        };
        Self { dir, env, host }
    }

    /// What is not ok, as `key: detail`, with this configuration beside the directories.
    fn found(&self, component: Component, text: &str) -> Vec<(Verdict, String)> {
        let at = |name: &str| self.dir.path().join(name);
        fs::write(at("c.toml"), text).unwrap();
        let flags = Overrides::new(Some("c.toml".into())).with("app.data_dir", "--data-dir", Some(at("data"))).with(
            "rules.dir",
            "--rules-dir",
            Some(at("rules")),
        );
        let loaded = load(component, &flags, &self.env).unwrap();
        let found = check(component, &loaded, &self.host).into_iter();
        found
            .filter(|finding| finding.verdict != Verdict::Ok)
            .inspect(|finding| assert!(finding.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{finding:?}"))
            .map(|Finding { key, detail, verdict, .. }| {
                (verdict, format!("{key}: {detail}").replace(&self.dir.path().display().to_string(), ""))
            })
            .collect()
    }

    /// The one thing that is wrong.
    fn only(&self, component: Component, text: &str, verdict: Verdict, words: &str) {
        let found = self.found(component, text);
        assert!(found.len() == 1 && found[0].0 == verdict && found[0].1.contains(words), "{words}: {found:?}");
    }
}

#[test]
fn defaults_on_a_sound_host_are_reasonable_for_every_program() {
    let place = Place::new();
    for component in [Component::Agent, Component::Procmond, Component::Cli] {
        assert_eq!(place.found(component, ""), [], "{component:?}");
    }
}

#[test]
fn values_that_are_hardly_meant_are_warnings() {
    let place = Place::new();
    let warning = |component, text: &str, words: &str| place.only(component, text, Verdict::Warning, words);
    use Component::{Agent, Procmond};
    warning(Procmond, "app.scan_interval_ms = 100", "app.scan_interval_ms: 10 scans a second");
    warning(Procmond, "app.scan_interval_ms = 60000", "shorter than 60 s may never be seen");
    warning(Procmond, "app.max_scan_cpu = 80", "80 % of a core");
    warning(Procmond, "collector.orphan_timeout_s = 3", "collector.orphan_timeout_s");
    warning(Procmond, "procmond.snapshot_interval_ms = 1000", "86400 rows a day");
    warning(Agent, "app.log_level = \"trace\"", "app.log_level");
    warning(Agent, "agent.query_memory_bytes = 1048576", "refused its memory");
    warning(Agent, "agent.query_memory_bytes = 17179869184", "more than half of");
    warning(Agent, "agent.query_timeout_ms = 100", "cut short");
    warning(Agent, "agent.max_restarts_per_minute = 0", "not started again");
    warning(Agent, "agent.retention_s = 599", "agent.retention_s: events are gone after 599 s");
    warning(Agent, "agent.alert_retention_s = 60", "agent.alert_retention_s: alerts are gone after 60 s");
    warning(Agent, "agent.alert_retention_s = 86400", "alerts go before the events that led to them");
    warning(Agent, "collectors.procmond.enabled = false", "nobody watches the processes of this host");
    warning(Procmond, "procmond.mask_secrets = false", "procmond.mask_secrets: passwords and tokens");
    warning(Procmond, "procmond.hash_executables = false", "procmond.hash_executables: rules and answers know no hash");
    warning(Procmond, "procmond.hash_max_file_bytes = 1000", "most executables are larger");
    warning(
        Procmond,
        "procmond.hash_max_file_bytes = 1099511627776\nprocmond.hash_max_bytes_per_second = 1048576",
        "is read for 1048576 s",
    );
    let sinks =
        "[sinks.a]\ntype = \"file\"\npath = \"/tmp/de-none\"\n[sinks.b]\ntype = \"file\"\npath = \"/tmp/de-none\"";
    warning(Agent, sinks, "sinks.b.path: the sink `a` writes to the same file");
    // Nothing of the one program's is the other's business.
    assert_eq!(place.found(Agent, "app.scan_interval_ms = 100"), []);
}

#[test]
fn what_has_no_effect_is_said() {
    let place = Place::new();
    let second = |component, text: &str, words: &str| {
        let found = place.found(component, text);
        assert!(found.len() == 2 && found[1].1 == words, "{words}: {found:?}");
    };
    let unmasked = "procmond.mask_secrets = false\nprocmond.mask_names = [\"x\"]";
    second(Component::Procmond, unmasked, "procmond.mask_names: it has no effect: procmond.mask_secrets is false");
    let unhashed = "procmond.hash_executables = false\nprocmond.hash_queue = 1024";
    second(Component::Procmond, unhashed, "procmond.hash_queue: it has no effect: procmond.hash_executables is false");
    let unlike = "procmond.fuzzy_threshold: it has no effect: procmond.fuzzy_hashes is false";
    place.only(Component::Procmond, "procmond.fuzzy_threshold = 10", Verdict::Warning, unlike);
    for component in [Component::Agent, Component::Procmond, Component::Cli] {
        place.only(component, "app.bus_keys = \"/k\"", Verdict::Warning, "app.bus_keys: it has no effect");
    }
}

#[test]
fn the_program_of_a_collector_is_there_runs_and_is_nobody_elses() {
    let place = Place::new();
    let path = place.dir.path().join("programs/x");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let of = |command: &str| format!("[collectors.x]\ncommand = [\"{command}\"]");
    let absolute = of(&path.display().to_string());
    let warning = |words: &str| {
        for text in [&of("x"), &absolute] {
            place.only(Component::Agent, text, Verdict::Warning, words);
        }
    };
    warning("collectors.x.command: the agent cannot start it: No such file");
    fs::create_dir(&path).unwrap();
    warning("it is no file");
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "").unwrap();
    mode(&path, 0o644);
    warning("it is not executable (mode 0644)");
    mode(&path, 0o775);
    warning("others than its owner (mode 0775) can write to /programs/x");
    mode(&path, 0o755);
    assert_eq!(place.found(Component::Agent, &absolute), []);
    mode(path.parent().unwrap(), 0o777);
    warning("(mode 0777) can write to /programs, and so decide what the agent starts");
    // One that is switched off is not started.
    assert_eq!(place.found(Component::Agent, &format!("{absolute}\nenabled = false")), []);
}

#[test]
fn keys_of_the_bus_are_there_and_private() {
    let place = Place::new();
    let noise = "app.bus_encryption = \"noise\"";
    let keys = place.dir.path().join("data/keys");
    assert_eq!(place.found(Component::Agent, noise), [], "the agent makes them");
    let missing = |component, name: &str| {
        place.only(component, noise, Verdict::Warning, &format!("app.bus_keys: there is no /data/keys/{name}"));
    };
    missing(Component::Cli, "agent.pub");
    create_private_dir(&keys).unwrap();
    fs::write(keys.join("agent.pub"), "").unwrap();
    place.only(Component::Agent, noise, Verdict::Unusable, "agent.pub is there, and /data/keys/agent.key is not");
    missing(Component::Cli, "operator.key");
    missing(Component::Procmond, "collector.procmond.key");
    for (component, name) in
        [(Component::Agent, "agent"), (Component::Cli, "operator"), (Component::Procmond, "collector.procmond")]
    {
        let key = keys.join(format!("{name}.key"));
        fs::write(&key, "").unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        place.only(component, noise, Verdict::Unusable, &format!("can read /data/keys/{name}.key (mode 0640)"));
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(place.found(component, noise), []);
    }
}

#[test]
fn what_the_host_lacks_is_a_warning() {
    let mut place = Place::new();
    place.host.is_in_memory = |_| true;
    place.only(Component::Agent, "", Verdict::Warning, "app.data_dir: it lies on a file system in memory");
    place.host.is_in_memory = |_| false;
    place.host.free_bytes = |_| Some(1_000_000);
    place.only(Component::Procmond, "", Verdict::Warning, "collector.spool_max_bytes: 1000000 bytes are free");
    place.only(Component::Agent, "", Verdict::Warning, "1000000 bytes are free there: the event store");
    place.host.free_bytes = |_| Some(1 << 30);
    place.only(
        Component::Agent,
        "",
        Verdict::Warning,
        "agent.max_store_bytes: the store has 0 bytes, and 1073741824 are",
    );
}

#[test]
fn variables_are_judged_too() {
    let mut place = Place::new();
    let set = |place: &mut Place, name: &str, value: &str| {
        place.env.variables.insert(name.to_owned(), value.into());
    };
    set(&mut place, "PROCMOND_COLLECTOR_EVENT_BUFFER_SIZE", "2");
    place.only(Component::Procmond, "", Verdict::Warning, "PROCMOND_COLLECTOR_EVENT_BUFFER_SIZE: the source waits");
    set(&mut place, "DAEMONEYE_AGENT_TEST_MODE", "1");
    place.only(Component::Agent, "", Verdict::Warning, "DAEMONEYE_AGENT_TEST_MODE: the agent is one for tests");
}

#[test]
fn rules_that_others_can_write_are_a_warning_and_none_is_too() {
    let place = Place::new();
    let at = |name: &str| place.dir.path().join(name);
    let mode = |name: &str, mode| fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    let warning = |words: &str| place.only(Component::Agent, "", Verdict::Warning, words);
    mode("rules/a.toml", 0o664);
    warning("write to /rules/a.toml (mode 0664)");
    mode("rules/a.toml", 0o644);
    mode("rules", 0o757);
    warning("write to /rules (mode 0757)");
    mode("rules", 0o755);
    std::os::unix::fs::symlink(at("rules"), at("rules/round")).unwrap();
    fs::rename(at("rules/a.toml"), at("rules/a.txt")).unwrap();
    warning("there is no *.toml in it");
}

#[test]
fn what_cannot_be_used_is_said_with_the_way_out() {
    let place = Place::new();
    let unusable = |text: &str, words: &str| place.only(Component::Agent, text, Verdict::Unusable, words);
    let sink = |path: &str| format!("[sinks.a]\ntype = \"file\"\npath = \"{path}\"");
    unusable(&sink("/nowhere/at/all/x"), "sinks.a.path: /nowhere/at/all does not exist");
    unusable(&sink("/proc"), "sinks.a.path: is a directory");
    let link = place.dir.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    unusable(&sink(&link.display().to_string()), "symbolic link");
    let mut config = load(Component::Cli, &Overrides::default(), &place.env).unwrap().config;
    config.app.runtime_dir = PathBuf::from(format!("/{}", "x".repeat(120)));
    let mut check = Check { config: &config, host: &place.host, found: Vec::new() };
    check.socket();
    assert!(
        check.found[0].verdict == Verdict::Unusable && check.found[0].detail.contains("too long"),
        "{:?}",
        check.found
    );
}
