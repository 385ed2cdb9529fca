//! `rules import sigma`: rule files from Sigma rules, each checked before it is written.

use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style, text_columns};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::detection::rules::{Loader, lists_beside};
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, cell};
use daemoneye_lib::sigma::{self, Compiler, Made, Options, SigmaProblem};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The most files of an import.
const MAX_FILES: usize = 20_000;
/// The most entries of directories that are looked at.
const MAX_ENTRIES: usize = 200_000;
/// Directories within directories.
const MAX_DEPTH: usize = 16;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Compile Sigma rules: one rule file each, called by the rule's id
    Sigma(Arguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files, or directories that are searched for *.yml and *.yaml
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The directory for the rule files; it is made when it is missing
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace files that are there and differ
    #[arg(long)]
    force: bool,
    /// The licence of rules that say none; alerts carry it
    #[arg(long, value_name = "TEXT", default_value = "")]
    license: String,
}

/// What became of a rule.
struct Report {
    id: String,
    title: String,
    file: PathBuf,
    result: Result<&'static str, SigmaProblem>,
}

pub(crate) async fn run(command: &Command, format: OutputFormat, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let Command::Sigma(arguments) = command;
    let files = files(&arguments.paths)?;
    fs::create_dir_all(&arguments.output).map_err(|error| cannot("make", &arguments.output, &error))?;
    let lists = match lists_beside(&arguments.output.join("rule.toml")) {
        None => String::new(),
        Some(lists) => fs::read_to_string(&lists).map_err(|error| cannot("read", &lists, &error))?,
    };
    let loader = Loader::new(&lists).map_err(|problem| Failure::new(Kind::Refused, problem.to_string()))?;
    let options = Options { license: arguments.license.clone() };
    let mut reports = Vec::new();
    let mut taken: HashMap<String, PathBuf> = HashMap::new();
    let mut compiler = Compiler::new(options);
    for (index, file) in files.iter().enumerate() {
        match read(file) {
            Ok(source) => compiler.add(index, &source),
            Err(error) => {
                let result = Err(SigmaProblem::new(format!("cannot be read: {error}")));
                reports.push(Report { id: String::new(), title: String::new(), file: file.clone(), result });
            }
        }
    }
    for outcome in compiler.finish() {
        let file = files.get(outcome.file).cloned().unwrap_or_default();
        let result = match outcome.made {
            Err(problem) => Err(problem),
            Ok(Made::Part(_)) => Ok("part"),
            Ok(Made::Rule(compiled)) => match taken.get(&compiled.id) {
                Some(first) => Err(SigmaProblem::new(format!("its id is that of the rule in {}", first.display()))),
                None => {
                    taken.insert(compiled.id.clone(), file.clone());
                    keep(&loader, &compiled, arguments).await?
                }
            },
        };
        let (id, title) = (outcome.id.unwrap_or_default(), outcome.title.unwrap_or_default());
        reports.push(Report { id, title, file, result });
    }
    tell(&reports, arguments, format, screen)
}

/// Checks a rule file as the agent would, and writes it.
async fn keep(
    loader: &Loader,
    compiled: &sigma::Compiled,
    arguments: &Arguments,
) -> Result<Result<&'static str, SigmaProblem>, Failure> {
    let name = format!("{}.toml", compiled.id);
    if let Err(problem) = loader.load(Path::new(&name), &compiled.text).await {
        let refused = SigmaProblem::new(format!("the compiled rule is refused: {}", problem.message));
        return Ok(Err(problem.hint.map_or(refused.clone(), |hint| refused.hint(hint))));
    }
    let path = arguments.output.join(&name);
    let status = match fs::read(&path) {
        Ok(there) if there == compiled.text.as_bytes() => return Ok(Ok("unchanged")),
        Ok(_) if arguments.force => "replaced",
        Ok(_) => {
            let problem = SigmaProblem::new(format!("{} is there already, and differs", path.display()));
            return Ok(Err(problem.hint("--force replaces it")));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => "imported",
        Err(error) => return Err(cannot("read", &path, &error)),
    };
    write(&arguments.output, &path, &compiled.text).map_err(|error| cannot("write", &path, &error))?;
    Ok(Ok(status))
}

