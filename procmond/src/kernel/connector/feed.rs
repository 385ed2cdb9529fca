//! The connector as a feed: notices of processes, and what is missing of them.

use super::leaders::{Leaders, Standing};
use super::{Connector, ConnectorEvent, Notice};
use crate::kernel::{Act, Feed, FeedError, Loss, News, Noticed};
use crate::procfs::boot::asleep;
use collector_core::{Sink, Stopped};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The longest wait without a look at whether to stop.
const NAP: Duration = Duration::from_millis(100);

/// Gives what the connector tells of processes, not of their threads.
pub(crate) struct Notices {
    connector: Connector,
    leaders: Leaders,
    lost: u64,
    overruns: u64,
    strange: u64,
    /// Whether the last roll call was heard.
    heard: bool,
}

impl Notices {
    pub(crate) fn of(connector: Connector) -> Self {
        let leaders = Leaders::new(rustix::param::clock_ticks_per_second());
        Self { connector, leaders, lost: 0, overruns: 0, strange: 0, heard: true }
    }
}

impl Feed for Notices {
    fn drain(&mut self, take: &mut dyn FnMut(News<'_>) -> ControlFlow<()>) -> Result<(), FeedError> {
        // Which the connector's times leave out.
        let asleep = asleep();
        let (mut lost, mut overruns, mut strange, mut heard) = (0, 0, 0, self.heard);
        let (own, leaders) = (std::process::id(), &mut self.leaders);
        // What has been received is given to the end: it is nowhere else.
        let received = self.connector.receive(Duration::ZERO, &mut |notice| match notice {
            Notice::Event(message) => {
                heard |= matches!(message.event, ConnectorEvent::Comm { tgid, .. } if tgid == own);
                let at = message.at.saturating_add(asleep);
                if let Some(noticed) = noticed(at, &message.event, leaders) {
                    let _ = take(News::Noticed(noticed));
                }
            }
            Notice::Lost(loss) => lost += u64::from(loss.count),
            Notice::Overrun => overruns += 1,
            Notice::Malformed(error) => {
                tracing::debug!(%error, "not understood");
                strange += 1;
            }
            Notice::Foreign { port } => tracing::warn!(port, "somebody who is not the kernel sends events"),
        });
        for end in self.leaders.due(Instant::now(), Standing::of) {
            let _ = take(News::Noticed(end));
        }
        self.heard = heard;
        (self.lost, self.overruns, self.strange) = (self.lost + lost, self.overruns + overruns, self.strange + strange);
        if overruns > 0 {
            // Every processor's next message tells how many of its own are missing.
            self.connector.roll_call();
        }
        received.map(|_| ()).map_err(|error| FeedError(std::io::Error::other(error)))
    }

    fn losses(&mut self) -> Result<Vec<Loss>, FeedError> {
        let mut losses = Vec::new();
        let (lost, overruns) = (std::mem::take(&mut self.lost), std::mem::take(&mut self.overruns));
        if lost > 0 || overruns > 0 {
            let reason = "the proc connector's buffer was full (ENOBUFS): events of processes and threads were lost";
            losses.push(Loss {
                kind: "connector_overrun",
                count: (lost > 0).then_some(lost),
                reason: reason.to_owned(),
            });
        }
        let reason = "messages of the proc connector were not understood";
        losses.extend(Loss::of("connector_foreign", std::mem::take(&mut self.strange), reason));
        Ok(losses)
    }

    fn is_alive(&mut self) -> bool {
        let heard = std::mem::take(&mut self.heard);
        self.connector.roll_call();
        heard
    }

    fn wait(&mut self, sink: &Sink, time: Duration) -> Result<(), Stopped> {
        // What a process has in /proc is read before it ends, if at all: each event wakes.
        self.connector.wait(time.min(NAP)).map_err(|_| Stopped).ok();
        sink.pause(Duration::ZERO)
    }
}

/// What happened to which process; of its threads only what ends or goes on with them.
fn noticed(at: u64, event: &ConnectorEvent, leaders: &mut Leaders) -> Option<Noticed> {
    let (pid, act) = match *event {
        ConnectorEvent::Fork { child_pid, child_tgid, parent_tgid, .. } if child_pid == child_tgid => {
            (child_tgid, Act::Fork { parent: parent_tgid })
        }
        ConnectorEvent::Exec { tgid, .. } => {
            leaders.executed(tgid);
            (tgid, Act::Exec)
        }
        ConnectorEvent::Exit { pid, tgid, exit_code, .. } if pid == tgid => {
            return leaders.ended(tgid, at, exit_code.cast_signed(), Standing::of(tgid));
        }
        ConnectorEvent::Exit { tgid, exit_code, .. } => {
            leaders.another(tgid, at, exit_code.cast_signed());
            return None;
        }
        ConnectorEvent::Uid { tgid, .. } | ConnectorEvent::Gid { tgid, .. } | ConnectorEvent::Sid { tgid, .. } => {
            (tgid, Act::Change)
        }
        _ => return None,
    };
    Some(Noticed { at, pid, act })
}
