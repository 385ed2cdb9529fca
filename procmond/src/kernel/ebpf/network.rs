//! Connections: the programs of `bpf/network.bpf.c`, and their records.

use super::attach::{Attaching, FeatureName, Hooks, Place, Way};
use super::layout::{Cursor, who};
use super::{LoadError, Ring, object, object_error};
use crate::kernel::acts::{Connection, Owner, Step};
use aya::{Btf, EbpfLoader};
use collector_core::Feature;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TABLE: &str = "network.connections";
const CONNECT: FeatureName = FeatureName { name: "connect", table: TABLE };
const ACCEPT: FeatureName = FeatureName { name: "accept", table: TABLE };
/// What there may be to hear of.
pub(crate) const NETWORK_FEATURES: &[FeatureName] = &[CONNECT, ACCEPT];

const STATES: &str = "inet_sock_set_state";
const ACCEPTED: &[Way] = &[
    ("lsm_accept", Place::Hook("sock_graft")),
    ("fexit_accept", Place::Exit("inet_csk_accept")),
    ("fexit_accept_early", Place::Exit("inet_csk_accept")),
];
const PASSIVE: Way = ("on_passive", Place::Tracepoint(STATES));
const USES: [Way; 2] =
    [("on_receive", Place::Tracepoint("sock_recv_length")), ("on_send", Place::Tracepoint("sock_send_length"))];

/// Attaches what this kernel takes.
pub(crate) fn network(types: &Btf, pid_namespace: u32) -> Result<(Option<Ring>, Vec<Feature>), LoadError> {
    let mut programs = EbpfLoader::new()
        .btf(Some(types))
        .override_global("OWN_PID_NAMESPACE", &pid_namespace, true)
        .load(object::NETWORK)
        .map_err(object_error)?;
    let mut attaching = Attaching { programs: &mut programs, types, hooks: Hooks::of_this_kernel() };
    if let Err(refusal) = attaching.one(&("on_state", Place::Tracepoint(STATES))) {
        let reason = refusal.to_string();
        return Ok((None, vec![CONNECT.missing(reason.clone()), ACCEPT.missing(reason)]));
    }
    let features = vec![CONNECT.seen(format!("at the {}", Place::Tracepoint(STATES))), accepts(&mut attaching)];
    Ok((Some(Ring::of(programs, "CONNECTIONS", "CONNECTION_COUNTERS")?), features))
}

fn accepts(attaching: &mut Attaching<'_>) -> Feature {
    let why = match attaching.first(ACCEPTED) {
        Ok(place) => return ACCEPT.seen(place),
        Err(why) => why,
    };
    if let Err(refusal) = attaching.one(&PASSIVE) {
        return ACCEPT.missing(format!("{why}; {refusal}"));
    }
    match USES.iter().try_for_each(|way| attaching.one(way)) {
        Ok(()) => ACCEPT.seen(format!("told when a process first uses the connection, not when it accepts it: {why}")),
        Err(refusal) => {
            ACCEPT.seen(format!("told when a process shuts the connection down, or at its end: {why}; {refusal}"))
        }
    }
}

const CONNECTED: u32 = 1;
const NOT_CONNECTED: u32 = 2;
const ACCEPTED_IT: u32 = 3;
const LISTENS: u32 = 4;
const CLOSED: u32 = 5;

const BY_ACT: u16 = 1;
const BY_USE: u16 = 2;
const BY_LISTENER: u16 = 3;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Reads a record; `None` for one of another layout.
pub(crate) fn connection(bytes: &[u8]) -> Option<Connection<'_>> {
    let mut cursor = Cursor(bytes);
    let [kind, _cpu] = cursor.u32s()?;
    let at = cursor.u64()?;
    let (who, _) = who(&mut cursor, at)?;
    let [local, remote] = [cursor.take(16)?, cursor.take(16)?];
    let [family, local_port, remote_port, known_by] = cursor.u16s()?;
    let [namespace, error] = cursor.u32s()?;
    let (inode, established) = (cursor.u64()?, cursor.u64()?);
    let bytes = (cursor.u64()?, cursor.u64()?);
    let [incoming, _] = cursor.u32s()?;
    let what = match kind {
        CONNECTED => Step::Connected,
        NOT_CONNECTED => Step::NotConnected,
        ACCEPTED_IT => Step::Accepted,
        LISTENS => Step::Listens,
        CLOSED => Step::Closed,
        _ => return None,
    };
    Some(Connection {
        what,
        at,
        owner: match known_by {
            BY_ACT => Owner::Seen(who),
            BY_USE => Owner::User(who),
            BY_LISTENER => Owner::Listener(who),
            _ => Owner::Unknown,
        },
        local: (address(family, local)?, local_port),
        remote: (remote_port != 0).then_some((address(family, remote)?, remote_port)),
        incoming: incoming != 0,
        namespace,
        inode: Some(inode).filter(|inode| *inode != 0),
        established: Some(established).filter(|time| *time != 0),
        bytes: (what == Step::Closed && remote_port != 0).then_some(bytes),
        error: (what == Step::NotConnected && error != 0).then_some(error.cast_signed()),
    })
}

