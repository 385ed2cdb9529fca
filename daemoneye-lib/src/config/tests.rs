use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A host of its own: system directory, home, variables.
struct Host {
    dir: TempDir,
    env: Environment,
}

impl Host {
    fn of_user() -> Self {
        let dir = TempDir::new().unwrap();
        let home = dir.path().join("home");
        let env = Environment {
            variables: BTreeMap::from([("HOME".to_owned(), home.into_os_string())]),
            uid: 1000,
            privileged: false,
            current_dir: PathBuf::from("/work"),
            system_dir: dir.path().join("etc"),
        };
        Self { dir, env }
    }

    fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.env.variables.insert(name.to_owned(), value.into());
        self
    }

    fn with_file(self, below: &str, text: &str) -> Self {
        let path = self.dir.path().join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn with_system_file(self, text: &str) -> Self {
        self.with_file("etc/config.toml", text)
    }

    fn with_user_file(self, text: &str) -> Self {
        self.with_file("home/.config/daemoneye/config.toml", text)
    }

    fn load(&self, component: Component, flags: &Overrides) -> Result<Loaded, ConfigError> {
        load(component, flags, &self.env)
    }

    fn agent(&self) -> Loaded {
        self.load(Component::Agent, &Overrides::default()).unwrap()
    }

    fn error(&self, component: Component) -> String {
        let error = self.load(component, &Overrides::default()).unwrap_err().to_string();
        error.replace(&self.dir.path().display().to_string(), "")
    }
}

fn origin_of<'a>(loaded: &'a Loaded, key: &str) -> &'a Origin {
    &loaded.settings.iter().find(|setting| setting.key == key).unwrap().origin
}

#[test]
fn defaults_alone_make_a_configuration() {
    let host = Host::of_user();
    let home = host.dir.path().join("home");
    let config = host.agent().config;
    assert_eq!(config.app.data_dir, home.join(".local/state/daemoneye"));
    assert_eq!(config.app.runtime_dir, home.join(".local/state/daemoneye/run"));
    assert_eq!(config.rules.dir, home.join(".config/daemoneye/rules"));
    assert_eq!(config.app.scan_interval_ms, 1_000);
    assert_eq!(config.cli.format, None);
    let log = home.join(".local/state/daemoneye/alerts.jsonl");
    assert_eq!(
        config.sinks,
        BTreeMap::from([
            ("console".to_owned(), Sink::Stdout { format: SinkFormat::Human }),
            ("log".to_owned(), Sink::File { format: SinkFormat::Jsonl, path: log }),
        ])
    );
}

#[test]
fn root_has_the_directories_of_the_system() {
    let mut host = Host::of_user();
    host.env.uid = 0;
    host.env.variables.clear();
    let config = host.agent().config;
    assert_eq!(config.app.data_dir, Path::new("/var/lib/daemoneye"));
    assert_eq!(config.app.socket(), Path::new("/run/daemoneye/agent.sock"));
    assert_eq!(config.rules.dir, host.env.system_dir.join("rules"));
    assert_eq!(config.app.directory_of(Component::Procmond), Path::new("/var/lib/daemoneye/procmond"));
}

#[test]
fn a_user_without_a_home_must_say_where_the_data_is() {
    let mut host = Host::of_user();
    host.env.variables.clear();
    let error = host.load(Component::Cli, &Overrides::default()).unwrap_err();
    assert!(error.hint().unwrap().contains("--data-dir"), "{error}");
    let flags = Overrides::default().with("app.data_dir", "--data-dir", Some("d"));
    assert_eq!(host.load(Component::Cli, &flags).unwrap().config.app.data_dir, Path::new("/work/d"));
}

