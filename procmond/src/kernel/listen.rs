//! Listening to the kernel between two scans.

use super::notice::{self, Setting};
use super::{Acts, Feed, Happening, Loss, News, Standby};
use crate::poller::Poller;
use crate::procfs::boot::since_boot;
use crate::provenance as why;
use crate::scan::{Interrupted, Look};
use crate::source::{Beside, Meanwhile, tell};
use crate::tell::{Scene, Teller};
use collector_core::{Sink, SourceCaps, Stopped};
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::ipc::Gap;
use daemoneye_lib::proto::ipc::collected_item::Item;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How often the kernel is asked what was lost.
const LOSSES_EVERY: Duration = Duration::from_millis(250);

/// How often a feed has to show that it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// A feed, or none; how that is called, and why it is this one.
pub(crate) struct Heard {
    pub(crate) feed: Option<Box<dyn Feed>>,
    pub(crate) standby: Option<Standby>,
    pub(crate) mode: &'static str,
    pub(crate) reason: String,
}

/// Tells what a feed gives, until it ends, and acts.
pub(crate) struct Listening {
    feed: Option<Box<dyn Feed>>,
    acts: Acts,
    mode: &'static str,
    reason: String,
    teller: Teller,
    /// How long what happens may wait.
    every: Duration,
    /// What takes over when the feed ends.
    standby: Option<Standby>,
    /// When the feed was last known to be alive.
    alive: Instant,
    alive_at: i64,
    /// The mode is another one than in the beginning.
    changed: bool,
    /// When the kernel was asked last what was lost.
    asked: Option<Instant>,
    /// Nothing is known to be lost up to this time.
    clear_until: i64,
    news: bool,
}

impl Listening {
    pub(crate) fn new(heard: Heard, acts: Acts, teller: Teller, every: Duration) -> Self {
        let Heard { feed, standby, mode, reason } = heard;
        let (alive, alive_at) = (Instant::now(), now_ns());
        Self {
            feed,
            acts,
            mode,
            reason,
            teller,
            every,
            standby,
            alive,
            alive_at,
            changed: false,
            asked: None,
            clear_until: alive_at,
            news: false,
        }
    }

    /// Tells what has happened since the last time: processes first, then what they did.
    fn hear<C: Look>(&mut self, poller: &mut Poller<C>, sink: &Sink) -> Result<(), Interrupted> {
        let before = now_ns();
        let clock = before.saturating_sub_unsigned(since_boot());
        let setting = Setting { source: self.mode, clock, crowded: sink.is_crowded() };
        self.acts.hold();
        let mut noticed = Vec::new();
        let mut drained = Ok(());
        if let Some(feed) = &mut self.feed {
            let mut taking = Taking::new(&mut self.teller, poller, &setting, sink);
            drained = feed.drain(&mut |news| match news {
                News::Happened(happening) => taking.take(happening),
                News::Noticed(notice) => {
                    noticed.push(notice);
                    ControlFlow::Continue(())
                }
            });
            self.news |= taking.end()?;
        }
        self.news |= !noticed.is_empty();
        for notice in noticed {
            notice::tell(notice, poller, &mut self.teller, &setting, &mut |item| tell(sink, item))?;
        }
        let mut taking = Taking::new(&mut self.teller, poller, &setting, sink);
        self.acts.tell(&mut |happening| taking.take(happening));
        self.news |= taking.end()?;
        if let Err(error) = drained {
            return self.ended(poller, sink, &error.to_string());
        }
        if self.alive.elapsed() >= ALIVE_EVERY {
            if !self.feed.as_mut().is_none_or(|feed| feed.is_alive()) {
                return self.ended(poller, sink, "it tells nothing any more: somebody may have detached it");
            }
            (self.alive, self.alive_at) = (Instant::now(), before);
        }
        if self.feed.is_some() {
            let hashed = self.teller.hashed(poller.known().1);
            for pid in hashed {
                poller.look(pid, &mut |item| tell(sink, item))?;
            }
            poller.heard(before);
        }
        if self.asked.is_none_or(|asked| asked.elapsed() >= LOSSES_EVERY) {
            self.tell_losses(sink)?;
        }
        Ok(())
    }

