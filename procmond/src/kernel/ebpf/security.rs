//! What matters for security: the programs of `bpf/security.bpf.c`, and their records.

use super::attach::{Attaching, FeatureName, Hooks, Place, Way};
use super::kept::Kept;
use super::layout::{Cursor, path, who};
use super::{LOST, LoadError, Ring, object, object_error};
use crate::kernel::acts::{Deed, What};
use aya::maps::MapError;
use aya::{Btf, EbpfLoader};
use collector_core::Feature;
use std::ops::ControlFlow;
use std::time::Instant;

const TABLE: &str = "security.events";
const CREDENTIALS: FeatureName = FeatureName { name: "credentials", table: TABLE };
const PTRACE: FeatureName = FeatureName { name: "ptrace", table: TABLE };
const MODULE_LOAD: FeatureName = FeatureName { name: "module_load", table: TABLE };
const BPF_LOAD: FeatureName = FeatureName { name: "bpf_load", table: TABLE };
const MEMORY_EXEC: FeatureName = FeatureName { name: "memory_exec", table: TABLE };
/// What there may be to hear of.
pub(crate) const SECURITY_FEATURES: &[FeatureName] = &[CREDENTIALS, PTRACE, MODULE_LOAD, BPF_LOAD, MEMORY_EXEC];

/// Each act with the programs that see it, the best first.
const ACTS: [(FeatureName, &[&[Way]]); 5] = [
    (
        CREDENTIALS,
        &[&[
            ("lsm_credentials", Place::Hook("task_fix_setuid")),
            ("fexit_credentials", Place::Exit("security_task_fix_setuid")),
        ]],
    ),
    (
        PTRACE,
        &[
            &[
                ("lsm_ptrace", Place::Hook("ptrace_access_check")),
                ("fexit_ptrace", Place::Exit("security_ptrace_access_check")),
            ],
            &[
                ("lsm_traceme", Place::Hook("ptrace_traceme")),
                ("fexit_traceme", Place::Exit("security_ptrace_traceme")),
            ],
        ],
    ),
    (MODULE_LOAD, &[&[("on_module", Place::Tracepoint("module_load"))]]),
    (BPF_LOAD, &[&[("lsm_bpf", Place::Hook("bpf")), ("fentry_bpf", Place::Entry("security_bpf"))]]),
    (
        MEMORY_EXEC,
        &[
            &[("lsm_protect", Place::Hook("file_mprotect")), ("fexit_protect", Place::Exit("security_file_mprotect"))],
            &[("lsm_map", Place::Hook("mmap_file")), ("fexit_map", Place::Exit("security_mmap_file"))],
        ],
    ),
];

/// The acts, and those that were kept back behind them.
pub(crate) struct Deeds {
    ring: Ring,
    kept: Kept,
    /// Acts that were kept back, and which nothing tells any more.
    shed: u64,
    /// Why how many they are is not known any more.
    unknown: Option<MapError>,
}

impl Deeds {
    /// Gives the records that there are, until the taker has enough; once all are taken, now and then also those that tell what
    /// was kept back.
    pub(crate) fn take(&mut self, since_boot: u64, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) {
        let Self { ring, kept, .. } = self;
        let mut whole = true;
        ring.take(|record| {
            kept.note(record);
            let flow = take(record);
            whole = flow.is_continue();
            flow
        });
        if !whole {
            return;
        }
        self.shed += kept.missing();
        match kept.rest(ring, Instant::now(), since_boot) {
            // There are few, and they are nowhere else.
            Ok(records) => records.iter().for_each(|record| _ = take(record)),
            Err(error) => self.unknown = Some(error),
        }
    }

    /// How many acts the ring had no room for, since the last call.
    ///
    /// # Errors
    /// Where that, or what became of acts that were kept back, cannot be known any more.
    pub(crate) fn lost(&mut self) -> Result<u64, MapError> {
        self.unknown.take().map_or_else(|| self.ring.growth(LOST), Err)
    }

    /// How many acts were kept back and are told by nothing, since the last call.
    pub(crate) fn shed(&mut self) -> u64 {
        std::mem::take(&mut self.shed)
    }
}

/// Attaches what this kernel takes.
pub(crate) fn security(types: &Btf, pid_namespace: u32) -> Result<(Option<Deeds>, Vec<Feature>), LoadError> {
    let mut programs = EbpfLoader::new()
        .btf(Some(types))
        .override_global("OWN_PID_NAMESPACE", &pid_namespace, true)
        .override_global("OWN_PID", &std::process::id(), true)
        .load(object::SECURITY)
        .map_err(object_error)?;
    let mut attaching = Attaching { programs: &mut programs, types, hooks: Hooks::of_this_kernel() };
    let has_modules = std::path::Path::new("/proc/modules").exists();
    let mut features = Vec::with_capacity(ACTS.len());
    for (name, ways) in ACTS {
        features.push(match attaching.each(ways) {
            Ok(places) => name.seen(places),
            Err(_) if name.name == MODULE_LOAD.name && !has_modules => name.pointless("this kernel has no modules"),
            Err(reason) if name.name == CREDENTIALS.name => {
                name.missing(format!("seen only where a process begins a program that makes it root: {reason}"))
            }
            Err(reason) => name.missing(reason),
        });
    }
    if !features.iter().any(|feature| feature.available) {
        return Ok((None, features));
    }
    let mut ring = Ring::of(programs, "ACTS", "ACT_COUNTERS")?;
    let kept = Kept::of(&mut ring)?;
    Ok((Some(Deeds { ring, kept, shed: 0, unknown: None }), features))
}

