//! Rules as people publish them, made up: what they look at and how often is that of Sigma's for the creation of processes.

use daemoneye_lib::proto::common::ProcessRecord;

/// The same numbers each time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound as u64).unwrap_or(0)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Field {
    Image,
    ParentImage,
    CommandLine,
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Self::Image => "Image",
            Self::ParentImage => "ParentImage",
            Self::CommandLine => "CommandLine",
        }
    }

    const fn column(self) -> &'static str {
        match self {
            Self::Image => "executable_path",
            Self::ParentImage => "parent_executable_path",
            Self::CommandLine => "command_line",
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    EndsWith,
    ContainsOne,
    ContainsAll,
    /// The texts behind each other, anything between them.
    Expression,
}

struct Part {
    field: Field,
    how: How,
    texts: Vec<String>,
    negated: bool,
}

/// A rule.
pub(crate) struct Rule {
    id: String,
    parts: Vec<Part>,
}

/// Programs that rules are about; some are started all the time.
const PROGRAMS: [&str; 40] = [
    "bash",
    "dash",
    "python3",
    "perl",
    "curl",
    "wget",
    "nc",
    "ncat",
    "socat",
    "ssh",
    "scp",
    "tar",
    "gzip",
    "base64",
    "xxd",
    "awk",
    "sed",
    "find",
    "grep",
    "chmod",
    "chattr",
    "crontab",
    "systemctl",
    "iptables",
    "nft",
    "dd",
    "shred",
    "useradd",
    "passwd",
    "sudo",
    "su",
    "docker",
    "kubectl",
    "gdb",
    "strace",
    "tcpdump",
    "nmap",
    "hydra",
    "openssl",
    "git",
];
/// Pieces of command lines that many rules name.
const USUAL: [&str; 24] = [
    " -c ",
    " -e ",
    "http://",
    "https://",
    "/tmp/",
    "/dev/tcp/",
    "base64",
    " -d",
    "/etc/passwd",
    "/etc/shadow",
    ".ssh/",
    "--insecure",
    "| sh",
    "chmod +x",
    "/var/log/",
    "history",
    "crontab",
    "eval",
    "exec",
    "socket",
    "/bin/sh",
    "nohup",
    "/proc/",
    "LD_PRELOAD",
];
const SYLLABLES: [&str; 20] = [
    "ka", "lo", "mi", "ren", "tos", "vex", "zu", "bra", "fen", "gri", "hal", "jin", "pol", "qua", "sto", "ul", "wim",
    "yor", "dak", "ek",
];

/// So many rules.
pub(crate) fn rules(count: usize) -> Vec<Rule> {
    let mut random = Random::new(42);
    (0..count).map(|number| rule(number, &mut random)).collect()
}

fn rule(number: usize, random: &mut Random) -> Rule {
    let part = |field, how, texts| Part { field, how, texts, negated: false };
    let programs = |most: usize, random: &mut Random| -> Vec<String> {
        (0..=random.below(most)).map(|_| format!("/{}", random.one(&PROGRAMS))).collect()
    };
    let phrases = |least: usize, more: usize, random: &mut Random| -> Vec<String> {
        (0..least + random.below(more)).map(|_| phrase(random)).collect()
    };
    let parts = match number % 10 {
        0..=4 => vec![
            part(Field::Image, How::EndsWith, programs(4, random)),
            part(Field::CommandLine, How::ContainsAll, phrases(1, 3, random)),
        ],
        5 | 6 => vec![part(Field::CommandLine, How::ContainsOne, (0..5).map(|_| word(random)).collect())],
        7 => vec![
            part(Field::ParentImage, How::EndsWith, programs(3, random)),
            part(Field::Image, How::EndsWith, programs(4, random)),
            Part { negated: true, ..part(Field::CommandLine, How::ContainsOne, phrases(2, 3, random)) },
            part(Field::CommandLine, How::ContainsOne, vec![word(random)]),
        ],
        8 => vec![
            part(Field::Image, How::EndsWith, programs(3, random)),
            part(Field::CommandLine, How::Expression, vec![word(random), phrase(random)]),
        ],
        _ => vec![
            part(Field::CommandLine, How::ContainsOne, phrases(3, 6, random)),
            part(Field::CommandLine, How::ContainsAll, vec![word(random), phrase(random)]),
        ],
    };
    Rule { id: format!("00000000-0000-4000-8000-{number:012}"), parts }
}