    fn tell_losses(&mut self, sink: &Sink) -> Result<(), Interrupted> {
        self.asked = Some(Instant::now());
        let now = now_ns();
        let mut losses = self.feed.as_mut().map(|feed| feed.losses()).unwrap_or_default();
        losses.extend(self.acts.losses());
        for (shed, reason) in
            [(&mut self.teller.shed, why::SHED_FORKS), (&mut self.teller.shed_connections, why::SHED_CONNECTIONS)]
        {
            let shed = std::mem::take(shed);
            if shed > 0 {
                losses.push(Loss { kind: "shed", count: Some(shed), reason: reason.to_owned() });
            }
        }
        let nameless = std::mem::take(&mut self.teller.nameless);
        if nameless > 0 {
            let reason =
                "processes had begun, run a program and ended before anything of them could be read".to_owned();
            losses.push(Loss { kind: "nameless", count: Some(nameless), reason });
        }
        for Loss { kind, count, reason } in losses {
            tracing::warn!(kind, count, reason, "events were lost");
            let gap = Gap { kind: kind.to_owned(), from: self.clear_until, to: Some(now), count, reason };
            tell(sink, Item::Gap(gap))?;
        }
        self.clear_until = now;
        Ok(())
    }

    /// The feed has ended: what stands by takes over, or scans are left.
    fn ended<C: Look>(&mut self, poller: &mut Poller<C>, sink: &Sink, reason: &str) -> Result<(), Interrupted> {
        tracing::error!(reason, mode = self.mode, "events ended");
        let reason = format!("{} has ended: {reason}", self.mode);
        let gap = Gap {
            kind: "source_lost".to_owned(),
            from: self.alive_at,
            to: Some(now_ns()),
            count: None,
            reason: reason.clone(),
        };
        self.feed = None;
        self.changed = true;
        match self.standby.take().map(|standby| standby()) {
            Some(Ok(feed)) => {
                (self.feed, self.mode, self.reason) = (Some(feed), "connector", reason);
                (self.alive, self.alive_at) = (Instant::now(), now_ns());
                poller.beside_events(since_boot());
            }
            other => {
                let why = other.and_then(Result::err).map(|error| format!("; no connector: {error}"));
                (self.mode, self.reason) = ("poll", format!("{reason}{}", why.unwrap_or_default()));
                poller.alone();
            }
        }
        tracing::warn!(mode = self.mode, reason = self.reason, "processes are seen");
        tell(sink, Item::Gap(gap))
    }
}

/// Tells one happening after the other, until the collector stops.
struct Taking<'a> {
    teller: &'a mut Teller,
    scene: Scene<'a>,
    sink: &'a Sink,
    news: bool,
    interrupted: Result<(), Interrupted>,
}

impl<'a> Taking<'a> {
    fn new<C: Look>(teller: &'a mut Teller, poller: &'a mut Poller<C>, setting: &Setting, sink: &'a Sink) -> Self {
        let (boot, table, scan) = poller.known();
        let &Setting { source, clock, crowded } = setting;
        let scene = Scene { boot, table, scan, source, clock, crowded };
        Self { teller, scene, sink, news: false, interrupted: Ok(()) }
    }

    fn take(&mut self, happening: Happening<'_>) -> ControlFlow<()> {
        self.news = true;
        let sink = self.sink;
        match self.teller.tell(happening, &mut self.scene, &mut |item| tell(sink, item)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Interrupted) => {
                self.interrupted = Err(Interrupted);
                ControlFlow::Break(())
            }
        }
    }

    /// Whether anything was told.
    fn end(self) -> Result<bool, Interrupted> {
        self.interrupted.map(|()| self.news)
    }
}

impl<C: Look> Meanwhile<C> for Listening {
    fn mode(&self) -> (&'static str, String) {
        (self.mode, self.reason.clone())
    }

    fn changed(&self) -> Option<(String, String)> {
        self.changed.then(|| (self.mode.to_owned(), self.reason.clone()))
    }

    fn hears(&self) -> bool {
        self.feed.is_some()
    }

    fn beside(&self) -> Beside {
        let mut beside = Beside::default();
        if self.acts.has_network() {
            beside.domains.push("network");
            beside.caps |= SourceCaps::NETWORK;
        }
        if self.acts.has_security() || self.teller.tells_security() && self.feed.is_some() {
            beside.domains.push("security");
            beside.caps |= SourceCaps::SECURITY;
        }
        beside
    }

    fn news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    fn begin(&mut self, poller: &mut Poller<C>) {
        self.teller.refresh();
        if self.feed.is_some() {
            poller.beside_events(since_boot());
        }
        self.clear_until = now_ns();
    }

    fn spend(&mut self, poller: &mut Poller<C>, sink: &Sink, time: Duration) -> Result<(), Stopped> {
        let began = Instant::now();
        self.teller.refresh();
        loop {
            self.hear(poller, sink).map_err(|Interrupted| Stopped)?;
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            match &mut self.feed {
                Some(feed) => feed.wait(sink, left.min(self.every))?,
                None if self.acts.has_any() => sink.pause(left.min(self.every))?,
                None => sink.pause(left)?,
            }
        }
    }
}
