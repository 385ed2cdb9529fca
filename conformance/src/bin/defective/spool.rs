//! What was seen and not acknowledged, in one file that is written anew each time.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) struct Spool {
    file: Option<PathBuf>,
    pub(crate) epoch: Vec<u8>,
    pub(crate) next: u64,
    pub(crate) items: VecDeque<(u64, Vec<u8>)>,
}

impl Spool {
    pub(crate) fn open(dir: &Path, on_disk: bool) -> io::Result<Self> {
        let file = dir.join("spool");
        let mut spool = Self { file: on_disk.then_some(file), epoch: vec![7; 16], next: 1, items: VecDeque::new() };
        if let Some(file) = &spool.file {
            for line in fs::read_to_string(file).unwrap_or_default().lines() {
                let Some((sequence, hex)) = line.split_once(' ') else { continue };
                let sequence = sequence.parse().map_err(io::Error::other)?;
                spool.next = sequence + 1;
                if !hex.is_empty() {
                    spool.items.push_back((sequence, crate::bytes_of(hex)));
                }
            }
        }
        Ok(spool)
    }

    pub(crate) fn push(&mut self, item: Vec<u8>) -> io::Result<()> {
        self.items.push_back((self.next, item));
        self.next += 1;
        self.write()
    }

    pub(crate) fn acknowledge(&mut self, through: u64) -> io::Result<()> {
        self.items.retain(|(sequence, _)| *sequence > through);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // The first line keeps the number when nothing is left.
        let first = self.items.front().map_or(self.next, |(sequence, _)| *sequence);
        let mut text = format!("{} \n", first - 1);
        for (sequence, item) in &self.items {
            let hex: String = item.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("{sequence} {hex}\n"));
        }
        let new = file.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(new, file)
    }
}
