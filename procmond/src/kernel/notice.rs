//! From a notice, which names a pid and no more, to an event: the rest is read from `/proc`, if the process is still there.

use super::{Act, Exit, Noticed, Who};
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

/// Tells what was noticed.
pub(super) fn tell<C: Look>(
    noticed: Noticed,
    poller: &mut Poller<C>,
    teller: &mut Teller,
    setting: &Setting,
    tell: &mut dyn FnMut(Item) -> Result<(), Interrupted>,
) -> Result<(), Interrupted> {
    let Noticed { at, pid, act } = noticed;
    let &Setting { source, clock, crowded } = setting;
    match act {
        Act::Fork { parent } => {
            let glimpse = poller.glimpse(pid);
            let (boot, table, scan) = poller.known();
            let copied = table.get(parent);
            let (start, uid) = (glimpse.as_ref().map(|seen| seen.start_ticks), copied.and_then(|known| known.uid));
            let parent_start = copied.map(|known| boot.within(known.start_ticks));
            let name = glimpse.as_ref().map(|seen| seen.name.clone());
            let name = name.unwrap_or_else(|| copied.map(|known| known.name.clone().into_bytes()).unwrap_or_default());
            let (euid, egid) = glimpse.as_ref().map_or((uid.unwrap_or_default(), 0), |seen| (seen.euid, seen.egid));
            let who = Who {
                at,
                pid,
                start: start.map_or(at, |ticks| boot.within(ticks)),
                parent,
                parent_start,
                uid: uid.unwrap_or(euid),
                gid: egid,
                euid,
                egid,
                session: glimpse.as_ref().map_or(0, |seen| seen.session),
                tty: glimpse.as_ref().map_or(0, |seen| seen.tty),
                name: &name,
                ..Who::default()
            };
            let mut scene = Scene { boot, table, scan, source, clock, crowded };
            teller.forked_by_notice(&who, glimpse.is_some(), &mut scene, tell)
        }
        Act::Exec => {
            let event_time = clock.saturating_add_unsigned(at);
            let users = poller.known().1.get(pid).and_then(users_of);
            let seen = poller.look_for_exec(pid, event_time, tell)?;
            let (boot, table, scan) = poller.known();
            let mut scene = Scene { boot, table, scan, source, clock, crowded };
            if seen {
                return teller.gained_by_look(pid, at, users, &scene, tell);
            }
            teller.exec_unseen(pid, at, &mut scene, tell)
        }
        Act::Change => {
            let users = poller.known().1.get(pid).and_then(users_of);
            poller.look(pid, tell)?;
            let (boot, table, scan) = poller.known();
            let scene = Scene { boot, table, scan, source, clock, crowded };
            // A program that is set-uid changes its user before it is told to have begun.
            teller.gained_by_look(pid, at, users, &scene, tell)
        }
        Act::Exit { status } => {
            let (boot, table, scan) = poller.known();
            let Some(known) = table.get(pid) else { return Ok(()) };
            let name = known.name.clone();
            let who = Who {
                at,
                pid,
                start: boot.within(known.start_ticks),
                parent: known.ppid,
                parent_start: known.parent_start.map(|start| boot.within(start)),
                uid: known.uid.unwrap_or_default(),
                name: name.as_bytes(),
                ..Who::default()
            };
            let exit = Exit { who, status, cpu: None, max_resident_bytes: None };
            let mut scene = Scene { boot, table, scan, source, clock, crowded };
            teller.exited_by_notice(&exit, &mut scene, tell)
        }
    }
}