#[test]
fn each_layer_covers_those_below() {
    const KEY: &str = "app.scan_interval_ms";
    let check = |host: &Host, flags: &Overrides, value: u64, layer: Layer| {
        let loaded = host.load(Component::Procmond, flags).unwrap();
        assert_eq!((loaded.config.app.scan_interval_ms, origin_of(&loaded, KEY).layer), (value, layer));
    };
    let none = Overrides::default();
    let host = Host::of_user();
    check(&host, &none, 1_000, Layer::Default);
    let host = host.with_system_file("[app]\nscan_interval_ms = 2000\nmax_scan_cpu = 7");
    check(&host, &none, 2_000, Layer::SystemFile);
    let host = host.with_user_file("[app]\nscan_interval_ms = 3000");
    check(&host, &none, 3_000, Layer::UserFile);
    assert_eq!(host.agent().config.app.max_scan_cpu, 7.0);
    let host = host.with_variable("PROCMOND_APP__SCAN_INTERVAL_MS", "15000");
    check(&host, &none, 15_000, Layer::Environment);
    check(&host, &Overrides::default().with(KEY, "--interval", Some("500")), 500, Layer::Flag);
    let loaded = host.load(Component::Procmond, &none).unwrap();
    assert_eq!(origin_of(&loaded, KEY).place, "PROCMOND_APP__SCAN_INTERVAL_MS");
    // The variables of one program are nothing to another.
    assert_eq!(host.agent().config.app.scan_interval_ms, 3_000);
}

#[test]
fn a_named_file_replaces_both_files() {
    let host = Host::of_user()
        .with_system_file("nonsense")
        .with_user_file("[app]\nscan_interval_ms = 3000")
        .with_file("own.toml", "[app]\nlog_level = \"debug\"");
    let own = host.dir.path().join("own.toml");
    let flags = Overrides::new(Some(own.clone()));
    let loaded = host.load(Component::Agent, &flags).unwrap();
    assert_eq!(loaded.config.app.scan_interval_ms, 1_000);
    assert_eq!(origin_of(&loaded, "app.log_level").place, format!("{}:2:1", own.display()));
    let missing = Overrides::new(Some("none.toml".into()));
    let error = host.load(Component::Agent, &missing).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration file /work/none.toml");
}

#[test]
fn the_runtime_directory_follows_a_higher_data_directory() {
    let host = Host::of_user().with_variable("XDG_RUNTIME_DIR", "/run/user/1000");
    assert_eq!(host.agent().config.app.runtime_dir, Path::new("/run/user/1000/daemoneye"));
    let data = Overrides::default().with("app.data_dir", "--data-dir", Some("/d"));
    let runtime = |host: &Host, flags: &Overrides| host.load(Component::Cli, flags).unwrap().config.app.runtime_dir;
    assert_eq!(runtime(&host, &data), Path::new("/d/run"));
    let host = host.with_system_file("[app]\nruntime_dir = \"/r\"");
    assert_eq!(runtime(&host, &Overrides::default()), Path::new("/r"));
    assert_eq!(runtime(&host, &data), Path::new("/d/run"));
    let both = data.with("app.runtime_dir", "--runtime-dir", Some("/q"));
    assert_eq!(runtime(&host, &both), Path::new("/q"));
    let host = host.with_system_file("[app]\ndata_dir = \"/d\"\nruntime_dir = \"/r\"");
    assert_eq!(runtime(&host, &Overrides::default()), Path::new("/r"));
}

#[test]
fn mistakes_in_files_are_named_with_their_place() {
    let error = |text: &str| Host::of_user().with_system_file(text).error(Component::Agent);
    assert_eq!(
        error("[app]\n  scan_intervall_ms = 5"),
        "unknown key `app.scan_intervall_ms` (/etc/config.toml:2:3); the nearest known one is `app.scan_interval_ms`"
    );
    assert_eq!(
        error("scan_interval_ms = 5"),
        "unknown key `scan_interval_ms` (/etc/config.toml:1:1); the nearest known one is `app.scan_interval_ms`"
    );
    assert_eq!(
        error("[sink.mail]\ntype = \"file\""),
        "unknown key `sink` (/etc/config.toml:1:2); the nearest known one is `sinks`"
    );
    assert_eq!(
        error("[sinks.log]\ntipe = \"file\""),
        "unknown key `sinks.log.tipe` (/etc/config.toml:2:1); the nearest known one is `sinks.log.type`"
    );
    assert_eq!(
        error("[app]\nscan_interval_ms = 50"),
        "`app.scan_interval_ms` is 50 (/etc/config.toml:2:1), allowed is a whole number from 100 to 3600000"
    );
    assert_eq!(
        error("app.log_level = 3"),
        "`app.log_level` is 3 (/etc/config.toml:1:5), allowed is one of error, warn, info, debug, trace"
    );
    assert_eq!(
        error("app.max_scan_cpu = nan"),
        "`app.max_scan_cpu` is nan (/etc/config.toml:1:5), allowed is a number from 0.1 to 100"
    );
    assert_eq!(
        error("[app]\ndata_dir = \"~/x\""),
        "`app.data_dir` is \"~/x\" (/etc/config.toml:2:1), allowed is an absolute path"
    );
    assert_eq!(error("app = 3"), "`app` is 3 (/etc/config.toml:1:1), allowed is a section");
    assert!(error("[app]\nx = ").starts_with("/etc/config.toml:2:"), "{}", error("[app]\nx = "));
}

