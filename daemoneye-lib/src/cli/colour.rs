//! Whether colours are wanted.

use std::ffi::OsStr;
use std::io::IsTerminal;

/// Whether this stream shows colours and the operator wants them: a terminal, no `NO_COLOR`, no `TERM=dumb`.
pub fn colours_wanted(stream: &impl IsTerminal) -> bool {
    let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
    decide(stream.is_terminal(), no_color.as_deref(), term.as_deref())
}

fn decide(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_some_and(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::decide;
    use std::ffi::OsStr;

    #[test]
    fn colours_need_a_terminal_that_wants_them() {
        let term = Some(OsStr::new("xterm"));
        assert!(decide(true, None, term));
        assert!(decide(true, Some(OsStr::new("")), term));
        assert!(!decide(false, None, term));
        assert!(!decide(true, Some(OsStr::new("1")), term));
        assert!(!decide(true, None, Some(OsStr::new("dumb"))));
        assert!(!decide(true, None, None));
    }
}
