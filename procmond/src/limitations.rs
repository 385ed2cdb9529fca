//! What procmond cannot see from where it stands, in the operator's words.

use crate::procfs::mounts;
use rustix::thread::CapabilitySet;

/// How the link of the host's first PID namespace reads (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// From where procmond looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// It may look into every process.
    privileged: bool,
    /// It is in the host's own PID namespace.
    whole_host: bool,
    /// Options of `/proc` that hide processes of others from the unprivileged.
    hiding: Vec<String>,
}

impl View {
    /// That of this process. What cannot be found out counts as a limitation.
    pub(crate) fn of_this_process() -> Self {
        let namespace = std::fs::read_link("/proc/self/ns/pid");
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self {
            privileged: rustix::thread::capabilities(None)
                .is_ok_and(|held| held.effective.contains(CapabilitySet::SYS_PTRACE)),
            whole_host: namespace.is_ok_and(|link| link.as_os_str() == FIRST_PID_NAMESPACE),
            hiding: mounts::hiding_options(&mounts),
        }
    }

    /// `/proc` hides processes of others from this one.
    pub(crate) fn is_narrowed(&self) -> bool {
        !self.privileged && !self.hiding.is_empty()
    }

    /// What cannot be seen.
    pub(crate) fn limitations(&self) -> Vec<String> {
        let mut limitations = Vec::new();
        if !self.privileged {
            limitations.push(
                "not privileged: executables, working directories, environments and namespaces of other users' \
                 processes may not be readable"
                    .to_owned(),
            );
            if self.is_narrowed() {
                let options = self.hiding.join(",");
                limitations.push(format!("/proc is mounted with {options}: other users' processes are hidden"));
            }
        }
        if !self.whole_host {
            limitations.push("in a PID namespace of its own: processes outside of it are not seen".to_owned());
        }
        limitations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_told_and_only_where_it_holds() {
        let hiding = vec!["hidepid=2".to_owned()];
        let root = View { privileged: true, whole_host: true, hiding: hiding.clone() };
        assert!(root.limitations().is_empty() && !root.is_narrowed(), "hidepid hides nothing from the privileged");
        let user = View { privileged: false, whole_host: true, hiding };
        let [readable, hidden] = &user.limitations()[..] else { panic!("{:?}", user.limitations()) };
        assert!(readable.contains("other users'") && hidden.contains("hidepid=2") && user.is_narrowed());
        let contained = View { privileged: true, whole_host: false, hiding: Vec::new() };
        assert!(contained.limitations()[0].contains("PID namespace"));
    }

    #[test]
    fn this_process_is_privileged_if_it_is_root() {
        assert_eq!(View::of_this_process().privileged, testkit::is_root());
    }
}
