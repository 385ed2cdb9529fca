//! What is missing where the proc connector cannot be had.

use rustix::io::Errno;
use std::time::Duration;

/// Where a namespace of the host's own is told by its link, since the kernel gives it a fixed number (`PROC_*_INIT_INO`).
const FIRST: [(&str, &str); 2] = [("pid", "pid:[4026531836]"), ("user", "user:[4026531837]")];

/// The numbers that errors of the kernel have.
const ERRORS: std::ops::Range<i32> = 1..4096;

/// Why the proc connector is not available.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// There is no such protocol.
    #[error("this kernel has no connector (CONFIG_CONNECTOR)")]
    NoConnector,
    /// It may not be listened to.
    #[error("listening to the proc connector needs the capability CAP_NET_ADMIN: cannot {0}")]
    Capability(&'static str),
    /// The socket is of another network namespace than the kernel's end.
    #[error("the proc connector is only in the host's first network namespace, and procmond is in another")]
    NetworkNamespace,
    /// The kernel does not answer, as it does not in other namespaces of this kind.
    #[error("the proc connector answers only in the host's first {0} namespace, and procmond is in another")]
    Namespace(&'static str),
    /// The kernel does not answer, for none of these reasons.
    #[error("the kernel has not answered on the proc connector within {0:?}: it may have none (CONFIG_PROC_EVENTS)")]
    NoAnswer(Duration),
    /// The kernel refuses.
    #[error("the kernel refuses to tell events on the proc connector: {0}")]
    Refused(Errno),
    /// Nothing comes.
    #[error("the proc connector is subscribed to, but did not tell of an event of our own within {0:?}")]
    NoEvent(Duration),
    /// Anything else.
    #[error("cannot {doing} of the proc connector: {errno}")]
    Failed {
        /// What was done to the socket.
        doing: &'static str,
        /// What the system said.
        errno: Errno,
    },
    /// Events cannot be received.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}

/// Why no events can be received any more.
#[derive(Debug, thiserror::Error)]
#[error("cannot receive from the proc connector: {0}")]
pub(crate) struct ReceiveError(pub(super) Errno);

impl OpenError {
    /// The reason of a failed call.
    pub(super) fn of(doing: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => Self::NoConnector,
            Errno::PERM | Errno::ACCESS => Self::Capability(doing),
            // The kernel's end of the connector is not found.
            Errno::CONNREFUSED => Self::NetworkNamespace,
            errno => Self::Failed { doing, errno },
        }
    }

    /// The reason of an acknowledgement that is none.
    pub(super) fn of_answer(error: u32) -> Self {
        match i32::try_from(error).ok().filter(|error| ERRORS.contains(error)).map(Errno::from_raw_os_error) {
            Some(Errno::PERM) => Self::Capability("subscribe"),
            Some(errno) => Self::Refused(errno),
            None => Self::Refused(Errno::INVAL),
        }
    }

    /// The reason of silence, by where this process is.
    pub(super) fn of_silence(waited: Duration) -> Self {
        let is_first = |(kind, first): &(&str, &str)| {
            // What cannot be read explains nothing.
            std::fs::read_link(format!("/proc/self/ns/{kind}")).map_or(true, |link| link.as_os_str() == *first)
        };
        match FIRST.iter().find(|namespace| !is_first(namespace)) {
            Some(("pid", _)) => Self::Namespace("PID"),
            Some((kind, _)) => Self::Namespace(kind),
            None => Self::NoAnswer(waited),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_what_is_missing() {
        let of = |errno| OpenError::of("bind the socket", errno).to_string();
        assert!(of(Errno::PROTONOSUPPORT).contains("CONFIG_CONNECTOR"));
        assert!(of(Errno::PERM).contains("CAP_NET_ADMIN: cannot bind the socket"));
        assert!(of(Errno::CONNREFUSED).contains("network namespace"));
        assert_eq!(of(Errno::NOMEM), format!("cannot bind the socket of the proc connector: {}", Errno::NOMEM));
        // `EPERM`, `EINVAL`, and no error number at all.
        assert!(OpenError::of_answer(1).to_string().contains("CAP_NET_ADMIN"));
        assert!(matches!(OpenError::of_answer(22), OpenError::Refused(Errno::INVAL)));
        assert!(matches!(OpenError::of_answer(u32::MAX), OpenError::Refused(_)));
        assert!(matches!(OpenError::of_answer(0x7fff_ffff), OpenError::Refused(_)));
    }
}
