//! Secrets in what a process was given: arguments and environment, masked before anything leaves this process.
//!
//! A pure function over text. It knows flags (`--password X`, `--token=X`), settings (`KEY=value`, also within URLs, form
//! bodies, connection strings and JSON), headers (`Authorization: Bearer X`), URLs with credentials, and the forms of
//! common tools (`mysql -pX`, `curl -u user:X`). What a shell was given as one argument is read as the command line that
//! it is, and so are command lines within that, three deep.
//!
//! Only the secret itself is replaced, by [`MASK`]; everything else stays as it is, byte for byte. In doubt the text is
//! masked: a word too much that is missing costs less than a password on disk. Time is linear in the text, however hostile.

mod assignments;
mod names;
mod piped;
mod reader;
#[cfg(test)]
mod tests;
mod tools;
mod words;

use names::Names;
use std::ops::Range;
use std::sync::Arc;

/// What stands in the place of a secret.
pub(crate) const MASK: &str = "***";

/// Masks secrets, or, when it was told not to, nothing.
#[derive(Clone, Debug)]
pub struct Masker(Option<Arc<Names>>);

impl Masker {
    /// A masker that knows these names beside its own.
    pub fn new(more_names: &[String]) -> Self {
        Self(Some(Arc::new(Names::new(more_names))))
    }

    /// One that leaves everything as it is.
    pub fn off() -> Self {
        Self(None)
    }

    /// Masks the arguments of one process; whether there was something to mask.
    pub(crate) fn arguments(&self, values: &mut [String]) -> bool {
        let Some(names) = &self.0 else { return false };
        let mut masked = false;
        reader::arguments(names, values, |value, secrets| {
            masked |= replace(value, secrets);
        });
        masked
    }

    /// Masks a variable of a process's environment; whether there was something to mask.
    pub(crate) fn variable(&self, name: &str, value: &mut String) -> bool {
        let Some(names) = &self.0 else { return false };
        if names.is_secret(name) && !value.is_empty() {
            MASK.clone_into(value);
            return true;
        }
        self.arguments(std::slice::from_mut(value))
    }
}

/// Puts the mask in the place of each range, and says whether that made a difference; they may overlap.
fn replace(text: &mut String, mut secrets: Vec<Range<usize>>) -> bool {
    secrets.sort_by_key(|range| range.start);
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for secret in secrets {
        if secret.end <= done {
            continue;
        }
        if secret.start >= done {
            masked.push_str(text.get(done..secret.start).unwrap_or_default());
            masked.push_str(MASK);
        }
        done = secret.end;
    }
    masked.push_str(text.get(done..).unwrap_or_default());
    let differs = masked != *text;
    *text = masked;
    differs
}
