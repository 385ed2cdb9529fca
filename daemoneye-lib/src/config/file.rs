//! Configuration files: which are read, whom to believe, and TOML into assignments.

use super::environment::Environment;
use super::error::ConfigError;
use super::keys::{self, is_section};
use super::settings::{Assignment, Layer, Origin, Overrides};
use crate::os;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use toml::Value;
use toml::de::{DeTable, DeValue};

/// A configuration file may have so many bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What the files say, lowest layer first.
pub(super) fn layers(flags: &Overrides, env: &Environment) -> Result<Vec<Assignment>, ConfigError> {
    if let Some(path) = &flags.config {
        let path = env.current_dir.join(path);
        let file = File::open(&path).map_err(|source| unreadable(&path, source))?;
        return read(file, &path, Layer::ConfigFile);
    }
    let system = env.system_dir.join("config.toml");
    let mut all = match open_if_there(&system)? {
        Some(file) => read(file, &system, Layer::SystemFile)?,
        None => Vec::new(),
    };
    if let Some(path) = env.user_file()
        && let Some(file) = open_if_there(&path)?
    {
        if env.privileged {
            trust(&file, &path, env.uid)?;
        }
        all.extend(read(file, &path, Layer::UserFile)?);
    }
    Ok(all)
}

fn open_if_there(path: &Path) -> Result<Option<File>, ConfigError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(unreadable(path, source)),
    }
}

fn unreadable(path: &Path, source: io::Error) -> ConfigError {
    ConfigError::Unreadable { path: path.to_owned(), source }
}

/// Refuses a file that anybody but `uid` could have written. The file is judged by its open handle, not by its name.
fn trust(file: &File, path: &Path, uid: u32) -> Result<(), ConfigError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let file_metadata = file.metadata().map_err(|source| unreadable(path, source))?;
    let directory_metadata = directory.metadata().map_err(|source| unreadable(directory, source))?;
    let doubt = |what: &str, metadata: &Metadata| match os::owner_and_mode(metadata) {
        Some((owner, _)) if owner != uid => {
            Some(format!("{what} belongs to uid {owner}, this process runs as uid {uid}"))
        }
        Some((_, mode)) if mode & 0o022 != 0 => {
            Some(format!("{what} can be written by others (mode {:04o})", mode & 0o7777))
        }
        _ => None,
    };
    match doubt("it", &file_metadata).or_else(|| doubt("its directory", &directory_metadata)) {
        Some(problem) => Err(ConfigError::Untrusted { path: path.to_owned(), problem }),
        None => Ok(()),
    }
}

fn read(file: File, path: &Path, layer: Layer) -> Result<Vec<Assignment>, ConfigError> {
    let mut text = String::new();
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|source| unreadable(path, source))?;
    if length as u64 > MAX_BYTES {
        let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_BYTES} bytes"));
        return Err(unreadable(path, source));
    }
    parse(&text, &path.display().to_string(), layer)
}

/// TOML into assignments, each key known and each value checked.
pub(super) fn parse(text: &str, file: &str, layer: Layer) -> Result<Vec<Assignment>, ConfigError> {
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: position(file, text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let mut reader = Reader { text, file, layer, assignments: Vec::new() };
    reader.table(document.get_ref(), "")?;
    Ok(reader.assignments)
}

struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    layer: Layer,
    assignments: Vec<Assignment>,
}

impl Reader<'_> {
    /// The parser bounds the depth of tables, and so this recursion.
    fn table(&mut self, table: &DeTable<'_>, prefix: &str) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let place = position(self.file, self.text, name.span().start);
            let written = || self.text.get(value.span()).unwrap_or_default().to_owned();
            let invalid =
                |allowed| ConfigError::Invalid { key: key.clone(), value: written(), place: place.clone(), allowed };
            match (keys::find(&key), value.get_ref()) {
                (Some(known), leaf) => {
                    let value = plain(leaf).ok_or_else(|| known.kind.allowed());
                    let value = value.and_then(|value| known.kind.check(value)).map_err(invalid)?;
                    self.assignments.push(Assignment { key, value, origin: Origin { layer: self.layer, place } });
                }
                (None, DeValue::Table(section)) if is_section(&key) => self.table(section, &key)?,
                (None, _) if is_section(&key) => return Err(invalid("a section".to_owned())),
                (None, _) => return Err(ConfigError::UnknownKey { nearest: keys::nearest(&key), key, place }),
            }
        }
        Ok(())
    }
}

fn plain(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::String(text.to_string())),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::Integer),
        DeValue::Float(number) => number.as_str().parse().ok().map(Value::Float),
        DeValue::Boolean(value) => Some(Value::Boolean(*value)),
        DeValue::Array(values) => {
            values.iter().map(|value| plain(value.get_ref())).collect::<Option<_>>().map(Value::Array)
        }
        DeValue::Table(table) => {
            let entries = table.iter().map(|(name, value)| Some((name.get_ref().to_string(), plain(value.get_ref())?)));
            entries.collect::<Option<_>>().map(Value::Table)
        }
        _ => None,
    }
}

/// `file:line:column`, both counted from 1, columns in characters.
fn position(file: &str, text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{file}:{line}:{column}")
}
