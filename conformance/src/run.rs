//! A registered collector, and what it has told so far.

use crate::Subject;
use crate::agent::{Agent, PLENTY};
use crate::fault::{Fault, require};
use crate::link::{Link, Said, decode};
use crate::protocol::ipc::collected_item::Item;
use crate::protocol::ipc::{
    CollectedItem, CollectorStatus, CommittedThrough, EventBatch, Instructions, RegisterCollector, RegisterReply,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often collectors are asked to tell their status.
const STATUS_MS: u64 = 200;

/// What the agent wants when nothing else is under test.
pub(crate) fn ordinary(subject: &Subject) -> Instructions {
    let settings = subject.settings.clone();
    Instructions { version: 1, settings, status_interval_ms: STATUS_MS, ..Instructions::default() }
}

pub(crate) struct Run {
    pub(crate) agent: Agent,
    pub(crate) link: Link,
    pub(crate) register: RegisterCollector,
    /// What was told in the epoch under test, by sequence.
    pub(crate) told: BTreeMap<u64, Vec<u8>>,
    /// The sequence that must come next on this connection.
    pub(crate) next: u64,
    pub(crate) status: Option<CollectorStatus>,
    pub(crate) batches: usize,
}

impl Run {
    /// Starts the program and registers it. The agent has nothing of it, so what it tells begins with 1.
    pub(crate) fn start(subject: &Subject) -> Result<Self, Fault> {
        Self::start_with_credit(subject, PLENTY)
    }

    /// The same with credit for so many batches.
    pub(crate) fn start_with_credit(subject: &Subject, credit: u64) -> Result<Self, Fault> {
        let mut agent = Agent::start(subject)?;
        agent.credit = credit;
        let mut link = agent.welcome()?;
        let (id, register) = link.registration()?;
        link.accept(id, &RegisterReply { instructions: Some(ordinary(subject)), ..RegisterReply::default() });
        Ok(Self { agent, link, register, told: BTreeMap::new(), next: 1, status: None, batches: 0 })
    }

    /// Lets it come back after the connection, or the program, ended; `through` is what is committed of its epoch. Returns
    /// its new registration.
    pub(crate) fn again(&mut self, through: Option<u64>) -> Result<RegisterCollector, Fault> {
        self.link.close();
        self.link = self.agent.welcome()?;
        let (id, register) = self.link.registration()?;
        require(register.epoch == self.register.epoch, || {
            "it comes back with another epoch, although nothing of its spool was lost".to_owned()
        })?;
        let known = self.told.keys().next_back().map_or(0, |last| last + 1);
        require(register.next_sequence >= known, || {
            format!("it registers with next_sequence {}, and has told {} before", register.next_sequence, known - 1)
        })?;
        let committed = through
            .map(|sequence| CommittedThrough { epoch: self.register.epoch.clone(), sequence })
            .into_iter()
            .collect();
        self.link.accept(id, &RegisterReply { committed, instructions: Some(ordinary(&self.agent.subject)) });
        self.next = through.map_or(1, |through| through + 1);
        self.batches = 0;
        Ok(register)
    }

    /// Reads until so many new sequences were told; `acknowledges` each batch, or none.
    pub(crate) fn read(&mut self, items: usize, acknowledges: bool) -> Result<(), Fault> {
        let wanted = self.told.len() + items;
        let until = Instant::now() + self.link.patience;
        while self.told.len() < wanted {
            let left = until.saturating_duration_since(Instant::now());
            match self.link.next(left)? {
                None => {
                    let told = items + self.told.len() - wanted;
                    return Err(Fault::new(format!(
                        "it told {told} items within {:?}; {items} were waited for",
                        self.link.patience
                    )));
                }
                Some(Said::Closed) => return Err(Fault::new("it closed the connection while it was listened to")),
                Some(said) => self.take(said, acknowledges)?,
            }
        }
        Ok(())
    }

    /// Reads for so long, whatever comes; returns whether the connection is still there.
    pub(crate) fn read_for(&mut self, time: Duration, acknowledges: bool) -> Result<bool, Fault> {
        let until = Instant::now() + time;
        loop {
            match self.link.next(until.saturating_duration_since(Instant::now()))? {
                None => return Ok(true),
                Some(Said::Closed) => return Ok(false),
                Some(said) => self.take(said, acknowledges)?,
            }
        }
    }

    /// Reads until something is so.
    pub(crate) fn until(&mut self, what: &str, acknowledges: bool, so: impl Fn(&Self) -> bool) -> Result<(), Fault> {
        let until = Instant::now() + self.link.patience;
        while !so(self) {
            require(Instant::now() < until, || format!("{what}: not within {:?}", self.link.patience))?;
            let open = self.read_for(Duration::from_millis(20), acknowledges)?;
            require(open, || format!("{what}: it closed the connection instead"))?;
        }
        Ok(())
    }

    fn take(&mut self, said: Said, acknowledges: bool) -> Result<(), Fault> {
        match said {
            Said::Batch(domain, batch) => {
                let domains = self.register.capabilities.as_ref().map(|own| own.domains.clone()).unwrap_or_default();
                require(domains.contains(&domain), || {
                    format!("it publishes in the domain {domain:?}, which it has not registered")
                })?;
                let last = self.batch(batch)?;
                if acknowledges {
                    self.link.acknowledge(&self.register.epoch, last);
                }
                Ok(())
            }
            Said::Status(status) => {
                self.status = Some(status);
                Ok(())
            }
            Said::Register(..) => Err(Fault::new("it registers twice on one connection")),
            Said::Response(_) | Said::Closed => Ok(()),
        }
    }

    /// Returns the sequence of the batch's last item.
    fn batch(&mut self, batch: EventBatch) -> Result<u64, Fault> {
        self.batches += 1;
        let name = &self.agent.subject.name;
        require(batch.collector == *name, || format!("a batch is of {:?}, not of {name:?}", batch.collector))?;
        require(batch.epoch == self.register.epoch, || "a batch is of an epoch that was not registered".to_owned())?;
        require(!batch.items.is_empty(), || "a batch is empty".to_owned())?;
        require(batch.first_sequence == self.next, || {
            format!("a batch begins with sequence {}, where {} must follow", batch.first_sequence, self.next)
        })?;
        for (sequence, bytes) in (batch.first_sequence..).zip(batch.items) {
            let item: CollectedItem = decode(&format!("item {sequence}"), &bytes)?;
            require(item.item.is_some(), || format!("item {sequence} says nothing"))?;
            let domain = item.item.as_ref().and_then(domain_of);
            let own = self.register.capabilities.as_ref().map(|own| own.domains.as_slice()).unwrap_or_default();
            require(domain.is_none_or(|domain| own.iter().any(|own| own == domain)), || {
                format!(
                    "item {sequence} is of the domain {:?}, which it has not registered",
                    domain.unwrap_or_default()
                )
            })?;
            if let Some(Item::Process(event)) = &item.item {
                let key = event.process.as_ref().map_or("", |process| process.process_key.as_str());
                let good = key.len() == 32 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                require(good, || {
                    format!("item {sequence} is an event whose process_key is not 32 lower-case hex digits")
                })?;
            }
            if let Some(known) = self.told.get(&sequence) {
                require(*known == bytes, || format!("sequence {sequence} was told with another content before"))?;
            }
            self.told.insert(sequence, bytes);
            self.next = sequence + 1;
        }
        Ok(self.next - 1)
    }

    /// The last sequence that was told.
    pub(crate) fn last(&self) -> u64 {
        self.told.keys().next_back().copied().unwrap_or(0)
    }
}

/// To which domain an item belongs; gaps belong to all.
const fn domain_of(item: &Item) -> Option<&'static str> {
    match item {
        Item::Process(_) | Item::Scan(_) | Item::Snapshot(_) => Some("process"),
        Item::Network(_) => Some("network"),
        Item::Filesystem(_) => Some("filesystem"),
        Item::Performance(_) => Some("performance"),
        Item::Security(_) => Some("security"),
        Item::Trigger(_) => Some("trigger"),
        Item::Gap(_) => None,
    }
}
