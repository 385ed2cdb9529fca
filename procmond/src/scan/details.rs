//! The second look at a process: everything that is read only of those whose whole record is wanted.

use super::draft::{Draft, nothing_left};
use super::{Aids, Glance, image_hash};
use crate::hashing::{Source, Version};
use crate::procfs::users::Users;
use crate::procfs::{arguments, cgroup, link, number, status};
use crate::provenance as why;
use crate::reader::{FileId, ProcFs, Unreadable};
use daemoneye_lib::models::text::escape_bytes;
use std::borrow::Cow;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

const MAX_STATUS: usize = 64 * 1024;
const MAX_CGROUP: usize = 64 * 1024;
const MAX_ENVIRONMENT: usize = 256 * 1024;

/// How a number that was never set stands in `loginuid` and `sessionid`.
const UNSET: u32 = u32::MAX;

const NAMESPACES: [(&str, &CStr); 7] = [
    ("cgroup", c"ns/cgroup"),
    ("ipc", c"ns/ipc"),
    ("mnt", c"ns/mnt"),
    ("net", c"ns/net"),
    ("pid", c"ns/pid"),
    ("user", c"ns/user"),
    ("uts", c"ns/uts"),
];

/// Reads with a buffer that is used again.
#[derive(Default)]
pub(super) struct Details {
    buffer: Vec<u8>,
    /// Where the paths of control groups begin, which events tell whole.
    pub(super) groups_root: Option<cgroup::Root>,
}

impl Details {
    /// Completes the draft, but for the parent.
    ///
    /// # Errors
    ///
    /// When the process has ended in the meantime.
    pub(super) fn read<P: ProcFs>(
        &mut self,
        proc: &P,
        process: &P::Process,
        glance: &Glance<'_>,
        aids: &mut Aids,
        draft: &mut Draft,
    ) -> Result<(), Unreadable> {
        self.ids(proc, process, glance, &aids.users, draft)?;
        self.groups(proc, process, draft);
        draft.record.audit_session = self.number(proc, process, c"sessionid", "audit_session", draft);
        // The kernel sets both at once, and the session is never hidden by a user namespace.
        if draft.is_absent("audit_session", why::NOT_SET) {
            draft.absent(&["loginuid"], why::NOT_SET);
        } else {
            draft.record.loginuid = self.number(proc, process, c"loginuid", "loginuid", draft);
        }
        if let Some(reason) = nothing_left(glance) {
            draft.absent(&["executable_path", "file_exists", "image_mismatch", "cwd", "environment"], reason);
            image_hash::absent(reason, aids.hashes.as_ref(), &mut draft.record);
            if reason == why::ENDED {
                draft.absent(&["namespaces"], reason);
                return Ok(());
            }
        } else {
            program(proc, process, glance, aids, draft);
            let cwd = proc.link(process, c"cwd", &mut self.buffer).map(|()| escape_bytes(&self.buffer));
            draft.record.cwd = draft.take(&["cwd"], cwd);
            self.environment(proc, process, aids, draft);
        }
        self.namespaces(proc, process, draft);
        Ok(())
    }

    fn ids<P: ProcFs>(
        &mut self,
        proc: &P,
        process: &P::Process,
        glance: &Glance<'_>,
        users: &Users,
        draft: &mut Draft,
    ) -> Result<(), Unreadable> {
        const COLUMNS: [&str; 4] = ["uid", "gid", "user", "max_rss"];
        let read = proc.read(process, c"status", MAX_STATUS, &mut self.buffer);
        if read == Err(Unreadable::Gone) {
            return Err(Unreadable::Gone);
        }
        if draft.take(&COLUMNS, read).is_none() {
            return Ok(());
        }
        let status = status::parse(&self.buffer);
        draft.record.uid = status.uid;
        draft.record.gid = status.gid;
        draft.record.max_rss = status.max_resident;
        for (column, missing) in [("uid", status.uid.is_none()), ("gid", status.gid.is_none())] {
            if missing {
                draft.absent(&[column], why::UNREADABLE);
            }
        }
        if status.max_resident.is_none() {
            draft.absent(&["max_rss"], nothing_left(glance).unwrap_or(why::UNREADABLE));
        }
        draft.record.user = status.uid.and_then(|uid| users.name(uid)).map(str::to_owned);
        if draft.record.user.is_none() {
            draft.absent(&["user"], why::UNKNOWN_USER);
        }
        Ok(())
    }