#[test]
fn mistakes_in_variables_and_flags_are_named() {
    let error = |name: &str, value: &str| Host::of_user().with_variable(name, value).error(Component::Procmond);
    assert_eq!(
        error("PROCMOND_APP__SCAN_INTERVALL_MS", "5"),
        "unknown key `PROCMOND_APP__SCAN_INTERVALL_MS` (environment); the nearest known one is `PROCMOND_APP__SCAN_INTERVAL_MS`"
    );
    assert_eq!(
        error("PROCMOND_APP__SCAN_INTERVAL_MS", "often"),
        "`app.scan_interval_ms` is \"often\" (PROCMOND_APP__SCAN_INTERVAL_MS), allowed is a whole number from 100 to 3600000"
    );
    assert_eq!(
        error("PROCMOND_COLLECTOR_DEBUG_LOGGING", "maybe"),
        "`PROCMOND_COLLECTOR_DEBUG_LOGGING` is \"maybe\" (environment), allowed is 1, 0, true or false"
    );
    let flags = Overrides::default().with("app.data_dir", "--data-dir", Some(""));
    let error = Host::of_user().load(Component::Cli, &flags).unwrap_err();
    assert_eq!(error.to_string(), "`app.data_dir` is \"\" (--data-dir), allowed is an absolute path");
}

#[test]
fn variables_that_are_not_keys_are_taken_out_first() {
    let host = Host::of_user()
        .with_variable("PROCMOND_COLLECTOR_MAX_EVENT_SOURCES", "4")
        .with_variable("PROCMOND_COLLECTOR_EVENT_BUFFER_SIZE", "2048")
        .with_variable("PROCMOND_COLLECTOR_ENABLE_TELEMETRY", "true")
        .with_variable("PROCMOND_COLLECTOR_DEBUG_LOGGING", "1")
        .with_variable("DAEMONEYE_AGENT_TEST_MODE", "1");
    let procmond = host.load(Component::Procmond, &Overrides::default()).unwrap();
    let wanted = CollectorVariables {
        max_event_sources: Some(4),
        event_buffer_size: Some(2048),
        enable_telemetry: Some(true),
        debug_logging: Some(true),
        test_mode: true,
    };
    assert_eq!(procmond.collector_variables, wanted);
    assert_eq!(procmond.config.app.log_level, LogLevel::Debug);
    assert!(host.agent().test_mode);
    assert_eq!(
        (host.agent().config.app.scan_interval_ms, origin_of(&procmond, "app.scan_interval_ms").place.as_str()),
        (200, "test mode")
    );
    assert!(!host.load(Component::Cli, &Overrides::default()).unwrap().test_mode);
    let slow = Host::of_user()
        .with_variable("DAEMONEYE_AGENT_TEST_MODE", "true")
        .with_system_file("app.scan_interval_ms = 3000");
    assert_eq!(slow.agent().config.app.scan_interval_ms, 3_000);
    let off = Host::of_user().with_variable("DAEMONEYE_AGENT_TEST_MODE", "0");
    assert_eq!((off.agent().test_mode, off.agent().config.app.scan_interval_ms), (false, 1_000));
    assert!(
        Host::of_user()
            .with_variable("DAEMONEYE_AGENT_TEST_MODE", "maybe")
            .error(Component::Procmond)
            .contains("allowed is 1, 0")
    );
    let host = host.with_variable("PROCMOND_APP__LOG_LEVEL", "error");
    let procmond = host.load(Component::Procmond, &Overrides::default()).unwrap();
    assert_eq!(procmond.config.app.log_level, LogLevel::Error);
}

