//! What procmond cannot see on systems other than Linux, in the operator's words.

/// From where procmond looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View;

impl View {
    /// That of this process.
    pub(crate) fn of_this_process() -> Self {
        Self
    }

    /// What cannot be seen.
    pub(crate) fn limitations(&self) -> Vec<String> {
        vec![
            "on this system processes are read through sysinfo: many columns are unavailable, start times are whole \
             seconds, and what another user's processes run may not be readable"
                .to_owned(),
        ]
    }
}
