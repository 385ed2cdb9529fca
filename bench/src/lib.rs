//! A host's events as a busy server has them, made up: the same for the same number, at any rate.
//!
//! Processes start, most of them end soon, their names are as unevenly spread as they are on hosts, their command lines
//! have arguments that differ. Every column that procmond fills on Linux is filled.
#![warn(missing_docs)]

use daemoneye_lib::models::key::process_key;
use daemoneye_lib::proto::common::{Arguments, EventType, ProcessEvent, ProcessRecord};
use daemoneye_lib::proto::ipc::{CollectedItem, collected_item::Item};
use prost::Message as _;
use std::collections::VecDeque;

/// The name that one process in some hundred thousand has.
pub const RARE: &str = "xmrig";
/// The name that many have.
pub const COMMON: &str = "sh";

const BOOT: &str = "6f1e2f0a-54c1-4a52-9e5b-0d7f6d2b9c11";
/// Name, path, user id, a command line whose `{}` are numbers, and how many in a thousand.
const PROGRAMS: [(&str, &str, u32, &str, u64); 14] = [
    ("sh", "/usr/bin/dash", 33, "sh -c /usr/lib/app/job {} --shard {}", 170),
    ("sleep", "/usr/bin/sleep", 1000, "sleep {}", 120),
    ("git", "/usr/bin/git", 1000, "git -C /srv/repos/{} rev-parse --verify refs/heads/feature-{}", 110),
    (
        "cc1",
        "/usr/libexec/gcc/x86_64-linux-gnu/13/cc1",
        1000,
        "cc1 -quiet -I include -O2 src/module_{}.c -o /tmp/cc{}.s",
        100,
    ),
    ("as", "/usr/bin/x86_64-linux-gnu-as", 1000, "as --64 -o build/module_{}.o /tmp/cc{}.s", 90),
    ("python3", "/usr/bin/python3.12", 1001, "python3 -m worker --queue default --job {} --attempt {}", 90),
    ("curl", "/usr/bin/curl", 33, "curl -fsS --max-time 5 http://10.0.0.{}:8080/healthz?n={}", 80),
    ("grep", "/usr/bin/grep", 0, "grep -c ERROR /var/log/app/app-{}.log", 70),
    ("date", "/usr/bin/date", 0, "date +%s", 60),
    ("node", "/usr/bin/node", 1002, "node /srv/web/server.js --port {} --instance {}", 45),
    ("postgres", "/usr/lib/postgresql/16/bin/postgres", 114, "postgres: app app 10.0.0.{}({}) SELECT", 35),
    ("ssh", "/usr/bin/ssh", 1000, "ssh -o BatchMode=yes deploy@10.0.1.{} uptime", 20),
    ("systemctl", "/usr/bin/systemctl", 0, "systemctl is-active app-{}.service", 9),
    ("perl", "/usr/bin/perl", 0, "perl -ne print /etc/service-{}", 1),
];

/// Makes events, one after the other.
pub struct Host {
    random: u64,
    now: i64,
    /// Nanoseconds between two events.
    step: i64,
    next_pid: u32,
    running: VecDeque<ProcessRecord>,
    /// Where each process forks, executes and exits: what happens next.
    life: Option<Life>,
}

/// What has happened to the newest process.
enum Life {
    Nothing,
    Forked(Box<ProcessRecord>),
    Executed(Box<ProcessRecord>),
}

impl Host {
    /// A host whose first event is at `start`, and its others `step` nanoseconds after each other.
    pub fn new(start: i64, step: i64) -> Self {
        Self { random: 1, now: start, step, next_pid: 1_000, running: VecDeque::new(), life: None }
    }

    /// The same where each process forks, executes and exits before the next, beside fifty that stay.
    #[must_use]
    pub fn of_short_lives(mut self) -> Self {
        while self.running.len() < 50 {
            let record = self.start();
            self.running.push_back(record);
        }
        self.life = Some(Life::Nothing);
        self
    }

    /// The time of the newest event.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// As if the time had come.
    pub fn set_now(&mut self, now: i64) {
        self.now = now;
    }

    /// The next events, encoded as a collector sends them.
    pub fn items(&mut self, events: u64) -> Vec<Vec<u8>> {
        (0..events).map(|_| CollectedItem { item: Some(Item::Process(self.event())) }.encode_to_vec()).collect()
    }