#[test]
fn sinks_are_checked_as_a_whole() {
    let error = |text: &str| Host::of_user().with_system_file(text).error(Component::Agent);
    assert_eq!(error("[sinks.a]\nformat = \"human\""), "`sinks.a.type` is missing: \"stdout\" or \"file\"");
    assert_eq!(error("[sinks.a]\ntype = \"file\""), "`sinks.a.path` is missing: a sink of type \"file\" needs it");
    assert_eq!(
        error("[sinks.a]\ntype = \"stdout\"\npath = \"/x\""),
        "`sinks.a.path` (/etc/config.toml:3:1) belongs to sinks of type \"file\" only"
    );
    let host =
        Host::of_user().with_system_file("[sinks.a]\ntype = \"file\"\npath = \"/x\"\n[sinks.b]\ntype = \"stdout\"");
    assert_eq!(
        host.agent().config.sinks.into_values().collect::<Vec<_>>(),
        [Sink::File { format: SinkFormat::Jsonl, path: "/x".into() }, Sink::Stdout { format: SinkFormat::Human },]
    );
}

#[test]
fn collectors_are_named_by_the_operator_and_checked_as_a_whole() {
    let host = Host::of_user().with_system_file(
        "[collectors.sniffer]\ncommand = [\"/opt/sniff\", \"-v\"]\nmemory_budget_bytes = 1000\n\
         [collectors.sniffer.settings]\nports = [1, 2]\nwhere = { host = \"a\" }\n\
         [collectors.other]\ncommand = \"other\"\nenabled = false\n[collectors.procmond]\nenabled = false",
    );
    let collectors = host.agent().config.collectors;
    let sniffer = &collectors["sniffer"];
    assert_eq!((&sniffer.command[..], sniffer.enabled), (&["/opt/sniff".to_owned(), "-v".to_owned()][..], true));
    assert_eq!(sniffer.memory_budget_bytes, 1000);
    assert_eq!(serde_json::to_string(&sniffer.settings).unwrap(), r#"{"ports":[1,2],"where":{"host":"a"}}"#);
    assert_eq!((&collectors["other"].command[..], collectors["other"].enabled), (&["other".to_owned()][..], false));
    assert!(!collectors["procmond"].enabled && collectors["procmond"].command.is_empty());

    let error = |text: &str| Host::of_user().with_system_file(text).error(Component::Agent);
    assert_eq!(error("[collectors.a]\nenabled = true"), "`collectors.a.command` is missing: which program is it?");
    assert!(error("[collectors.a]\ncommand = \"bin/a\"").contains("an absolute path, or a name without `/`"));
    assert!(error("[collectors.a]\ncommand = []").contains("allowed is a program"));
    assert!(error("[collectors.register]\ncommand = \"/a\"").contains("none of agent, cli"));
    assert!(error("[collectors.procmond]\ncommand = \"/a\"").contains("the one beside daemoneye-agent"));
    assert!(error("[collectors.procmond]\ninstances = 2").contains("there is one procmond"));
    assert!(error("[collectors.a]\ncommand = \"/a\"\ninstances = 9").contains("`collectors.a.instances`"));
    assert!(error("[collectors.A]\ncommand = \"/a\"").starts_with("unknown key `collectors.A.command`"));

    let host = host.with_variable("DAEMONEYE_AGENT_COLLECTORS__SNIFFER__SETTINGS", "{\"ports\": [3]}");
    assert_eq!(serde_json::to_string(&host.agent().config.collectors["sniffer"].settings).unwrap(), r#"{"ports":[3]}"#);
}

#[test]
fn privileges_read_no_file_that_somebody_else_could_have_written() {
    let mut host = Host::of_user().with_user_file("[app]\nlog_level = \"debug\"");
    let directory = host.dir.path().join("home/.config/daemoneye");
    let file = directory.join("config.toml");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&directory, 0o755);
    mode(&file, 0o644);
    host.env.uid = fs::metadata(&file).unwrap().uid();
    host.env.privileged = true;
    assert_eq!(host.agent().config.app.log_level, LogLevel::Debug);

    let refused = |host: &Host, why: &str| {
        let error = host.load(Component::Agent, &Overrides::default()).unwrap_err();
        assert!(matches!(error, ConfigError::Untrusted { .. }) && error.to_string().contains(why), "{error}");
        assert!(error.hint().is_some());
    };
    mode(&file, 0o664);
    refused(&host, "it can be written by others (mode 0664)");
    mode(&file, 0o644);
    mode(&directory, 0o757);
    refused(&host, "its directory can be written by others (mode 0757)");
    mode(&directory, 0o755);
    host.env.uid += 1;
    refused(&host, "it belongs to uid");
    host.env.privileged = false;
    assert_eq!(host.agent().config.app.log_level, LogLevel::Debug);
}

#[test]
fn settings_list_every_key_with_its_origin() {
    let host = Host::of_user().with_user_file("[app]\ndata_dir = \"/d\"");
    let loaded = host.agent();
    let keys: Vec<_> = loaded.settings.iter().map(|setting| setting.key.as_str()).collect();
    let fixed = keys::KEYS.iter().map(|key| key.path).filter(|path| !path.contains(".NAME."));
    assert!(fixed.zip(&keys).all(|(wanted, found)| wanted == *found), "{keys:?}");
    assert_eq!(origin_of(&loaded, "app.runtime_dir").to_string(), "derived from app.data_dir");
    assert_eq!(origin_of(&loaded, "app.max_scan_cpu").to_string(), "built-in default");
    assert_eq!(origin_of(&loaded, "cli.format").to_string(), "not set");
}

#[test]
fn directories_are_private_when_made_and_left_alone_when_there() {
    let dir = TempDir::new().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let deep = dir.path().join("a/b");
    assert_eq!(check_directory(&deep, true).unwrap(), Usable::CanBeCreated);
    create_private_dir(&deep).unwrap();
    assert_eq!(mode(&deep), 0o700);
    assert_eq!(check_directory(&deep, true).unwrap(), Usable::Exists);
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o755)).unwrap();
    create_private_dir(&deep).unwrap();
    assert_eq!(mode(&deep), 0o755);

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = create_private_dir(&file).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot use the directory {}", file.display()));
    assert!(error.hint().contains("move the file"), "{}", error.hint());
    assert!(check_directory(&file.join("x"), true).is_err());
}

