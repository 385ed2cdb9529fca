//! The connector's datagrams, as a pure function over bytes.
//!
//! A datagram is one netlink message, in the byte order of the host: `nlmsghdr` (16 bytes) holds `cn_msg` (20 bytes), which
//! holds `proc_event` (16 bytes and what depends on the event); `linux/netlink.h`, `linux/connector.h`, `linux/cn_proc.h`.
//!
//! ```text
//!  0  length u32 │ 4 type u16 │ 6 flags u16 │ 8 sequence u32 │ 12 port u32          nlmsghdr
//! 16  idx u32 │ 20 val u32 │ 24 sequence u32 │ 28 ack u32 │ 32 length u16 │ 34 flags u16   cn_msg
//! 36  what u32 │ 40 cpu u32 │ 44 time u64 │ 52 …                                   proc_event
//! ```
//!
//! Pids are those of the host's first PID namespace. The kernel says "pid" for a thread and "tgid" for its process.

const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
const EVENT_HEADER: usize = 16;
/// The only type of netlink message that the connector sends (`NLMSG_DONE`).
const DONE: u16 = 3;
/// `CN_IDX_PROC` and `CN_VAL_PROC`; the first is also the number of the multicast group.
pub(super) const PROC: (u32, u32) = (1, 1);
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;

const COMM: usize = 16;

/// One thread, and the process that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// The thread; of the first thread of a process, the number is the process's.
    pub(crate) pid: u32,
    /// The process.
    pub(crate) tgid: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectorEvent {
    /// A thread was created; a process, where its pid is its tgid.
    Fork { child_pid: u32, child_tgid: u32, parent_pid: u32, parent_tgid: u32 },
    /// A process runs another program.
    Exec { pid: u32, tgid: u32 },
    /// A thread has ended, with its wait status (`exit code << 8 | signal`, and 0x80 for a core dump) and the signal that its
    /// parent gets. The parent is 0 where the kernel does not say (before 4.18, or when it was reaped meanwhile).
    Exit { pid: u32, tgid: u32, exit_code: u32, exit_signal: u32, parent: Process },
    /// Its user ids are other ones.
    Uid { pid: u32, tgid: u32, ruid: u32, euid: u32 },
    /// Its group ids are other ones.
    Gid { pid: u32, tgid: u32, rgid: u32, egid: u32 },
    /// It leads a new session.
    Sid { pid: u32, tgid: u32 },
    /// It has another name: bytes that it chose.
    Comm { pid: u32, tgid: u32, comm: Vec<u8> },
    /// It is traced by this one; by 0, no more.
    Ptrace { pid: u32, tgid: u32, tracer: Process },
    /// It dumps core.
    Coredump { pid: u32, tgid: u32, parent: Process },
    /// The answer to a subscription, anybody's: the number that it gave plus one, and the error, 0 for none.
    Ack { number: u32, error: u32 },
    /// Something that this version does not know; it counts in its CPU's sequence like all others.
    Other { what: u32 },
}

/// A message of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Numbers the messages of its CPU, and wraps around.
    pub(crate) sequence: u32,
    /// Which CPU; [`u32::MAX`] for none (acknowledgements before Linux 4.9).
    pub(crate) cpu: u32,
    /// Nanoseconds by the kernel's `ktime_get_ns`: `CLOCK_MONOTONIC`, which stands still while the host is suspended. The
    /// start times in `/proc` are by `CLOCK_BOOTTIME`, which does not.
    pub(crate) at: u64,
    /// What happened.
    pub(crate) event: ConnectorEvent,
}

/// Why bytes are no message of the proc connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    /// There is less than it says.
    #[error("a message of the proc connector ends after {0} bytes, before its end")]
    Short(usize),
    /// It is a netlink message of another type.
    #[error("a netlink message of type {0} is none of the connector's")]
    Type(u16),
    /// It is somebody else's.
    #[error("a message of connector {idx}.{val} is none of the proc connector's")]
    Foreign { idx: u32, val: u32 },
}

/// The messages of a datagram, of which the kernel puts one into each.
///
/// After an error there is no more: nothing says where the next message would begin.
pub(crate) fn parse(datagram: &[u8]) -> Messages<'_> {
    Messages { rest: datagram }
}

/// See [`parse`].
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let length = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok());
        let Some(message) = length.filter(|length| *length >= NETLINK_HEADER).and_then(|length| rest.get(..length))
        else {
            return Some(Err(MessageError::Short(rest.len())));
        };
        let parsed = one(message);
        if parsed.is_ok() {
            self.rest = rest.get(message.len().next_multiple_of(4)..).unwrap_or_default();
        }
        Some(parsed)
    }
}

