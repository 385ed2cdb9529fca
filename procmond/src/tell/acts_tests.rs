//! What is told of connections and deeds that a test makes up.

use super::*;
use crate::boot::Boot;
use crate::differ::Table;
use crate::hashing::{FileDigester, Hashes};
use crate::kernel::Happening;
use crate::mask::Masker;
use crate::scan::{ImageHashes, Predecessors};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::sync::watch;

static BOOT: Boot = Boot { id: String::new(), time_ns: 0, ticks_per_second: 100, page_size: 4096 };
const CLOCK: i64 = 1_000;
const TICK: u64 = 10_000_000;

fn teller() -> Teller {
    let hashes = Hashes::on_demand(Arc::new(FileDigester::new(1 << 30, 1 << 30)));
    let hashes = ImageHashes { hashes, predecessors: Predecessors::shared(50) };
    let variables = watch::channel(Arc::from(Vec::new())).1;
    Teller::new(Masker::new(&[]), variables, hashes, 64).telling_security(true)
}

/// Process 7, which began at tick 3, runs `/bin/nc` as somebody.
fn table() -> Table {
    let mut table = Table::default();
    let known = Known {
        start_ticks: 3,
        ppid: 5,
        parent_start: Some(2),
        program: Some("/bin/nc".to_owned()),
        uid: Some(10),
        euid: Some(10),
        ..Known::default()
    };
    table.put(7, known);
    table
}

fn who() -> Who<'static> {
    Who { at: 9, pid: 7, start: 3 * TICK, uid: 10, euid: 10, name: b"n\xff", ..Who::default() }
}

fn heard(teller: &mut Teller, table: &mut Table, crowded: bool, happening: Happening<'_>) -> Option<Item> {
    let mut told = None;
    let mut scene = Scene { boot: &BOOT, table, scan: 1, source: "ebpf", clock: CLOCK, crowded };
    let mut tell = |item| {
        assert!(told.replace(item).is_none(), "one event of each");
        Ok(())
    };
    teller.tell(happening, &mut scene, &mut tell).unwrap();
    told
}