#[test]
fn what_is_read_anew_takes_effect_as_far_as_it_can() {
    let host = Host::of_user().with_system_file("[app]\nlog_level = \"info\"");
    let loaded = host.agent();
    let mut rereader = Rereader::new(Component::Agent, Overrides::default(), host.env.clone(), &loaded);
    let (reread, _) = rereader.read().unwrap();
    assert_eq!((&reread.config, reread.changed.len(), reread.pending.len()), (&loaded.config, 0, 0));

    let text = "[app]\nlog_level = \"debug\"\nscan_interval_ms = 500\nmax_scan_cpu = 9\n[agent]\nquery_max_rows = 7\n\
                query_timeout_ms = 200\nquery_memory_bytes = 2097152\n[sinks.new]\ntype = \"stdout\"\n[rules]\ndir = \"/r\"";
    let host = host.with_system_file(text);
    let (reread, new) = rereader.read().unwrap();
    let sorted = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let own =
        ["app.log_level", "app.scan_interval_ms", "app.max_scan_cpu", "agent.query_max_rows", "agent.query_timeout_ms"];
    let sinks = ["new.type", "new.format", "console.type", "console.format", "log.type", "log.format", "log.path"];
    let sinks = sinks.map(|key| format!("sinks.{key}"));
    let wanted: Vec<&str> = own.into_iter().chain(sinks.iter().map(String::as_str)).collect();
    assert_eq!(reread.changed.iter().cloned().collect::<BTreeSet<_>>(), sorted(&wanted));
    assert_eq!(reread.pending, ["agent.query_memory_bytes", "rules.dir"]);
    let config = &reread.config;
    assert_eq!(
        (config.app.log_level, config.app.scan_interval_ms, config.app.max_scan_cpu),
        (LogLevel::Debug, 500, 9.0)
    );
    assert_eq!((config.agent.query_max_rows, config.agent.query_timeout_ms), (7, 200));
    assert_eq!(config.sinks.keys().collect::<Vec<_>>(), ["new"]);
    assert_eq!(config.agent.query_memory_bytes, loaded.config.agent.query_memory_bytes, "it waits for a restart");
    assert_eq!(config.rules.dir, loaded.config.rules.dir);

    // What took effect is no change any more; what waits goes on waiting until it is set back.
    rereader.adopt(&reread, &new);
    let (again, _) = rereader.read().unwrap();
    assert_eq!((again.changed.len(), again.pending.as_slice()), (0, reread.pending.as_slice()));
    let host = host.with_system_file("[app]\nlog_level = \"info\"");
    assert_eq!(rereader.read().unwrap().0.pending, Vec::<String>::new());
    drop(host.with_system_file("nonsense"));
    assert_eq!(rereader.running(), config);
}