const CREDENTIALS_KIND: u32 = 1;
const PTRACE_KIND: u32 = 2;
const MODULE_KIND: u32 = 3;
const PROGRAM_KIND: u32 = 4;
const MEMORY_KIND: u32 = 5;

/// Reads a record; `None` for one of another layout.
pub(crate) fn deed(bytes: &[u8]) -> Option<Deed<'_>> {
    let mut cursor = Cursor(bytes);
    let [kind, _cpu] = cursor.u32s()?;
    let at = cursor.u64()?;
    let ((who, _), (target, _)) = (who(&mut cursor, at)?, who(&mut cursor, at)?);
    let count = cursor.u64()?;
    let numbers: [u32; 4] = cursor.u32s()?;
    let _subject = cursor.take(40)?;
    let length = usize::try_from(cursor.u64()?).ok()?;
    let text = cursor.take(length)?;
    let string = &text[..text.iter().position(|byte| *byte == 0).unwrap_or(text.len())];
    let what = match kind {
        CREDENTIALS_KIND => What::Credentials { uid: (numbers[0], numbers[1]), euid: (numbers[2], numbers[3]) },
        PTRACE_KIND => What::Trace { target, asked_for: numbers[0] != 0 },
        MODULE_KIND => What::Module { name: string },
        PROGRAM_KIND => What::Program { kind: numbers[0], instructions: numbers[1], name: string },
        MEMORY_KIND => {
            let path = (!text.is_empty()).then(|| path(text));
            What::Memory { protection: numbers[0], mapped: numbers[1] != 0, path }
        }
        _ => return None,
    };
    Some(Deed { who, what, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn who_bytes(pid: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> = [9_u64, 5, 0].iter().flat_map(|number| number.to_ne_bytes()).collect();
        bytes.extend([pid, 1, 7, 7, 0, 7, u32::MAX, u32::MAX, 42, 0, 0, 0].iter().flat_map(|it| it.to_ne_bytes()));
        bytes.extend(b"su\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes
    }

    /// A record as the programs make it.
    fn record(kind: u32, numbers: [u32; 4], text: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_ne_bytes(), 0_u32.to_ne_bytes()].concat();
        bytes.extend(70_u64.to_ne_bytes());
        bytes.extend([who_bytes(42), who_bytes(43)].concat());
        bytes.extend(3_u64.to_ne_bytes());
        bytes.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        bytes.extend([0; 40]);
        bytes.extend((text.len() as u64).to_ne_bytes());
        bytes.extend(text);
        // Room that was not used.
        bytes.extend([0xee; 64]);
        bytes
    }

    #[test]
    fn each_kind_tells_what_was_done() {
        let what = |kind, numbers, text| {
            let bytes = record(kind, numbers, text);
            let deed = deed(&bytes).unwrap();
            assert_eq!((deed.who.pid, deed.who.at, deed.count), (42, 70, 3));
            format!("{:?}", deed.what)
        };
        assert_eq!(what(CREDENTIALS_KIND, [7, 7, 7, 0], b""), "Credentials { uid: (7, 7), euid: (7, 0) }");
        assert!(what(PTRACE_KIND, [1, 0, 0, 0], b"").contains("pid: 43"));
        assert_eq!(what(MODULE_KIND, [0; 4], b"loop\0"), format!("Module {{ name: {:?} }}", b"loop"));
        let program = format!("Program {{ kind: 26, instructions: 8, name: {:?} }}", b"on_exec");
        assert_eq!(what(PROGRAM_KIND, [26, 8, 0, 0], b"on_exec\0"), program);
        let memory = format!("Memory {{ protection: 7, mapped: true, path: Some({:?}) }}", b"/tmp/x");
        assert_eq!(what(MEMORY_KIND, [7, 1, 0, 0], b"x\0tmp\0"), memory);
        assert!(what(MEMORY_KIND, [7, 1, 0, 0], b"").contains("path: None"));
    }

    #[test]
    fn a_record_of_another_layout_is_none() {
        let whole = record(PTRACE_KIND, [0; 4], b"text\0");
        let used = whole.len() - 64;
        assert!(deed(&whole[..used]).is_some());
        for cut in 0..used {
            assert_eq!(deed(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(deed(&record(6, [0; 4], b"")), None);
    }

    #[test]
    fn every_act_is_a_feature() {
        let named: Vec<_> = ACTS.iter().map(|(feature, _)| feature.name).collect();
        let promised: Vec<_> = SECURITY_FEATURES.iter().map(|feature| feature.name).collect();
        assert_eq!(named, promised);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, kind in 0_u32..7, long in proptest::collection::vec(any::<u8>(), 268..340)) {
            let _ = deed(&bytes);
            let _ = deed(&[&kind.to_ne_bytes()[..], &long].concat());
        }
    }
}
