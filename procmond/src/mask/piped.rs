//! Secrets that one command of a line writes into another: `echo secret | sudo -S id`.

use super::tools::Form;
use super::words::Word;
use std::ops::Range;

/// Follows the words of a command line.
#[derive(Default)]
pub(super) struct Piped {
    /// Where the last word ended.
    end: usize,
    /// What this command writes, and what the one before wrote into it.
    written: Vec<Range<usize>>,
    read: Vec<Range<usize>>,
    command: Command,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Command {
    /// Its words are what it writes.
    Echo,
    Sudo,
    Passwd,
    #[default]
    Other,
}

impl Piped {
    /// Takes the next word of the text, and tells of the words before that turn out to be secrets.
    pub(super) fn word(&mut self, text: &str, word: &Word, tell: impl FnMut(Range<usize>)) {
        let own = text.get(word.place.clone()).unwrap_or_default();
        let between = text.get(self.end..word.place.start).unwrap_or_default();
        self.end = word.place.end;
        if word.begins {
            self.read = std::mem::take(&mut self.written);
            if between.trim() != "|" {
                self.read.clear();
            }
            self.command = match own.rsplit('/').next().unwrap_or_default() {
                "echo" | "printf" => Command::Echo,
                "sudo" => Command::Sudo,
                "passwd" => Command::Passwd,
                _ => Command::Other,
            };
            if own.ends_with("chpasswd") {
                self.read.drain(..).for_each(tell);
            }
            return;
        }
        let letters = own.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        let reads = match self.command {
            Command::Echo => {
                let format = own.trim_start_matches(['\'', '"']).starts_with('%');
                let secret = Form::Whole.secret(own).filter(|_| letters.is_none() && !format);
                self.written.extend(secret.map(|at| word.place.start + at.start..word.place.start + at.end));
                false
            }
            Command::Sudo => own == "--stdin" || letters.is_some_and(|letters| letters.contains('S')),
            Command::Passwd => own == "--stdin",
            Command::Other => false,
        };
        if reads || own == "--password-stdin" || own == "--passphrase-fd" {
            self.read.drain(..).for_each(tell);
        }
    }
}
