//! What is cheap to know of a process: what Linux says in `/proc/PID/stat`, and other systems in their own ways.

/// `PF_EXITING`: the process is being torn down.
pub(crate) const EXITING: u32 = 0x4;
/// `PF_WQ_WORKER`: a kernel thread that works for others.
pub(crate) const WORKER: u32 = 0x20;
/// `PF_KTHREAD`: a kernel thread.
pub(crate) const KERNEL_THREAD: u32 = 0x0020_0000;

/// The fields of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    /// Field 2 as the kernel gives it.
    pub(crate) comm: &'a [u8],
    /// Field 3, a letter.
    pub(crate) state: u8,
    /// Field 4.
    pub(crate) ppid: u32,
    /// Field 6; 0 where the session is not visible from this PID namespace.
    pub(crate) session: u32,
    /// Field 7; 0 for no terminal.
    pub(crate) tty: u32,
    /// Field 9.
    pub(crate) flags: u32,
    /// Fields 14 and 15 together, in clock ticks.
    pub(crate) cpu_ticks: u64,
    /// Field 22, in clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// Field 24.
    pub(crate) resident_pages: u64,
}

impl<'a> Stat<'a> {
    /// The name; that of a kernel worker without the work it does at the moment, which is no part of who it is.
    pub(crate) fn name(&self) -> &'a [u8] {
        let worker = self.is_kernel_thread() && self.flags & WORKER != 0;
        match self.comm.iter().position(|byte| matches!(byte, b'-' | b'+')) {
            Some(work) if worker && !self.comm.starts_with(b"kworker/R-") => &self.comm[..work],
            _ => self.comm,
        }
    }

    /// Whether it is a thread of the kernel: without a program, arguments or an environment.
    pub(crate) fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// Whether it has ended, or is about to: what belonged to it is going or gone.
    pub(crate) fn is_ending(&self) -> bool {
        self.flags & EXITING != 0 || matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// The state in a word.
    pub(crate) fn status(&self) -> Option<&'static str> {
        Some(match self.state {
            b'R' => "running",
            b'S' => "sleeping",
            b'D' => "waiting",
            b'I' => "idle",
            b'Z' => "zombie",
            b'T' => "stopped",
            b't' => "traced",
            b'X' | b'x' => "dead",
            b'K' => "wakekill",
            b'W' => "waking",
            b'P' => "parked",
            _ => return None,
        })
    }
}