/// An address of IPv4 in the clothes of IPv6 is one of IPv4.
fn address(family: u16, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record as the programs make it.
    fn record(kind: u32, family: u16, addresses: [[u8; 16]; 2], ports: [u16; 2], known_by: u16) -> Vec<u8> {
        let mut bytes = [kind.to_ne_bytes(), 0_u32.to_ne_bytes()].concat();
        bytes.extend(70_u64.to_ne_bytes());
        bytes.extend([9_u64, 5, 0].iter().flat_map(|number| number.to_ne_bytes()));
        bytes.extend([42_u32, 1, 7, 7, 7, 7, u32::MAX, u32::MAX, 42, 0, 0, 0].iter().flat_map(|it| it.to_ne_bytes()));
        bytes.extend(b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend(addresses.concat());
        bytes.extend([family, ports[0], ports[1], known_by].iter().flat_map(|number| number.to_ne_bytes()));
        bytes.extend([11_u32, 111].iter().flat_map(|number| number.to_ne_bytes()));
        bytes.extend([1234_u64, 60, 3, 4].iter().flat_map(|number| number.to_ne_bytes()));
        bytes.extend([1_u32, 0].iter().flat_map(|number| number.to_ne_bytes()));
        bytes
    }

    #[test]
    fn each_kind_tells_what_there_is_to_tell() {
        let loopback = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        let bytes = record(CLOSED, AF_INET6, [loopback, loopback], [80, 4000], BY_USE);
        let closed = connection(&bytes).unwrap();
        assert_eq!(closed.local, (Ipv4Addr::LOCALHOST.into(), 80), "mapped addresses are those of IPv4");
        assert_eq!((closed.bytes, closed.error, closed.inode), (Some((3, 4)), None, Some(1234)));
        let Owner::User(who) = &closed.owner else { panic!("{closed:?}") };
        assert_eq!((who.pid, who.start, who.parent, who.name), (42, 9, 1, &b"curl"[..]));

        let failed = record(NOT_CONNECTED, AF_INET, [[1; 16], [2; 16]], [5, 6], BY_ACT);
        let failed = connection(&failed).unwrap();
        assert_eq!((failed.error, failed.bytes), (Some(111), None));
        assert_eq!(failed.remote, Some((Ipv4Addr::from([2; 4]).into(), 6)));

        let listens = record(LISTENS, AF_INET6, [[0; 16], [0; 16]], [22, 0], BY_ACT);
        let listens = connection(&listens).unwrap();
        assert_eq!((listens.local.0, listens.remote), (Ipv6Addr::UNSPECIFIED.into(), None));
    }

    #[test]
    fn a_record_of_another_layout_is_none() {
        let whole = record(CONNECTED, AF_INET, [[0; 16]; 2], [1, 2], BY_ACT);
        assert!(connection(&whole).is_some());
        for cut in 0..whole.len() {
            assert_eq!(connection(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(connection(&record(9, AF_INET, [[0; 16]; 2], [1, 2], BY_ACT)), None);
        assert_eq!(connection(&record(CONNECTED, 1, [[0; 16]; 2], [1, 2], BY_ACT)), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, kind in 0_u32..7, long in proptest::collection::vec(any::<u8>(), 192..220)) {
            let _ = connection(&bytes);
            let _ = connection(&[&kind.to_ne_bytes()[..], &long].concat());
        }
    }
}
