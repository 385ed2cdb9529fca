//! `config`: what is in force and why, and whether it can be used.

use crate::failure::Failure;
use crate::output::{Kept, Outcome, Screen, Style, text_columns};
use daemoneye_lib::config::{self, Component, Environment, Host, OutputFormat, Overrides, Verdict};
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::{Cell, Completeness, cell};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Every key with its value
    Show {
        /// Tell where each value was set
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        program: Program,
    },
    /// What is wrong with the configuration, and what is hardly meant, judged as the user who runs this command
    Check {
        /// Only this program
        #[arg(long, value_enum)]
        component: Option<Name>,
        /// Warnings count as failure: exit code 1
        #[arg(long)]
        strict: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Program {
    /// The program whose environment variables count
    #[arg(long, value_enum, default_value = "agent")]
    component: Name,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Name {
    Procmond,
    Agent,
    Cli,
}

impl Name {
    const ALL: [Self; 3] = [Self::Agent, Self::Procmond, Self::Cli];

    fn component(self) -> Component {
        match self {
            Self::Procmond => Component::Procmond,
            Self::Agent => Component::Agent,
            Self::Cli => Component::Cli,
        }
    }
}

/// `config` has no format but the flag's: it must work, and explain, when the configuration does not.
pub(crate) fn run(
    command: &Command,
    overrides: &Overrides,
    format: Option<OutputFormat>,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    match command {
        Command::Show { origin, program } => show(*origin, program, overrides, format, env, screen),
        Command::Check { component, strict } => check(*component, *strict, overrides, format, env, screen),
    }
}

fn show(
    origin: bool,
    program: &Program,
    overrides: &Overrides,
    format: Option<OutputFormat>,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let loaded = config::load(program.component.component(), overrides, env)?;
    let format = format.or(loaded.config.cli.format).unwrap_or(OutputFormat::Table);
    let row = |setting: &config::Setting| {
        let value = setting.value.as_ref().map(|value| cell::Value::Text(value.to_string()));
        [text(&setting.key), Cell { value }, text(&setting.origin.to_string())]
            .into_iter()
            .take(2 + usize::from(origin))
            .collect()
    };
    let names = &["key", "value", "origin"][..2 + usize::from(origin)];
    let rows = Kept { columns: text_columns(names), rows: loaded.settings.iter().map(row).collect() };
    screen.print(format, Style::default(), &rows, &Completeness::default())
}

fn text(text: &str) -> Cell {
    Cell { value: Some(cell::Value::Text(text.to_owned())) }
}

fn check(
    component: Option<Name>,
    strict: bool,
    overrides: &Overrides,
    format: Option<OutputFormat>,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let programs = component.map_or_else(|| Name::ALL.to_vec(), |component| vec![component]);
    let (mut rows, mut hints, mut worst) = (Vec::new(), Vec::new(), Verdict::Ok);
    let mut own_format = None;
    for program in programs.into_iter().map(Name::component) {
        let loaded = config::load(program, overrides, env)?;
        own_format = loaded.config.cli.format;
        for finding in config::check(program, &loaded, &Host::this()) {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Unusable => "unusable",
            };
            rows.push([program.name(), &finding.key, &finding.value, verdict, &finding.detail].map(text).into());
            worst = worst.max(finding.verdict);
            let hint = finding.hint.map(|hint| format!("{}: {hint}", finding.key));
            hints.extend(hint.filter(|hint| !hints.contains(hint)));
        }
    }
    let format = format.or(own_format).unwrap_or(OutputFormat::Table);
    let rows = Kept { columns: text_columns(&["program", "key", "value", "status", "detail"]), rows };
    let style = Style { wraps: true, ..Style::default() };
    screen.print(format, style, &rows, &Completeness::default())?;
    for hint in &hints {
        writeln!(screen.err, "hint: {}", for_terminal(hint))?;
    }
    let wanting = worst == Verdict::Unusable || (strict && worst == Verdict::Warning);
    Ok(if wanting { Outcome::Wanting } else { Outcome::Done })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::shown;
    use daemoneye_lib::config::create_private_dir;
    use std::collections::BTreeMap;
    use std::path::Path;
    use tempfile::TempDir;

    fn environment(directory: &Path) -> Environment {
        Environment {
            variables: BTreeMap::from([("HOME".to_owned(), directory.as_os_str().to_owned())]),
            uid: 1000,
            privileged: false,
            current_dir: directory.to_owned(),
            system_dir: directory.join("etc"),
        }
    }

    fn ask(command: &Command, overrides: &Overrides, directory: &Path) -> (String, String, u8) {
        let env = environment(directory);
        let format = Some(OutputFormat::Csv);
        let (out, err, code) = shown(80, async |screen| run(command, overrides, format, &env, screen));
        let hide = |text: String| text.replace(&directory.display().to_string(), "");
        (hide(out), hide(err), code)
    }

    fn agent() -> Program {
        Program { component: Name::Agent }
    }

    #[test]
    fn show_lists_keys_and_where_they_were_set() {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("own.toml"), "[app]\nlog_level = \"debug\"").unwrap();
        let overrides = Overrides::new(Some("own.toml".into()));
        let (out, _, code) = ask(&Command::Show { origin: true, program: agent() }, &overrides, directory.path());
        assert!(out.contains("app.log_level,\"\"\"debug\"\"\",/own.toml:2:1\r\n"), "{out}");
        assert!(out.contains("app.max_scan_cpu,3.0,built-in default\r\n"), "{out}");
        assert_eq!(code, 0);
        let (out, _, _) = ask(&Command::Show { origin: false, program: agent() }, &overrides, directory.path());
        assert!(out.starts_with("key,value\r\n"), "{out}");
    }

    #[test]
    fn check_tries_the_directories() {
        let directory = TempDir::new().unwrap();
        let check =
            |component, strict| ask(&Command::Check { component, strict }, &Overrides::default(), directory.path());
        let (out, err, code) = check(Some(Name::Agent), false);
        assert!(out.starts_with("program,key,value,status,detail\r\n"), "{out}");
        assert!(out.contains("agent,app.data_dir,/.local/state/daemoneye/agent,ok,will be created\r\n"), "{out}");
        assert!(out.contains("agent,rules.dir,/.config/daemoneye/rules,warning,it does not exist"), "{out}");
        assert!(err.contains("hint: rules.dir: copy the shipped rules there\n"), "{err}");
        assert_eq!(code, 0, "a warning is no failure");
        assert_eq!(check(Some(Name::Agent), true).2, 1, "unless it is meant to be");
        let rules = directory.path().join(".config/daemoneye/rules");
        create_private_dir(&rules).unwrap();
        std::fs::write(rules.join("a.toml"), "").unwrap();
        let (out, err, _) = check(None, true);
        for program in ["agent", "procmond", "cli"] {
            assert!(out.contains(&format!("{program},app.runtime_dir,/.local/state/daemoneye/run,ok,")), "{out}{err}");
        }
        let data = directory.path().join(".local/state/daemoneye/agent");
        create_private_dir(&data).unwrap();
        std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let (out, err, code) = check(None, false);
        assert!(out.contains(",unusable,others than its owner can write to it (mode 0777)\r\n"), "{out}");
        assert!(err.contains("hint: app.data_dir: if you trust what is in it: chmod go-w "), "{err}");
        assert_eq!(code, 1);
    }

    #[test]
    fn a_wrong_configuration_is_a_failure_with_its_place() {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("own.toml"), "[app]\nlog_levle = \"debug\"").unwrap();
        let overrides = Overrides::new(Some("own.toml".into()));
        let (_, err, code) =
            ask(&Command::Check { component: Some(Name::Agent), strict: false }, &overrides, directory.path());
        let wanted = "error: unknown key `app.log_levle` (/own.toml:2:1); the nearest known one is `app.log_level`\n";
        assert_eq!((err.as_str(), code), (wanted, 1));
    }
}
