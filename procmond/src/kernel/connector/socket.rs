//! The edge: the socket of the proc connector.

use super::message::{self, ConnectorEvent, Message, MessageError};
use super::sequence::{Loss, Sequences};
use super::{OpenError, ReceiveError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::thread::{self, CpuSet};
use std::time::{Duration, Instant};

/// The kernel answers at once; this is for a host that is busy.
const PATIENCE: Duration = Duration::from_secs(1);
/// The connector's longest message, with its headers (`CONNECTOR_MAX_MSG_SIZE`).
const MAX_DATAGRAM: usize = 16 * 1024 + 64;
/// So many datagrams are taken before who receives has its turn.
const AT_ONCE: usize = 8192;
/// The kernel doubles what it is asked for, and counts in 31 bits.
const MAX_BUFFER: usize = 1 << 30;

/// What the connector tells.
#[derive(Debug)]
pub(crate) enum Notice {
    /// An event.
    Event(Message),
    /// The event that follows is not the next one of its CPU.
    Lost(Loss),
    /// The buffer was full, and the kernel has dropped messages: by the order in which they were made, behind those that are
    /// in the buffer now.
    Overrun,
    /// The kernel has sent something that is no message.
    Malformed(MessageError),
    /// Somebody who is not the kernel has sent something, which was not read.
    Foreign {
        /// The netlink address of who it was.
        port: u32,
    },
}

/// A subscription to the proc connector; it ends with the value.
#[derive(Debug)]
pub(crate) struct Connector {
    socket: OwnedFd,
    sequences: Sequences,
    datagram: Vec<u8>,
}

/// A socket on which nothing comes yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    socket: OwnedFd,
}

impl Prepared {
    /// As [`Connector::open`].
    ///
    /// # Errors
    ///
    /// What is missing, where the connector cannot be had.
    pub(crate) fn subscribe(self) -> Result<Connector, OpenError> {
        let connector =
            Connector { socket: self.socket, sequences: Sequences::default(), datagram: vec![0; MAX_DATAGRAM] };
        let (group, _) = message::PROC;
        // The address that the kernel gave it stays; only the group is new.
        let own = net::getsockname(&connector.socket).map_err(|errno| OpenError::of("name the socket", errno))?;
        let port = SocketAddrNetlink::try_from(own).map_or(0, |own| own.pid());
        net::bind(&connector.socket, &SocketAddrNetlink::new(port, 1 << (group - 1)))
            .map_err(|errno| OpenError::of("bind the socket", errno))?;
        connector.prove()
    }
}

impl Connector {
    /// Subscribes, and waits until it is proven that events come. The socket's buffer gets so many bytes, of which a message
    /// takes about 800; without `CAP_NET_ADMIN` as many as the system allows everyone.
    ///
    /// What happens before this returns is not told.
    ///
    /// # Errors
    ///
    /// What is missing, where the connector cannot be had.
    pub(crate) fn open(buffer_bytes: usize) -> Result<Self, OpenError> {
        Self::prepare(buffer_bytes)?.subscribe()
    }

