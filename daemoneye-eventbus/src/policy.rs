//! Who may do what on which topic.
//!
//! A pure function of the role and the name that the broker established: whatever is not allowed here is refused.

use crate::{proto::Role, topic};

/// What somebody wants to do with a topic or a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Publish,
    Subscribe,
    Serve,
    Call,
}

/// Whether a member of this role and name may do this on a (checked) topic or pattern.
pub(crate) fn allows(role: Role, name: &str, act: Act, topic: &str) -> bool {
    let segments: Vec<&str> = topic.split('.').collect();
    match (role, act) {
        (Role::Agent, _) => true,
        (Role::Collector, Act::Publish) => match segments.as_slice() {
            ["events", _, own] | ["control", "health", own] => *own == name,
            _ => false,
        },
        (Role::Collector, Act::Subscribe) => match segments.as_slice() {
            ["control", "collector" | "shutdown" | "config", own] | ["tasks", own] => *own == name,
            _ => false,
        },
        (Role::Collector, Act::Serve) => {
            matches!(segments.as_slice(), ["tasks", own] if *own == name || *own == topic::base(name))
        }
        (Role::Collector, Act::Call) => topic == "control.collector.register",
        (Role::Operator, Act::Call) => matches!(segments.as_slice(), ["requests", _, ..]),
        (Role::Operator, Act::Subscribe) => segments.first() == Some(&"alerts"),
        (Role::Operator, Act::Publish | Act::Serve) | (Role::Unspecified, _) => false,
    }
}

/// The pattern of the events that a collector of this name may publish.
pub(crate) fn events_of(name: &str) -> String {
    format!("events.+.{name}")
}

/// Whether all instances of a collector may serve a pattern together.
pub(crate) fn is_shared(pattern: &str) -> bool {
    pattern.starts_with("tasks.")
}

#[cfg(test)]
mod tests {
    use super::{Act, allows};
    use crate::proto::Role;

    #[test]
    fn a_collector_speaks_for_itself_alone() {
        let may = |act, topic| allows(Role::Collector, "procmond", act, topic);
        assert!(may(Act::Publish, "events.process.procmond"));
        assert!(may(Act::Publish, "events.network.procmond"));
        assert!(may(Act::Publish, "control.health.procmond"));
        assert!(may(Act::Call, "control.collector.register"));
        assert!(may(Act::Serve, "tasks.procmond"));
        for topic in
            ["control.collector.procmond", "control.shutdown.procmond", "control.config.procmond", "tasks.procmond"]
        {
            assert!(may(Act::Subscribe, topic), "{topic}");
        }

        for topic in
            ["events.process.other", "events.process", "events.procmond", "control.health.other", "alerts.high"]
        {
            assert!(!may(Act::Publish, topic), "{topic}");
        }
        for topic in ["control.collector.procmond", "control.shutdown.procmond", "tasks.procmond", "requests.query"] {
            assert!(!may(Act::Publish, topic), "{topic}");
        }
        for topic in
            ["control.collector.other", "control.collector.+", "control.#", "#", "tasks.#", "alerts.#", "events.#"]
        {
            assert!(!may(Act::Subscribe, topic), "{topic}");
        }
        for topic in ["requests.query", "tasks.other", "control.collector.procmond"] {
            assert!(!may(Act::Call, topic), "{topic}");
        }
        for topic in ["tasks.other", "tasks.+", "requests.query", "control.collector.register"] {
            assert!(!may(Act::Serve, topic), "{topic}");
        }
    }

    #[test]
    fn an_instance_serves_its_own_tasks_and_those_of_its_collector() {
        let may = |act, topic| allows(Role::Collector, "procmond@2", act, topic);
        assert!(may(Act::Serve, "tasks.procmond@2") && may(Act::Serve, "tasks.procmond"));
        assert!(may(Act::Publish, "events.process.procmond@2") && may(Act::Subscribe, "control.shutdown.procmond@2"));
        assert!(!may(Act::Serve, "tasks.procmond@3") && !may(Act::Serve, "tasks.other"));
        for topic in ["events.process.procmond", "control.health.procmond", "events.process.procmond@3"] {
            assert!(!may(Act::Publish, topic), "{topic}");
        }
        assert!(!may(Act::Subscribe, "control.collector.procmond"));
        assert!(!allows(Role::Collector, "procmond", Act::Serve, "tasks.procmond@2"));
    }

    #[test]
    fn an_operator_asks_and_reads_alerts() {
        let may = |act, topic| allows(Role::Operator, "", act, topic);
        assert!(may(Act::Call, "requests.query"));
        assert!(may(Act::Call, "requests.health"));
        assert!(may(Act::Subscribe, "alerts.#"));
        assert!(may(Act::Subscribe, "alerts.high"));

        for topic in ["control.collector.register", "tasks.procmond", "requests"] {
            assert!(!may(Act::Call, topic), "{topic}");
        }
        for topic in ["#", "+.high", "events.#", "control.#", "requests.query"] {
            assert!(!may(Act::Subscribe, topic), "{topic}");
        }
        for topic in ["alerts.high", "events.process.procmond", "control.shutdown.procmond", "requests.query"] {
            assert!(!may(Act::Publish, topic), "{topic}");
            assert!(!may(Act::Serve, topic), "{topic}");
        }
    }

    #[test]
    fn nobody_acts_without_a_role() {
        for act in [Act::Publish, Act::Subscribe, Act::Serve, Act::Call] {
            assert!(!allows(Role::Unspecified, "", act, "alerts.high"));
            assert!(allows(Role::Agent, "", act, "alerts.high"));
        }
    }
}