    /// The next event: a start, or an end of what runs.
    pub fn event(&mut self) -> ProcessEvent {
        self.now += self.step;
        if let Some(life) = self.life.take() {
            return self.next_of(life);
        }
        let full = self.running.len() > 500;
        if full || (self.running.len() > 50 && self.below(2) == 0) {
            let index = usize::try_from(self.below(50)).unwrap_or(0);
            if let Some(mut record) = self.running.remove(index) {
                record.end_time = Some(self.now);
                record.exit_code = Some(i32::from(self.below(40) == 0));
                record.collection_time = self.now;
                return ProcessEvent {
                    event_type: EventType::Exit.into(),
                    event_time: self.now,
                    process: Some(record),
                };
            }
        }
        let record = self.start();
        self.running.push_back(record.clone());
        ProcessEvent { event_type: EventType::Exec.into(), event_time: self.now, process: Some(record) }
    }

    fn next_of(&mut self, life: Life) -> ProcessEvent {
        let (kind, record) = match life {
            Life::Nothing => {
                let executed = Box::new(self.start());
                let mut forked = executed.as_ref().clone();
                // Until it executes, it is its parent's program.
                forked.name.clone_from(&executed.parent_name);
                forked.executable_path.clone_from(&executed.parent_executable_path);
                forked.command_line.clone_from(&executed.parent_command_line);
                self.life = Some(Life::Forked(executed));
                (EventType::Fork, forked)
            }
            Life::Forked(executed) => {
                let record = executed.as_ref().clone();
                self.life = Some(Life::Executed(executed));
                (EventType::Exec, record)
            }
            Life::Executed(mut record) => {
                record.end_time = Some(self.now);
                record.exit_code = Some(0);
                record.collection_time = self.now;
                self.life = Some(Life::Nothing);
                (EventType::Exit, *record)
            }
        };
        ProcessEvent { event_type: kind.into(), event_time: self.now, process: Some(record) }
    }

    fn start(&mut self) -> ProcessRecord {
        let mut place = self.below(1_000);
        let mut program = PROGRAMS[0];
        for candidate in PROGRAMS {
            program = candidate;
            match place.checked_sub(candidate.4) {
                Some(rest) => place = rest,
                None => break,
            }
        }
        let (mut name, path, uid, pattern, _) = program;
        if self.below(100_000) == 0 {
            name = RARE;
        }
        let words: Vec<String> = pattern
            .split(' ')
            .map(|word| {
                let mut out = String::new();
                for (index, part) in word.split("{}").enumerate() {
                    if index > 0 {
                        out.push_str(&self.below(5_000).to_string());
                    }
                    out.push_str(part);
                }
                out
            })
            .collect();
        self.next_pid = if self.next_pid >= 4_000_000 { 1_000 } else { self.next_pid + 1 };
        let pid = self.next_pid;
        let ticks = self.now.unsigned_abs() / 10_000_000;
        let place = usize::try_from(self.below(20)).unwrap_or(0);
        let parent = self.running.get(place).cloned();
        let origin = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(column, origin)| ((*column).to_owned(), (*origin).to_owned())).collect()
        };
        ProcessRecord {
            process_key: process_key(BOOT, pid, ticks),
            parent_key: parent.as_ref().map(|parent| parent.process_key.clone()),
            pid,
            ppid: parent.as_ref().map(|parent| parent.pid),
            name: Some(name.to_owned()),
            executable_path: Some(path.to_owned()),
            command_line: Some(words.join(" ")),
            cwd: Some(format!("/srv/app/{}", self.below(20))),
            start_time: Some(self.now),
            uid: Some(uid),
            gid: Some(uid),
            euid: Some(uid),
            egid: Some(uid),
            user: Some(format!("user{uid}")),
            session_id: Some(pid / 50 * 50),
            status: Some("running".to_owned()),
            memory_usage: Some(1_000_000 + self.below(5_000) * 4_096),
            cpu_time_ns: Some(self.below(500) * 1_000_000),
            file_exists: Some(true),
            image_mismatch: Some(false),
            parent_name: parent.as_ref().and_then(|parent| parent.name.clone()),
            parent_executable_path: parent.as_ref().and_then(|parent| parent.executable_path.clone()),
            parent_command_line: parent.as_ref().and_then(|parent| parent.command_line.clone()),
            cgroup: Some(format!("/system.slice/app-{}.service", uid % 7)),
            namespaces: ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
                .into_iter()
                .zip(4_026_531_835_u64..)
                .map(|(kind, inode)| (kind.to_owned(), inode))
                .collect(),
            argv: Some(Arguments { values: words.clone() }),
            invoked_path: words.first().cloned(),
            command_line_truncated: Some(false),
            source: "ebpf".to_owned(),
            provenance: origin(&[("*", "captured"), ("cpu_usage", "unavailable: too young"), ("user", "scraped")]),
            collection_time: self.now,
            ..ProcessRecord::default()
        }
    }

    /// One of 0 … `bound - 1` (SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
