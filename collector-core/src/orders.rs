//! What the agent wants of the collector, and how far the source is with it.
//!
//! Instructions are a whole: the newest ones count, and repeating them changes nothing. The run loop puts them in, the
//! source looks at them through its sink. A source that never asks for settings takes none: the agent is told so.

use daemoneye_lib::proto::ipc::Instructions;

/// What stands for no settings.
const NONE: &str = "{}";

/// `[collectors.NAME.settings]`, as the agent sends them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Grows with each change; 0 until the agent has sent any.
    pub version: u64,
    /// A JSON object.
    pub json: String,
}

#[derive(Debug, Default)]
pub(crate) struct Orders {
    wanted: Instructions,
    /// Whether the source has asked for settings.
    interested: bool,
    /// The version that the source has looked at.
    seen: u64,
    /// The version that the source has answered to, and its refusal.
    answered: (u64, String),
    /// Whether the process has more in memory than it may.
    pub(crate) over_budget: bool,
}

impl Orders {
    /// Takes new instructions; returns what they change of being paused.
    pub(crate) fn instruct(&mut self, wanted: Instructions) -> Option<bool> {
        let changed = (self.wanted.paused != wanted.paused).then_some(wanted.paused);
        self.wanted = wanted;
        changed
    }

    pub(crate) fn paused(&self) -> bool {
        self.wanted.paused
    }

    pub(crate) fn memory_budget(&self) -> Option<u64> {
        Some(self.wanted.memory_budget_bytes).filter(|bytes| *bytes > 0)
    }

    /// Whether the source should look at new settings.
    pub(crate) fn is_news(&self) -> bool {
        self.interested && self.seen != self.wanted.version
    }

    pub(crate) fn look(&mut self) -> Settings {
        self.interested = true;
        self.seen = self.wanted.version;
        let json = if self.wanted.settings.is_empty() { NONE } else { &self.wanted.settings };
        Settings { version: self.wanted.version, json: json.to_owned() }
    }

    pub(crate) fn answer(&mut self, version: u64, refusal: String) {
        self.answered = (version, refusal);
    }

    /// The version of the settings that were taken or refused, and the refusal.
    pub(crate) fn answered(&self) -> (u64, String) {
        if self.interested {
            return self.answered.clone();
        }
        let none = matches!(self.wanted.settings.as_str(), "" | NONE);
        let refusal = if none { String::new() } else { "this collector takes no settings".to_owned() };
        (self.wanted.version, refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(version: u64, settings: &str, paused: bool) -> Instructions {
        Instructions { version, settings: settings.to_owned(), paused, ..Instructions::default() }
    }

    #[test]
    fn pausing_is_told_once() {
        let mut orders = Orders::default();
        assert_eq!(orders.instruct(wanted(1, "", false)), None);
        assert_eq!(orders.instruct(wanted(1, "", true)), Some(true));
        assert_eq!(orders.instruct(wanted(2, "", true)), None);
        assert_eq!(orders.instruct(wanted(2, "", false)), Some(false));
    }

    #[test]
    fn settings_are_answered_by_the_source_or_refused_in_its_name() {
        let mut orders = Orders::default();
        orders.instruct(wanted(1, "{}", false));
        assert_eq!(orders.answered(), (1, String::new()), "there is nothing to take");
        orders.instruct(wanted(2, "{\"a\":1}", false));
        assert!(!orders.is_news());
        assert_eq!(orders.answered(), (2, "this collector takes no settings".to_owned()));

        assert_eq!(orders.look(), Settings { version: 2, json: "{\"a\":1}".to_owned() });
        assert_eq!(orders.answered(), (0, String::new()), "not answered yet");
        orders.answer(2, "a is unknown".to_owned());
        assert_eq!(orders.answered(), (2, "a is unknown".to_owned()));
        orders.instruct(wanted(3, "{}", false));
        assert!(orders.is_news());
        assert_eq!(orders.look().version, 3);
        assert!(!orders.is_news());
    }
}
