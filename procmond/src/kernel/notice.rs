//! From a notice, which names a pid and no more, to an event: the rest is read from `/proc`, if the process is still there.

use super::{Act, Noticed};
use crate::poller::Poller;
use crate::scan::{Interrupted, Look};
use crate::tell::{Scene, Teller, users_of};
use daemoneye_lib::proto::ipc::collected_item::Item;

/// What every event of a feed of notices is told with.
pub(super) struct Setting {
    pub(super) source: &'static str,
    pub(super) clock: i64,
    pub(super) crowded: bool,
}

impl Setting {
    /// The same with what is known of processes.
    pub(super) fn scene<'a, C: Look>(&self, poller: &'a mut Poller<C>) -> Scene<'a> {
        let (boot, table, scan) = poller.known();
        let &Self { source, clock, crowded } = self;
        Scene { boot, table, scan, source, clock, crowded }
    }
}

/// Tells what was noticed.
pub(super) fn tell<C: Look>(
    noticed: Noticed,
    poller: &mut Poller<C>,
    teller: &mut Teller,
    setting: &Setting,
    tell: &mut dyn FnMut(Item) -> Result<(), Interrupted>,
) -> Result<(), Interrupted> {
    let Noticed { at, pid, act } = noticed;
    match act {
        Act::Fork { parent } => {
            let glimpse = poller.glimpse(pid);
            teller.forked_by_notice(at, (pid, parent), glimpse, &mut setting.scene(poller), tell)
        }
        Act::Exec => {
            let event_time = setting.clock.saturating_add_unsigned(at);
            let users = poller.known().1.get(pid).and_then(users_of);
            let seen = poller.look_for_exec(pid, event_time, tell)?;
            let mut scene = setting.scene(poller);
            if seen {
                return teller.gained_by_look(at, pid, users, &scene, tell);
            }
            teller.exec_unseen(at, pid, &mut scene, tell)
        }
        Act::Change => {
            let users = poller.known().1.get(pid).and_then(users_of);
            poller.look(pid, tell)?;
            // A program that is set-uid changes its user before it is told to have begun.
            teller.gained_by_look(at, pid, users, &setting.scene(poller), tell)
        }
        Act::Exit { status } => teller.exited_by_notice(at, pid, status, &mut setting.scene(poller), tell),
    }
}