fn one(message: &[u8]) -> Result<Message, MessageError> {
    let short = MessageError::Short(message.len());
    let kind = u16_at(message, 4).ok_or(short)?;
    if kind != DONE {
        return Err(MessageError::Type(kind));
    }
    let connector = message.get(NETLINK_HEADER..).ok_or(short)?;
    let [idx, val, sequence, ack] = numbers(connector, 0).ok_or(short)?;
    if (idx, val) != PROC {
        return Err(MessageError::Foreign { idx, val });
    }
    let length = usize::from(u16_at(connector, 16).ok_or(short)?);
    let event = connector.get(CONNECTOR_HEADER..).and_then(|rest| rest.get(..length)).ok_or(short)?;
    let [what, cpu] = numbers(event, 0).ok_or(short)?;
    let at = event.get(8..EVENT_HEADER).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes).ok_or(short)?;
    let data = event.get(EVENT_HEADER..).ok_or(short)?;
    let event = happened(what, ack, data).ok_or(short)?;
    Ok(Message { sequence, cpu, at, event })
}

fn happened(what: u32, ack: u32, data: &[u8]) -> Option<ConnectorEvent> {
    Some(match what {
        0 => {
            let [error] = numbers(data, 0)?;
            ConnectorEvent::Ack { number: ack, error }
        }
        0x1 => {
            let [parent_pid, parent_tgid, child_pid, child_tgid] = numbers(data, 0)?;
            ConnectorEvent::Fork { child_pid, child_tgid, parent_pid, parent_tgid }
        }
        0x2 => {
            let [pid, tgid] = numbers(data, 0)?;
            ConnectorEvent::Exec { pid, tgid }
        }
        0x4 => {
            let [pid, tgid, ruid, euid] = numbers(data, 0)?;
            ConnectorEvent::Uid { pid, tgid, ruid, euid }
        }
        0x40 => {
            let [pid, tgid, rgid, egid] = numbers(data, 0)?;
            ConnectorEvent::Gid { pid, tgid, rgid, egid }
        }
        0x80 => {
            let [pid, tgid] = numbers(data, 0)?;
            ConnectorEvent::Sid { pid, tgid }
        }
        0x100 => {
            let [pid, tgid, tracer_pid, tracer_tgid] = numbers(data, 0)?;
            ConnectorEvent::Ptrace { pid, tgid, tracer: Process { pid: tracer_pid, tgid: tracer_tgid } }
        }
        0x200 => {
            let [pid, tgid] = numbers(data, 0)?;
            let name = data.get(8..8 + COMM)?;
            let comm = name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            ConnectorEvent::Comm { pid, tgid, comm }
        }
        0x4000_0000 => {
            let [pid, tgid, parent_pid, parent_tgid] = numbers(data, 0)?;
            ConnectorEvent::Coredump { pid, tgid, parent: Process { pid: parent_pid, tgid: parent_tgid } }
        }
        0x8000_0000 => {
            let [pid, tgid, exit_code, exit_signal] = numbers(data, 0)?;
            // Older kernels say nothing of the parent, in as many bytes or in fewer.
            let [parent_pid, parent_tgid] = numbers(data, 16).unwrap_or_default();
            let parent = Process { pid: parent_pid, tgid: parent_tgid };
            ConnectorEvent::Exit { pid, tgid, exit_code, exit_signal, parent }
        }
        what => ConnectorEvent::Other { what },
    })
}

/// The request to be told events. The kernel's acknowledgement will bear `number` + 1.
pub(super) fn subscription(number: u32) -> Vec<u8> {
    const LENGTH: u32 = (NETLINK_HEADER + CONNECTOR_HEADER + 4) as u32;
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend(LENGTH.to_ne_bytes());
    message.extend([DONE, 0].map(u16::to_ne_bytes).concat());
    message.extend([0, 0, PROC.0, PROC.1, 0, number].map(u32::to_ne_bytes).concat());
    message.extend([4, 0].map(u16::to_ne_bytes).concat());
    message.extend(LISTEN.to_ne_bytes());
    message
}