/// Writes a file so that an agent which watches the directory finds it whole or not at all.
fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let new = directory.join(format!(".import-{}.new", std::process::id()));
    let written = fs::File::create_new(&new).and_then(|mut file| file.write_all(text.as_bytes()));
    let done = written.and_then(|()| fs::rename(&new, path));
    if done.is_err() {
        // What is left of it has a name that no agent reads.
        let _ = fs::remove_file(&new);
    }
    done
}

/// The files of the paths, in order, each once.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = BTreeSet::new();
    let mut entries = 0;
    for path in paths {
        let unreadable = |error: io::Error| cannot("read", path, &error);
        if !path.metadata().map_err(unreadable)?.is_dir() {
            files.insert(path.clone());
            continue;
        }
        let before = files.len();
        let mut directories = vec![(path.clone(), 0)];
        while let Some((directory, depth)) = directories.pop() {
            for entry in fs::read_dir(&directory).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let kind = entry.file_type().map_err(unreadable)?;
                let hidden = entry.file_name().to_string_lossy().starts_with('.');
                let path = entry.path();
                let is_yaml = path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
                if kind.is_dir() && !hidden && depth < MAX_DEPTH {
                    directories.push((path, depth + 1));
                } else if !kind.is_dir() && !hidden && is_yaml {
                    files.insert(path);
                }
                entries += 1;
                if files.len() > MAX_FILES || entries > MAX_ENTRIES {
                    let message = format!("more than {MAX_FILES} rules or {MAX_ENTRIES} entries are below the paths");
                    return Err(Failure::new(Kind::Failed, message).hint("import them in parts"));
                }
            }
        }
        if files.len() == before {
            return Err(Failure::new(Kind::Failed, format!("no *.yml or *.yaml is below {}", path.display())));
        }
    }
    Ok(files.into_iter().collect())
}

/// The text of a regular file that is not too large.
fn read(file: &Path) -> io::Result<String> {
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    fs::File::open(file)?.take(sigma::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("cannot {what} {}: {error}", path.display()))
}

/// A row for each rule; people get the reasons below, and how many there were of each kind.
fn tell(
    reports: &[Report],
    arguments: &Arguments,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let people = format == OutputFormat::Table;
    let text = |text: &str| Cell { value: Some(cell::Value::Text(text.to_owned())) };
    let known = |own: &str| if own.is_empty() { Cell::default() } else { text(own) };
    let number = |number: u64| Cell { value: i64::try_from(number).ok().filter(|n| *n > 0).map(cell::Value::Integer) };
    let mut columns = text_columns(if people {
        &["rule_id", "status", "title"]
    } else {
        &["rule_id", "status", "title", "file", "line", "column", "message", "hint"]
    });
    let places = columns.iter_mut().filter(|column| matches!(column.name.as_str(), "line" | "column"));
    places.for_each(|column| column.set_kind(ColumnKind::Integer));
    let rows = reports.iter().map(|report| {
        let status = *report.result.as_ref().unwrap_or(&"refused");
        let mut cells = vec![known(&report.id), text(status), known(&report.title)];
        if !people {
            cells.push(text(&report.file.to_string_lossy()));
            cells.extend(match &report.result {
                Ok(_) => vec![Cell::default(); 4],
                Err(problem) => vec![
                    number(problem.line),
                    number(problem.column),
                    text(&problem.message),
                    known(problem.hint.as_deref().unwrap_or_default()),
                ],
            });
        }
        cells
    });
    let rows = Kept { columns, rows: rows.collect() };
    screen.print(format, Style::default(), &rows, &Completeness::default())?;
    for report in reports {
        if let Err(problem) = &report.result {
            let place = if problem.line > 0 { format!(":{}:{}", problem.line, problem.column) } else { String::new() };
            let message = format!("{}{place}: {}", report.file.display(), problem.message);
            let hint = problem.hint.clone().unwrap_or_default();
            Failure::new(Kind::Refused, message).hint(hint).print(screen.err);
        }
    }
    let count =
        |status: &str| reports.iter().filter(|report| report.result.as_ref().is_ok_and(|own| *own == status)).count();
    let refused = reports.iter().filter(|report| report.result.is_err()).count();
    let directory = arguments.output.display().to_string();
    writeln!(
        screen.err,
        "{} imported, {} replaced, {} unchanged, {} parts of correlations, {refused} refused: {}",
        count("imported"),
        count("replaced"),
        count("unchanged"),
        count("part"),
        for_terminal(&directory)
    )?;
    Ok(if refused == 0 { Outcome::Done } else { Outcome::Refused })
}