#[test]
fn what_procmond_reads_anew_is_what_it_goes_by() {
    let host = Host::of_user();
    let load = || host.load(Component::Procmond, &Overrides::default()).unwrap();
    let loaded = load();
    assert_eq!(loaded.config.procmond.environment, keys::ENVIRONMENT);
    let rereader = Rereader::new(Component::Procmond, Overrides::default(), host.env.clone(), &loaded);
    let text = "[procmond]\nenvironment = [\"A\"]\nsnapshot_interval_ms = 7\nhash_queue = 7";
    let _host = host.with_system_file(text);
    let (reread, _) = rereader.read().unwrap();
    assert_eq!(reread.changed, ["procmond.environment", "procmond.snapshot_interval_ms"]);
    let procmond = &reread.config.procmond;
    assert_eq!((procmond.environment.as_slice(), procmond.snapshot_interval_ms), (&["A".to_owned()][..], 7));
    assert_eq!((procmond.hash_queue, reread.pending.as_slice()), (1_024, &["procmond.hash_queue".to_owned()][..]));
}

#[test]
fn names_are_so_many_and_without_wildcards() {
    let with = |names: &[&str]| Host::of_user().with_system_file(&format!("procmond.environment = {names:?}"));
    let environment =
        |host: &Host| host.load(Component::Procmond, &Overrides::default()).unwrap().config.procmond.environment;
    assert_eq!(environment(&with(&["LD_DEBUG", "http_proxy"])), ["LD_DEBUG", "http_proxy"]);
    assert!(environment(&with(&[])).is_empty());
    let variable = Host::of_user().with_variable("PROCMOND_PROCMOND__ENVIRONMENT", "A, B");
    assert_eq!(environment(&variable), ["A", "B"]);
    for wrong in [&["LD_*"][..], &["A=B"], &[""], &["A"; keys::MAX_NAMES + 1], &[&*"A".repeat(65)]] {
        assert!(with(wrong).error(Component::Procmond).contains("a list of at most 64 names"), "{wrong:?}");
    }
}

#[test]
fn a_broken_file_is_an_error_and_no_change() {
    let host = Host::of_user();
    let rereader = Rereader::new(Component::Agent, Overrides::default(), host.env.clone(), &host.agent());
    let host = host.with_system_file("[app]\nlog_levle = 3");
    assert!(matches!(rereader.read(), Err(ConfigError::UnknownKey { .. })));
    assert_eq!(rereader.running().app.log_level, LogLevel::Info);
    drop(host);
}

proptest! {
    #[test]
    fn any_text_is_an_answer_or_an_error(text in "(\\[[a-z.]{1,8}\\]\n|[a-z_.]{1,12} = [0-9a-z\"{}\\[\\]]{0,6}\n|\\PC{0,8}){0,6}") {
        let _ = file::parse(&text, "f", Layer::ConfigFile);
    }
}