    /// The socket alone, on which nothing comes: for who may not open one later.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub(crate) fn prepare(buffer_bytes: usize) -> Result<Prepared, OpenError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::CONNECTOR))
            .map_err(|errno| OpenError::of("open the socket", errno))?;
        let buffer_bytes = buffer_bytes.min(MAX_BUFFER);
        if sockopt::set_socket_recv_buffer_size_force(&socket, buffer_bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, buffer_bytes)
                .map_err(|errno| OpenError::of("size the buffer", errno))?;
        }
        net::bind(&socket, &SocketAddrNetlink::new(0, 0)).map_err(|errno| OpenError::of("bind the socket", errno))?;
        Ok(Prepared { socket })
    }

    fn prove(mut self) -> Result<Self, OpenError> {
        let own = std::process::id();
        net::send(&self.socket, &message::subscription(own), SendFlags::empty())
            .map_err(|errno| OpenError::of("write to the socket", errno))?;
        let (mut answer, mut event) = (None, false);
        let begun = Instant::now();
        while answer.is_none() || !event {
            // An overrun may have taken the event before, so there is one in every round.
            call_the_roll();
            let left = PATIENCE.saturating_sub(begun.elapsed());
            self.receive(left.min(PATIENCE / 10), &mut |notice| match notice {
                Notice::Event(Message { event: ConnectorEvent::Ack { number, error }, .. })
                    if number == own.wrapping_add(1) =>
                {
                    answer = Some(error);
                }
                Notice::Event(Message { event: ConnectorEvent::Comm { tgid, .. }, .. }) if tgid == own => event = true,
                _ => {}
            })?;
            match answer {
                Some(0) | None => {}
                Some(error) => return Err(OpenError::of_answer(error)),
            }
            if left.is_zero() {
                break;
            }
        }
        match (answer, event) {
            (Some(_), true) => Ok(self),
            (Some(_), false) => Err(OpenError::NoEvent(PATIENCE)),
            (None, _) => Err(OpenError::of_silence(PATIENCE)),
        }
    }

    /// How many bytes the socket's buffer takes: twice what was asked for, where that was granted.
    #[cfg(test)]
    pub(crate) fn buffer_bytes(&self) -> std::io::Result<usize> {
        Ok(sockopt::socket_recv_buffer_size(&self.socket)?)
    }

    /// Makes each CPU that this process may run on send a message, so that it is known what is missing on it. The messages
    /// are events of threads of this process: a name that stays as it is.
    ///
    /// To be called when what was there has been received, or there may be no room for them.
    pub(crate) fn roll_call(&self) {
        call_the_roll();
    }

    /// Waits up to `wait` for a datagram, and takes those that are there; how many there were. It leaves some where events
    /// come faster than they are taken.
    ///
    /// # Errors
    ///
    /// When the socket can be used no more.
    pub(crate) fn receive(&mut self, wait: Duration, take: &mut dyn FnMut(Notice)) -> Result<usize, ReceiveError> {
        if !self.wait(wait).map_err(ReceiveError)? {
            return Ok(0);
        }
        let mut datagrams = 0;
        while datagrams < AT_ONCE {
            // With `TRUNC`, a length beyond the buffer tells that there was more.
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            match retry_on_intr(|| net::recvfrom(&self.socket, &mut self.datagram[..], flags)) {
                Ok((read, length, from)) => {
                    datagrams += 1;
                    let port = from.and_then(|from| SocketAddrNetlink::try_from(from).ok()).map(|from| from.pid());
                    match port {
                        Some(0) if length > read => take(Notice::Malformed(MessageError::Short(read))),
                        Some(0) => {
                            let datagram = self.datagram.get(..read).unwrap_or_default();
                            note(&mut self.sequences, datagram, take);
                        }
                        port => take(Notice::Foreign { port: port.unwrap_or_default() }),
                    }
                }
                Err(Errno::NOBUFS) => take(Notice::Overrun),
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(ReceiveError(errno)),
            }
        }
        Ok(datagrams)
    }

    /// Whether there is something to receive, or an error to be told.
    pub(super) fn wait(&self, wait: Duration) -> Result<bool, Errno> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn note(sequences: &mut Sequences, datagram: &[u8], take: &mut dyn FnMut(Notice)) {
    for message in message::parse(datagram) {
        match message {
            Ok(message) => {
                if let Some(loss) = sequences.note(&message) {
                    take(Notice::Lost(loss));
                }
                take(Notice::Event(message));
            }
            Err(error) => take(Notice::Malformed(error)),
        }
    }
}

/// A thread that gives itself its own name on each CPU: the smallest event that changes nothing. It is a thread of its
/// own, so that nobody else's affinity is touched.
fn call_the_roll() {
    let thread = std::thread::Builder::new().name("procmond-roll".to_owned()).spawn(|| {
        let Ok(name) = thread::name() else { return };
        let Ok(allowed) = thread::sched_getaffinity(None) else { return };
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)) {
            let mut only = CpuSet::new();
            only.set(cpu);
            // A CPU that went offline meanwhile has nothing more to lose.
            if thread::sched_setaffinity(None, &only).is_ok() {
                let _ = thread::set_name(&name);
            }
        }
    });
    // Without a thread there is no roll call: what is missing is known later.
    if let Ok(thread) = thread {
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_before_what_follows_it_and_garbage_as_such() {
        let mut sequences = Sequences::default();
        let mut told = Vec::new();
        let mut take = |notice| {
            told.push(match notice {
                Notice::Event(message) => format!("event {}", message.sequence),
                Notice::Lost(loss) => format!("lost {}", loss.count),
                Notice::Malformed(error) => error.to_string(),
                other => format!("{other:?}"),
            });
        };
        for sequence in [7, 10] {
            note(&mut sequences, &message::tests::exec(sequence), &mut take);
        }
        note(&mut sequences, b"abc", &mut take);
        let short = "a message of the proc connector ends after 3 bytes, before its end";
        assert_eq!(told, ["event 7", "lost 2", "event 10", short]);
    }
}