    fn groups<P: ProcFs>(&mut self, proc: &P, process: &P::Process, draft: &mut Draft) {
        let read = proc.read(process, c"cgroup", MAX_CGROUP, &mut self.buffer);
        if draft.take(&["cgroup", "container_id"], read).is_none() {
            return;
        }
        let shown = cgroup::path(&self.buffer);
        let path = shown
            .map(|shown| self.groups_root.as_ref().map_or(Cow::Borrowed(shown), |root| root.absolute(shown).into()));
        draft.record.cgroup = path.as_deref().map(escape_bytes);
        cgroup::put_membership(path.as_deref(), &mut draft.record);
        if draft.record.cgroup.is_none() {
            draft.absent(&["cgroup"], why::NOT_SET);
        }
        if draft.record.container_id.is_none() {
            draft.absent(&["container_id"], why::NOT_CONTAINED);
        }
    }

    fn number<P: ProcFs>(
        &mut self,
        proc: &P,
        process: &P::Process,
        file: &CStr,
        column: &str,
        draft: &mut Draft,
    ) -> Option<u32> {
        match proc.read(process, file, 32, &mut self.buffer) {
            Ok(_) => match number(self.buffer.trim_ascii()) {
                None => draft.absent(&[column], why::UNREADABLE),
                Some(UNSET) => draft.absent(&[column], why::NOT_SET),
                value => return value,
            },
            // A kernel without auditing has no such file.
            Err(Unreadable::Gone) => draft.absent(&[column], why::NOT_SET),
            Err(other) => draft.absent(&[column], why::reason(other)),
        }
        None
    }

    fn environment<P: ProcFs>(&mut self, proc: &P, process: &P::Process, aids: &Aids, draft: &mut Draft) {
        let names = Arc::clone(&aids.variables.borrow());
        if names.is_empty() {
            return draft.absent(&["environment"], why::NOT_COLLECTED);
        }
        let read = proc.read(process, c"environ", MAX_ENVIRONMENT, &mut self.buffer);
        let Some(cut) = draft.take(&["environment"], read) else { return };
        let (mut variables, value_cut) = arguments::variables(&self.buffer, &names);
        let mut masked = false;
        for (name, value) in &mut variables {
            masked |= aids.masker.variable(name, value);
        }
        if masked {
            draft.masked("environment");
        }
        draft.record.environment = variables;
        if cut || value_cut {
            draft.cut("environment");
        }
    }

    fn namespaces<P: ProcFs>(&mut self, proc: &P, process: &P::Process, draft: &mut Draft) {
        for (name, file) in NAMESPACES {
            match proc.link(process, file, &mut self.buffer) {
                Ok(()) => {
                    let inode = link::namespace(&self.buffer);
                    draft.record.namespaces.extend(inode.map(|inode| (name.to_owned(), inode)));
                }
                // A kernel without namespaces of this kind has no such link.
                Err(Unreadable::Gone) => {}
                Err(other) => return draft.absent(&["namespaces"], why::reason(other)),
            }
        }
    }
}

fn program<P: ProcFs>(proc: &P, process: &P::Process, glance: &Glance<'_>, aids: &mut Aids, draft: &mut Draft) {
    let Some(link) = draft.take(&["executable_path", "file_exists", "image_mismatch"], glance.program) else {
        let reason = glance.program.err().map_or(why::UNREADABLE, why::reason);
        return image_hash::absent(reason, aids.hashes.as_ref(), &mut draft.record);
    };
    let (path, state, image) = aids.files.examine(proc, process, link);
    draft.record.executable_path = Some(escape_bytes(path));
    if let Some(state) = draft.take(&["file_exists", "image_mismatch"], state) {
        draft.record.file_exists = Some(state.exists);
        draft.record.image_mismatch = Some(state.mismatch);
    }
    match image {
        Ok(image) => hash(&image, path, glance.pid, aids, draft),
        Err(unreadable) => image_hash::absent(why::reason(unreadable), aids.hashes.as_ref(), &mut draft.record),
    }
}

/// The hash of the image that runs, also where its name was taken from it.
fn hash(image: &FileId, path: &[u8], pid: u32, aids: &mut Aids, draft: &mut Draft) {
    let Some(hashes) = &aids.hashes else { return image_hash::absent(why::NOT_HASHED, None, &mut draft.record) };
    let version = Version::from(image);
    let source = || Source { pid: Some(pid), path: Some(OsStr::from_bytes(path).into()) };
    let answer = hashes.ask(version, source);
    aids.awaited.note(pid, version, &answer);
    image_hash::put(&answer, version, path, hashes, aids.predecessors.as_deref(), &mut draft.record);
}