fn accepted(owner: Owner<'_>) -> Happening<'_> {
    Happening::Connection(Box::new(Connection {
        what: Step::Accepted,
        at: 90,
        owner,
        local: (Ipv4Addr::LOCALHOST.into(), 80),
        remote: Some((Ipv4Addr::BROADCAST.into(), 4000)),
        incoming: true,
        namespace: 11,
        inode: None,
        established: Some(50),
        bytes: None,
        error: None,
    }))
}

fn connection(owner: Owner<'_>) -> NetworkEvent {
    match heard(&mut teller(), &mut table(), false, accepted(owner)) {
        Some(Item::Network(event)) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_has_what_is_known_of_its_process_and_how_that_is_known() {
    let event = connection(Owner::Seen(who()));
    assert_eq!((event.process_key, event.pid), (Some(process_key("", 7, 3)), Some(7)));
    assert_eq!((event.executable_path.as_deref(), event.name.as_deref()), (Some("/bin/nc"), Some("n\\xFF")));
    assert_eq!(event.parent_key, Some(process_key("", 5, 2)));
    assert_eq!((event.event_time, event.collection_time), (CLOCK + 50, CLOCK + 90), "since it was established");
    assert_eq!(event.provenance.len(), 1);

    for (owner, how) in [(Owner::User(who()), "first use"), (Owner::Listener(who()), "listener")] {
        let event = connection(owner);
        assert_eq!((event.pid, event.provenance["process_key"].as_str()), (Some(7), why::INFERRED));
        assert_eq!(event.platform_data["process_known_by"], how);
    }
    let nobody = connection(Owner::Unknown);
    assert_eq!((nobody.process_key, nobody.pid, nobody.uid), (None, None, None));
    assert_eq!(nobody.provenance["process_key"], why::NOBODY_SEEN);
}

#[test]
fn connections_make_room_for_processes_and_are_counted() {
    let mut teller = teller();
    assert_eq!(heard(&mut teller, &mut table(), true, accepted(Owner::Seen(who()))), None);
    assert_eq!(teller.shed_connections, 1);
}

fn deed(table: &mut Table, what: What<'_>) -> SecurityEvent {
    let deed = Happening::Deed(Box::new(Deed { who: who(), what, count: 3 }));
    match heard(&mut teller(), table, true, deed) {
        Some(Item::Security(event)) => event,
        other => panic!("{other:?}: they are told even where there is little room"),
    }
}

#[test]
fn a_deed_says_what_was_done_to_what() {
    let table = &mut table();
    let target = Who { pid: 8, start: 4 * TICK, name: b"victim", ..Who::default() };
    let event = deed(table, What::Trace { target, asked_for: false });
    assert_eq!((event.event_type(), event.count), (SecurityEventType::Ptrace, 3));
    assert_eq!((event.target_process_key, event.target_pid), (Some(process_key("", 8, 4)), Some(8)));
    assert_eq!(event.target_name.as_deref(), Some("victim"));
    let event = deed(table, What::Trace { target: Who::default(), asked_for: true });
    assert_eq!((event.target_pid, event.platform_data["how"].as_str()), (None, "traceme"));

    let object = |table: &mut Table, what| deed(table, what).object.unwrap();
    assert_eq!(object(table, What::Module { name: b"loop" }), "loop");
    let program = |kind, name| What::Program { kind, instructions: 2, name };
    assert_eq!(object(table, program(29, b"lsm_accept")), "lsm_accept (lsm)");
    assert_eq!(object(table, program(99, b"")), "unnamed (type 99)");
    let event = deed(table, What::Memory { protection: 5, mapped: false, path: None });
    assert_eq!((event.object.as_deref(), event.platform_data["protection"].as_str()), (Some("anonymous"), "r-x"));
    assert_eq!(object(table, What::Memory { protection: 7, mapped: true, path: Some(b"/a".to_vec()) }), "/a");
}

fn exec(uid: u32, euid: u32, mode: u32) -> Happening<'static> {
    let who = Who { uid, euid, ..who() };
    Happening::Exec(Box::new(Exec { who, path: b"/bin/su".to_vec(), mode: Some(mode), ..Exec::default() }))
}

/// What is told of security where process 7 begins a program.
fn gain(table: &mut Table, happening: Happening<'_>) -> Option<SecurityEvent> {
    let mut told = None;
    let mut scene = Scene { boot: &BOOT, table, scan: 1, source: "ebpf", clock: CLOCK, crowded: false };
    let mut tell = |item| {
        if let Item::Security(event) = item {
            told = Some(event);
        }
        Ok(())
    };
    teller().tell(happening, &mut scene, &mut tell).unwrap();
    told
}

#[test]
fn a_program_that_makes_root_is_told_and_others_are_not() {
    let set_uid = gain(&mut table(), exec(10, 0, 0o104_755)).unwrap();
    assert_eq!((set_uid.old_euid, set_uid.new_euid, set_uid.uid), (Some(10), Some(0), Some(10)));
    assert_eq!(set_uid.platform_data["how"], "set_uid_program");
    assert_eq!(set_uid.object.as_deref(), Some("/bin/su"));
    let other_user = gain(&mut table(), exec(10, 20, 0o104_755)).unwrap();
    assert_eq!(other_user.new_euid, Some(20));
    let became = gain(&mut table(), exec(0, 0, 0o100_755)).unwrap();
    assert_eq!((became.old_uid, became.new_uid, became.platform_data["how"].as_str()), (Some(10), Some(0), "exec"));

    assert_eq!(gain(&mut table(), exec(10, 10, 0o104_755)), None, "of its own user, or where the bit has no effect");
    assert_eq!(gain(&mut table(), exec(10, 10, 0o100_755)), None);
}

#[test]
fn who_became_root_before_is_not_made_root_by_its_next_program() {
    let mut table = table();
    let event = deed(&mut table, What::Credentials { uid: (10, 0), euid: (10, 0) });
    assert_eq!((event.old_uid, event.new_uid, event.uid), (Some(10), Some(0), Some(0)));
    assert_eq!(gain(&mut table, exec(0, 0, 0o100_755)), None);
}
