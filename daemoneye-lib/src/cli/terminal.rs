//! Whether the terminal that a program was started on is still there.

use std::io::{IsTerminal as _, stderr, stdin, stdout};

/// Which standard streams were a terminal at the start.
///
/// It tells the two meanings of SIGHUP apart: a terminal that hung up ends the programs that were started on it; to all others
/// the signal says that they shall read their configuration anew.
#[derive(Debug, Clone, Copy)]
pub struct Terminal([bool; 3]);

impl Terminal {
    /// To be called at the start.
    pub fn at_start() -> Self {
        Self(streams())
    }

    /// Whether a stream that was a terminal is none any more: one that hung up answers no question about it.
    pub fn is_gone(self) -> bool {
        self.0.iter().zip(streams()).any(|(before, now)| *before && !now)
    }
}

fn streams() -> [bool; 3] {
    [stdin().is_terminal(), stdout().is_terminal(), stderr().is_terminal()]
}

#[cfg(test)]
mod tests {
    use super::Terminal;

    #[test]
    fn what_was_no_terminal_cannot_be_gone() {
        assert!(!Terminal([false; 3]).is_gone());
        assert!(!Terminal::at_start().is_gone());
    }
}
