//! `/proc/PID/cmdline` and `environ`: strings that end with a NUL byte each, in memory that the process may rewrite.

use daemoneye_lib::models::text::escape_bytes;
use std::collections::BTreeMap;

/// The most escaped text that one record carries of its arguments: an escape is four times as long as its byte, and a
/// record has to fit a frame with its arguments in it twice.
const MAX_TEXT: usize = 1_280 * 1024;
/// What an argument costs beside its text.
const PER_ARGUMENT: usize = 4;

/// Arguments as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// One by one.
    pub(crate) values: Vec<String>,
    /// Whether some of the text is missing.
    pub(crate) cut: bool,
}

/// Splits a command line; `cut` says that the bytes are only its beginning.
///
/// Each argument ends with a NUL. A process that wrote a title over its arguments left no NULs within, and maybe none at
/// the end: its title is one argument.
pub(crate) fn split(bytes: &[u8], cut: bool) -> Arguments {
    let mut arguments = Arguments { values: Vec::new(), cut };
    if bytes.is_empty() {
        return arguments;
    }
    let mut left = MAX_TEXT;
    for argument in bytes.strip_suffix(b"\0").unwrap_or(bytes).split(|byte| *byte == 0) {
        let text = escape_bytes(argument);
        let cost = text.len() + PER_ARGUMENT;
        if cost > left {
            arguments.values.push(beginning(argument, left.saturating_sub(PER_ARGUMENT)));
            arguments.cut = true;
            break;
        }
        left -= cost;
        arguments.values.push(text);
    }
    arguments
}

/// As many bytes as have at most `limit` bytes of escaped text.
fn beginning(argument: &[u8], limit: usize) -> String {
    escape_bytes(argument.get(..limit / 4).unwrap_or(argument))
}

impl Arguments {
    /// The arguments joined by one space, unquoted.
    pub(crate) fn line(&self) -> String {
        self.values.join(" ")
    }
}

/// At most this much of a variable's value is taken, and of all values together.
const MAX_VALUE: usize = 4096;
const MAX_VALUES: usize = 32 * 1024;

/// The variables with these names, and whether a value was cut; of two with one name the first counts, as for getenv(3).
pub(crate) fn variables(bytes: &[u8], names: &[String]) -> (BTreeMap<String, String>, bool) {
    let mut found = BTreeMap::new();
    let (mut cut, mut left) = (false, MAX_VALUES);
    for variable in bytes.split(|byte| *byte == 0) {
        let Some(equals) = variable.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (&variable[..equals], &variable[equals + 1..]);
        let Some(name) = names.iter().find(|wanted| wanted.as_bytes() == name) else { continue };
        if !found.contains_key(name) {
            let taken = value.get(..left.min(MAX_VALUE)).unwrap_or(value);
            cut |= taken.len() < value.len();
            left -= taken.len();
            found.insert(name.clone(), escape_bytes(taken));
        }
    }
    (found, cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemoneye_lib::models::text::unescape;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arguments_end_with_nul() {
        for (bytes, values) in [
            (&b""[..], &[][..]),
            (b"\0", &[""]),
            (b"ls\0-l\0", &["ls", "-l"]),
            (b"ls\0\0-l\0", &["ls", "", "-l"]),
            (b"a\0\0", &["a", ""]),
            (b"postgres: writer process", &["postgres: writer process"]),
            (b"a\xffb\0", &["a\\xFFb"]),
        ] {
            assert_eq!(split(bytes, false).values, values, "{bytes:?}");
        }
        assert_eq!(split(b"ls\0a b\0", false).line(), "ls a b");
    }

    #[test]
    fn the_kernels_128_kib_of_one_argument_stay_whole_and_escapes_are_bounded() {
        let long = vec![b'x'; 128 * 1024];
        assert_eq!(split(&long, false), Arguments { values: vec!["x".repeat(128 * 1024)], cut: false });
        let hostile = vec![0xff; 1024 * 1024];
        let cut = split(&hostile, false);
        assert!(cut.cut && cut.line().len() <= MAX_TEXT && cut.line().len() > MAX_TEXT - 64);
        let empty = vec![0; 1024 * 1024];
        assert!(split(&empty, false).values.len() <= MAX_TEXT / PER_ARGUMENT + 1);
    }

    #[test]
    fn only_the_named_variables_are_taken() {
        let bytes = b"SECRET=1\0LD_PRELOAD=/x=y\0LD_PRELOAD=second\0LD_PRELOADED=no\0=\0junk";
        let (found, cut) = variables(bytes, &names(&["LD_PRELOAD", "SUDO_USER"]));
        assert_eq!(found, BTreeMap::from([("LD_PRELOAD".into(), "/x=y".into())]));
        assert!(!cut);
        let long = [b"SUDO_USER=".to_vec(), vec![b'u'; MAX_VALUE + 1]].concat();
        let (found, cut) = variables(&long, &names(&["SUDO_USER"]));
        assert!(cut && found["SUDO_USER"].len() == MAX_VALUE);
        let many: Vec<String> = (0..64).map(|n| format!("V{n}")).collect();
        let bytes: Vec<u8> =
            many.iter().flat_map(|name| format!("{name}={}\0", "x".repeat(MAX_VALUE)).into_bytes()).collect();
        let (found, cut) = variables(&bytes, &many);
        assert!(cut && found.len() == 64 && found.values().map(String::len).sum::<usize>() == MAX_VALUES);
    }

    proptest! {
        #[test]
        fn the_bytes_come_back_from_the_arguments(bytes: Vec<u8>) {
            let values = split(&bytes, false).values;
            let mut back = Vec::new();
            for value in &values {
                back.extend(unescape(value));
                back.push(0);
            }
            let whole = if bytes.is_empty() || bytes.ends_with(b"\0") { bytes } else { [bytes, vec![0]].concat() };
            prop_assert_eq!(back, whole);
        }

        #[test]
        fn no_environment_panics(bytes: Vec<u8>) {
            let _ = variables(&bytes, &names(&["A", ""]));
        }
    }
}