fn phrase(random: &mut Random) -> String {
    if random.below(10) < 3 { random.one(&USUAL).to_owned() } else { word(random) }
}

/// What no other rule is likely to name.
fn word(random: &mut Random) -> String {
    let syllables: String = (0..3 + random.below(2)).map(|_| random.one(&SYLLABLES)).collect();
    format!("{}{syllables}", random.one(&["", " --", "/", " -"]))
}

impl Rule {
    /// As Sigma has it.
    pub(crate) fn yaml(&self) -> String {
        let mut detection = String::new();
        let mut condition = Vec::new();
        for (number, part) in self.parts.iter().enumerate() {
            let (modifier, texts) = match part.how {
                How::EndsWith => ("endswith", part.texts.clone()),
                How::ContainsOne => ("contains", part.texts.clone()),
                How::ContainsAll if part.texts.len() > 1 => ("contains|all", part.texts.clone()),
                How::ContainsAll => ("contains", part.texts.clone()),
                How::Expression => ("re", vec![part.expression()]),
            };
            detection.push_str(&format!("  s{number}:\n    {}|{modifier}:\n", part.field.name()));
            texts.iter().for_each(|text| detection.push_str(&format!("      - '{text}'\n")));
            condition.push(format!("{}s{number}", if part.negated { "not " } else { "" }));
        }
        format!(
            "title: Rule\nid: {}\nlogsource:\n  category: process_creation\n  product: linux\ndetection:\n{detection}  condition: {}\nlevel: low\n",
            self.id,
            condition.join(" and ")
        )
    }

    /// As a condition of SQLite.
    pub(crate) fn sql(&self) -> String {
        let parts = self.parts.iter().map(|part| {
            let column = part.field.column();
            let like = |pattern: String| format!("{column} LIKE '{pattern}'");
            let joined = |texts: Vec<String>, by: &str| format!("({})", texts.join(by));
            let one = match part.how {
                How::EndsWith => joined(part.texts.iter().map(|text| like(format!("%{text}"))).collect(), " OR "),
                How::ContainsOne => joined(part.texts.iter().map(|text| like(format!("%{text}%"))).collect(), " OR "),
                How::ContainsAll => joined(part.texts.iter().map(|text| like(format!("%{text}%"))).collect(), " AND "),
                How::Expression => format!("{column} REGEXP '{}'", part.expression()),
            };
            if part.negated { format!("NOT {one}") } else { one }
        });
        parts.collect::<Vec<_>>().join(" AND ")
    }

    /// Makes a process one that the rule looks for.
    pub(crate) fn satisfy(&self, record: &mut ProcessRecord) {
        for part in self.parts.iter().filter(|part| !part.negated) {
            let first = part.texts.first().cloned().unwrap_or_default();
            match part.how {
                How::EndsWith if part.field == Field::Image => {
                    record.executable_path = Some(format!("/usr/bin{first}"));
                }
                How::EndsWith => record.parent_executable_path = Some(format!("/usr/bin{first}")),
                How::ContainsOne => record.command_line.get_or_insert_default().push_str(&format!(" {first}")),
                How::ContainsAll | How::Expression => {
                    record.command_line.get_or_insert_default().push_str(&format!(" {}", part.texts.join(" ")));
                }
            }
        }
    }
}

impl Part {
    fn expression(&self) -> String {
        let escaped: Vec<_> = self.texts.iter().map(|text| regex::escape(text)).collect();
        escaped.join(".*")
    }
}