fn numbers<const N: usize>(bytes: &[u8], at: usize) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = u32_at(bytes, at + 4 * index)?;
    }
    Some(numbers)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// That a process runs another program, with this number.
    pub(in super::super) fn exec(sequence: u32) -> Vec<u8> {
        let mut bytes = datagram(0x2, &[0; 8]);
        bytes[24..28].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }

    fn datagram(what: u32, data: &[u8]) -> Vec<u8> {
        let event = [&what.to_ne_bytes()[..], &3u32.to_ne_bytes(), &77u64.to_ne_bytes(), data].concat();
        let length = u16::try_from(event.len()).unwrap();
        let connector = [1u32, 1, 42, 9].map(u32::to_ne_bytes).concat();
        let body = [&connector[..], &length.to_ne_bytes(), &[0, 0], &event].concat();
        let whole = u32::try_from(NETLINK_HEADER + body.len()).unwrap();
        [&whole.to_ne_bytes()[..], &DONE.to_ne_bytes(), &[0; 10], &body].concat()
    }

    /// Every event as the kernel sends it, in 24 bytes, and what it means.
    fn events() -> Vec<(Vec<u8>, ConnectorEvent)> {
        use ConnectorEvent as E;
        let six = [11u32, 12, 13, 14, 15, 16].map(u32::to_ne_bytes).concat();
        let named = [&six[..8], b"a\xffname\0garbage!!"].concat();
        let (pid, tgid) = (11, 12);
        let second = Process { pid: 13, tgid: 14 };
        let what = [
            (0, E::Ack { number: 9, error: 11 }),
            (0x1, E::Fork { parent_pid: 11, parent_tgid: 12, child_pid: 13, child_tgid: 14 }),
            (0x2, E::Exec { pid, tgid }),
            (0x4, E::Uid { pid, tgid, ruid: 13, euid: 14 }),
            (0x40, E::Gid { pid, tgid, rgid: 13, egid: 14 }),
            (0x80, E::Sid { pid, tgid }),
            (0x100, E::Ptrace { pid, tgid, tracer: second }),
            (0x200, E::Comm { pid, tgid, comm: b"a\xffname".to_vec() }),
            (0x400, E::Other { what: 0x400 }),
            (0x4000_0000, E::Coredump { pid, tgid, parent: second }),
            (0x8000_0000, E::Exit { pid, tgid, exit_code: 13, exit_signal: 14, parent: Process { pid: 15, tgid: 16 } }),
        ];
        what.map(|(what, event)| (datagram(what, if what == 0x200 { &named } else { &six }), event)).into()
    }

    #[test]
    fn every_event_is_understood() {
        for (bytes, event) in events() {
            let expected = Message { sequence: 42, cpu: 3, at: 77, event };
            assert_eq!(parse(&bytes).collect::<Vec<_>>(), [Ok(expected)]);
        }
    }

    #[test]
    fn a_name_of_full_length_has_no_end_and_an_old_exit_no_parent() {
        let data = [&[0; 8][..], b"0123456789abcdef"].concat();
        let Some(Ok(message)) = parse(&datagram(0x200, &data)).next() else { panic!("a message") };
        assert_eq!(message.event, ConnectorEvent::Comm { pid: 0, tgid: 0, comm: b"0123456789abcdef".to_vec() });
        let data = [1u32, 1, 256, 17].map(u32::to_ne_bytes).concat();
        let Some(Ok(message)) = parse(&datagram(0x8000_0000, &data)).next() else { panic!("a message") };
        let parent = Process { pid: 0, tgid: 0 };
        assert_eq!(message.event, ConnectorEvent::Exit { pid: 1, tgid: 1, exit_code: 256, exit_signal: 17, parent });
    }

    #[test]
    fn no_beginning_of_a_message_is_taken_for_one() {
        for (bytes, _) in events() {
            for end in 1..bytes.len() {
                assert_eq!(parse(&bytes[..end]).collect::<Vec<_>>(), [Err(MessageError::Short(end))], "{end}");
            }
            // Lengths within that say more than there is.
            let mut lying = bytes.clone();
            lying[32..34].copy_from_slice(&u16::MAX.to_ne_bytes());
            assert_eq!(parse(&lying).collect::<Vec<_>>(), [Err(MessageError::Short(bytes.len()))]);
        }
    }

    #[test]
    fn what_is_of_others_is_told_apart() {
        let (bytes, _) = events().remove(2);
        let mut other = bytes.clone();
        other[16] = 8;
        let foreign = if cfg!(target_endian = "little") { 8 } else { 0x0800_0001 };
        assert_eq!(parse(&other).next(), Some(Err(MessageError::Foreign { idx: foreign, val: 1 })));
        let mut error = bytes.clone();
        error[4..6].copy_from_slice(&2u16.to_ne_bytes());
        assert_eq!(parse(&error).next(), Some(Err(MessageError::Type(2))));
        assert_eq!(parse(&[bytes.clone(), bytes.clone()].concat()).filter(Result::is_ok).count(), 2);
        assert_eq!(parse(&[bytes, error].concat()).map(|message| message.is_ok()).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_subscription_is_a_message_of_the_connector_with_one_number() {
        let bytes = subscription(7);
        assert_eq!(u32_at(&bytes, 0), Some(40));
        assert_eq!((bytes.len(), u16_at(&bytes, 4), u16_at(&bytes, 32)), (40, Some(DONE), Some(4)));
        assert_eq!(numbers(&bytes, 16), Some([1, 1, 0, 7]));
        assert_eq!(u32_at(&bytes, 36), Some(1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes: Vec<u8>) {
            let read: usize = parse(&bytes).filter(Result::is_ok).count();
            prop_assert!(read * (NETLINK_HEADER + CONNECTOR_HEADER + EVENT_HEADER) <= bytes.len());
        }

        #[test]
        fn any_change_of_a_message_is_taken(which in 0..11usize, at in 0..76usize, byte: u8) {
            let (mut bytes, _) = events().swap_remove(which);
            bytes[at] = byte;
            prop_assert!(parse(&bytes).count() <= 4);
        }
    }

    #[test]
    fn fuzz_connector() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let whole: Vec<_> = parse(bytes).collect();
            assert!(whole.iter().rev().skip(1).all(Result::is_ok), "an error ends it");
            // Behind the headers, where the events are: random bytes seldom get there.
            if let Some((what, data)) = bytes.split_first_chunk::<4>() {
                let _ = parse(&datagram(u32::from_ne_bytes(*what), &data[..data.len().min(100)])).count();
            }
        });
    }
}
