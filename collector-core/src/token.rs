//! The one-time token that an agent hands to the collector that it spawns: a line on standard input.

use std::io::{BufRead, IsTerminal as _};
use std::sync::mpsc;
use std::time::Duration;

/// An agent writes at once; whoever else left standard input open is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// More than a token is long.
const MAX_LINE: u64 = 256;

/// The line on standard input, unless that is a terminal, at its end, or silent.
pub fn token_from_stdin() -> Option<String> {
    if std::io::stdin().is_terminal() {
        return None;
    }
    // A read cannot be given up: the thread that waits in it ends with the process.
    let (found, line) = mpsc::sync_channel(1);
    std::thread::spawn(move || found.send(first_line(std::io::stdin().lock())));
    line.recv_timeout(PATIENCE).ok().flatten()
}

fn first_line(input: impl BufRead) -> Option<String> {
    let mut line = String::new();
    input.take(MAX_LINE).read_line(&mut line).ok()?;
    Some(line.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::first_line;

    #[test]
    fn one_bounded_line_is_read() {
        assert_eq!(first_line(&b"abc\nrest"[..]).as_deref(), Some("abc"));
        assert_eq!(first_line(&b"abc"[..]).as_deref(), Some("abc"));
        assert_eq!(first_line(&b""[..]), None);
        assert_eq!(first_line(&b"\n"[..]), None);
        assert_eq!(first_line(&b"\xff\n"[..]), None);
        assert_eq!(first_line(&[b'x'; 1000][..]).unwrap().len(), 256);
    }
}
