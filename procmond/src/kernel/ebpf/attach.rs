//! One act, several ways to see it: which of them this kernel has, and in the operator's words why not the others.

use super::LoadError;
use aya::programs::{BtfTracePoint, FEntry, FExit, Lsm, Program, ProgramError};
use aya::{Btf, Ebpf};
use collector_core::Feature;
use std::fmt;
use std::fs;

/// A feature, and the table that it feeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeatureName {
    pub(crate) name: &'static str,
    pub(crate) table: &'static str,
}

impl FeatureName {
    pub(crate) fn missing(&self, reason: String) -> Feature {
        Feature { name: self.name.to_owned(), available: false, reason, tables: vec![self.table.to_owned()] }
    }

    /// There is nothing of it to be seen here.
    pub(super) fn pointless(&self, reason: &str) -> Feature {
        Feature { tables: Vec::new(), ..self.missing(reason.to_owned()) }
    }

    /// The reason says how.
    pub(super) fn seen(&self, reason: String) -> Feature {
        Feature { available: true, ..self.missing(reason) }
    }
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tracepoint(&'static str),
    /// A hook of the BPF LSM.
    Hook(&'static str),
    /// Where a function of the kernel begins.
    Entry(&'static str),
    /// Where it ends.
    Exit(&'static str),
}

/// A program and where it belongs.
pub(super) type Way = (&'static str, Place);

/// What is needed to attach programs.
pub(super) struct Attaching<'a> {
    pub(super) programs: &'a mut Ebpf,
    pub(super) types: &'a Btf,
    pub(super) hooks: Hooks,
}

/// Whether hooks of the BPF LSM are called. Programs can be attached to them all the same where they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hooks {
    Active,
    Inactive,
    /// `/sys/kernel/security` is not there.
    Unknown,
}

impl Hooks {
    pub(super) fn of_this_kernel() -> Self {
        match fs::read_to_string("/sys/kernel/security/lsm") {
            Ok(names) => Self::from_names(&names),
            Err(_) => Self::Unknown,
        }
    }

    fn from_names(names: &str) -> Self {
        if names.trim().split(',').any(|name| name == "bpf") { Self::Active } else { Self::Inactive }
    }
}

impl Attaching<'_> {
    /// Attaches the first of these programs that can be, and tells where; or why none can.
    pub(super) fn first(&mut self, ways: &[Way]) -> Result<String, String> {
        let mut reasons = Vec::new();
        for way in ways {
            match self.one(way) {
                Ok(()) => return Ok(format!("at the {}", way.1)),
                Err(refusal) => reasons.push(refusal.to_string()),
            }
        }
        // The same place may have several programs.
        reasons.dedup();
        Err(reasons.join("; "))
    }

    /// The same for each of these.
    pub(super) fn each(&mut self, acts: &[&[Way]]) -> Result<String, String> {
        let places: Result<Vec<_>, _> = acts.iter().map(|ways| self.first(ways)).collect();
        places.map(|places| places.join(", "))
    }

    /// Attaches one.
    pub(super) fn one(&mut self, (name, place): &Way) -> Result<(), Refusal> {
        match (*place, self.hooks) {
            (Place::Hook(_), Hooks::Inactive) => return Err(Refusal::NotActive),
            (Place::Hook(_), Hooks::Unknown) => return Err(Refusal::NotKnownToBeActive),
            _ => {}
        }
        let program = program(self.programs, name)?;
        attach(program, *place, self.types).map_err(|error| refusal(*place, &error))
    }
}

/// The program of this name.
pub(super) fn program<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, LoadError> {
    programs.program_mut(name).ok_or(LoadError::Missing(name))
}

/// Loads the program and attaches it.
pub(super) fn attach(program: &mut Program, place: Place, types: &Btf) -> Result<(), ProgramError> {
    match place {
        Place::Tracepoint(name) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(name, types)?;
            program.attach().map(|_| ())
        }
        Place::Hook(name) => {
            let program: &mut Lsm = program.try_into()?;
            program.load(name, types)?;
            program.attach().map(|_| ())
        }
        Place::Entry(name) => {
            let program: &mut FEntry = program.try_into()?;
            program.load(name, types)?;
            program.attach().map(|_| ())
        }
        Place::Exit(name) => {
            let program: &mut FExit = program.try_into()?;
            program.load(name, types)?;
            program.attach().map(|_| ())
        }
    }
}

/// Why a program is not attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the BPF LSM is not active here (`lsm=` on the kernel's command line names those that are)")]
    NotActive,
    #[error("whether the BPF LSM is active cannot be seen: /sys/kernel/security is not there")]
    NotKnownToBeActive,
    #[error("this kernel has no {0}")]
    NoPlace(Place),
    #[error("this kernel takes no program at the {place}: {reason}")]
    Refused { place: Place, reason: String },
    #[error(transparent)]
    Missing(#[from] LoadError),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoint(name) => write!(f, "tracepoint {name}"),
            Self::Hook(name) => write!(f, "BPF LSM's hook {name}"),
            Self::Entry(name) => write!(f, "beginning of {name} (fentry)"),
            Self::Exit(name) => write!(f, "end of {name} (fexit)"),
        }
    }
}

fn refusal(place: Place, error: &ProgramError) -> Refusal {
    let reason = match error {
        ProgramError::Btf(_) => return Refusal::NoPlace(place),
        // What the verifier says of it is for who changes the programs.
        ProgramError::LoadError { io_error, verifier_log } => {
            tracing::debug!(%place, %io_error, %verifier_log, "a program is refused");
            io_error.to_string()
        }
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        error => error.to_string(),
    };
    Refusal::Refused { place, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lsm_is_active_where_its_name_is_among_them() {
        assert_eq!(Hooks::from_names("lockdown,capability,landlock,bpf\n"), Hooks::Active);
        assert_eq!(Hooks::from_names("lockdown,capability,bpfish"), Hooks::Inactive);
        assert_eq!(Hooks::from_names(""), Hooks::Inactive);
    }

    #[test]
    fn refusals_name_the_place() {
        let place = Place::Exit("security_bpf");
        let refused = Refusal::Refused { place, reason: "Operation not permitted (os error 1)".to_owned() };
        let text =
            "this kernel takes no program at the end of security_bpf (fexit): Operation not permitted (os error 1)";
        assert_eq!(refused.to_string(), text);
        assert_eq!(
            Refusal::NoPlace(Place::Tracepoint("module_load")).to_string(),
            "this kernel has no tracepoint module_load"
        );
    }
}
