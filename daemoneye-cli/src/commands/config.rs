//! `config`: what is in force and why, and whether it can be used.

use crate::failure::Failure;
use crate::output::{Kept, Outcome, Screen, Style, text_columns};
use daemoneye_lib::config::{
    self, Component, Config, DirectoryError, Environment, OutputFormat, Overrides, Sink, Usable, check_directory,
    check_private_dir,
};
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::{Cell, Completeness, cell};
use std::io;
use std::path::{Path, PathBuf};

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
    /// Reads the configuration and tries its directories, as the user who runs this command
    Check {
        #[command(flatten)]
        program: Program,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Program {
    /// The program whose environment variables count
    #[arg(long, value_enum, default_value = "agent")]
    component: Name,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    Procmond,
    Agent,
    Cli,
}

impl Program {
    fn component(&self) -> Component {
        match self.component {
            Name::Procmond => Component::Procmond,
            Name::Agent => Component::Agent,
            Name::Cli => Component::Cli,
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
        Command::Check { program } => check(program, overrides, format, env, screen),
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
    let loaded = config::load(program.component(), overrides, env)?;
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
    program: &Program,
    overrides: &Overrides,
    format: Option<OutputFormat>,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let config = config::load(program.component(), overrides, env)?.config;
    let format = format.or(config.cli.format).unwrap_or(OutputFormat::Table);
    let (mut rows, mut hints) = (Vec::new(), Vec::new());
    for (what, path, need) in directories(program.component(), &config) {
        let (status, detail) = match need.judge(&path) {
            Ok(Usable::Exists) => ("ok", "can be used".to_owned()),
            Ok(Usable::CanBeCreated) => ("ok", "will be created".to_owned()),
            Err(error) => {
                hints.push(error.hint());
                ("unusable", error.source.to_string())
            }
        };
        rows.push([what.as_str(), &path.display().to_string(), status, &detail].map(text).into());
    }
    let rows = Kept { columns: text_columns(&["key", "directory", "status", "detail"]), rows };
    screen.print(format, Style::default(), &rows, &Completeness::default())?;
    for hint in &hints {
        writeln!(screen.err, "hint: {}", for_terminal(hint))?;
    }
    Ok(if hints.is_empty() { Outcome::Done } else { Outcome::Wanting })
}

enum Need {
    /// For this user alone; made when it is missing.
    Own,
    /// Files are made in it.
    Write,
    /// Must be there.
    Read,
}

impl Need {
    fn judge(&self, path: &Path) -> Result<Usable, DirectoryError> {
        match self {
            Self::Own => check_private_dir(path),
            Self::Write => check_directory(path, true),
            Self::Read => match check_directory(path, false)? {
                Usable::Exists => Ok(Usable::Exists),
                Usable::CanBeCreated => Err(DirectoryError {
                    path: path.to_owned(),
                    source: io::Error::new(io::ErrorKind::NotFound, "it does not exist"),
                }),
            },
        }
    }
}

/// What each program does with which directory.
fn directories(component: Component, config: &Config) -> Vec<(String, PathBuf, Need)> {
    let app = &config.app;
    let data = || ("app.data_dir".to_owned(), app.directory_of(component), Need::Own);
    let runtime = |need| ("app.runtime_dir".to_owned(), app.runtime_dir.clone(), need);
    match component {
        Component::Cli => vec![runtime(Need::Read)],
        Component::Procmond => vec![data(), runtime(Need::Read)],
        Component::Agent => {
            let file = |(name, sink): (&String, &Sink)| match sink {
                Sink::File { path, .. } => Some((format!("sinks.{name}.path"), path.parent()?.to_owned(), Need::Write)),
                Sink::Stdout { .. } => None,
            };
            let rules = ("rules.dir".to_owned(), config.rules.dir.clone(), Need::Read);
            [data(), runtime(Need::Own), rules].into_iter().chain(config.sinks.iter().filter_map(file)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::shown;
    use daemoneye_lib::config::create_private_dir;
    use std::collections::BTreeMap;
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
        let check = || ask(&Command::Check { program: agent() }, &Overrides::default(), directory.path());
        let (out, err, code) = check();
        assert!(out.contains("rules.dir,/.config/daemoneye/rules,unusable,it does not exist\r\n"), "{out}");
        assert!(err.contains("hint: create "), "{err}");
        assert_eq!(code, 1);
        create_private_dir(&directory.path().join(".config/daemoneye/rules")).unwrap();
        let (out, err, code) = check();
        assert!(out.contains("app.data_dir,/.local/state/daemoneye/agent,ok,will be created\r\n"), "{out}");
        assert_eq!((err.as_str(), code), ("completeness: complete\n", 0));
    }

    #[test]
    fn a_wrong_configuration_is_a_failure_with_its_place() {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("own.toml"), "[app]\nlog_levle = \"debug\"").unwrap();
        let overrides = Overrides::new(Some("own.toml".into()));
        let (_, err, code) = ask(&Command::Check { program: agent() }, &overrides, directory.path());
        let wanted = "error: unknown key `app.log_levle` (/own.toml:2:1); the nearest known one is `app.log_level`\n";
        assert_eq!((err.as_str(), code), (wanted, 1));
    }
}
