//! Listening to the kernel between two scans.

use super::heard::Heard;
use super::notice::{self, Setting};
use super::{Acts, Happening, Loss, News};
use crate::differ::Tell;
use crate::poller::Poller;
use crate::procfs::boot::since_boot;
use crate::provenance as why;
use crate::scan::{Interrupted, Look};
use crate::source::{Further, Meanwhile, tell};
use crate::tell::{Scene, Teller};
use collector_core::{Sink, SourceCaps, Stopped};
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::proto::ipc::{Feature, Gap};
use std::mem::take;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How often the kernel is asked what was lost.
const LOSSES_EVERY: Duration = Duration::from_millis(250);

/// Tells what a feed gives, until it ends, and acts.
pub(crate) struct Listening {
    heard: Heard,
    acts: Acts,
    teller: Teller,
    /// How long what happens may wait.
    every: Duration,
    /// When the kernel was asked last what was lost.
    asked: Option<Instant>,
    /// Nothing is known to be lost up to this time.
    clear_until: i64,
    news: bool,
}

impl Listening {
    pub(crate) fn new(heard: Heard, acts: Acts, teller: Teller, every: Duration) -> Self {
        Self { heard, acts, teller, every, asked: None, clear_until: now_ns(), news: false }
    }

    /// Tells what has happened since the last time: processes first, then what they did.
    fn hear<C: Look>(
        &mut self,
        poller: &mut Poller<C>,
        now: Instant,
        crowded: bool,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        let before = now_ns();
        let clock = before.saturating_sub_unsigned(since_boot());
        let setting = Setting { source: self.heard.mode, clock, crowded };
        self.acts.hold();
        let mut noticed = Vec::new();
        let mut drained = Ok(());
        if let Some(feed) = &mut self.heard.feed {
            let mut taking = Taking::new(&mut self.teller, poller, &setting, tell);
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
            notice::tell(notice, poller, &mut self.teller, &setting, tell)?;
        }
        let mut taking = Taking::new(&mut self.teller, poller, &setting, tell);
        self.acts.tell(&mut |happening| taking.take(happening));
        self.news |= taking.end()?;
        if let Err(error) = drained {
            return self.ended(poller, now, &error.to_string(), tell);
        }
        if !self.heard.is_alive(now, before) {
            return self.ended(poller, now, "it tells nothing any more: somebody may have detached it", tell);
        }
        if self.heard.feed.is_some() {
            for pid in self.teller.hashed(poller.known().1) {
                poller.look(pid, tell)?;
            }
            poller.heard(before);
        }
        if self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= LOSSES_EVERY) {
            self.asked = Some(now);
            let lost = self.heard.feed.as_mut().map_or_else(|| Ok(Vec::new()), |feed| feed.losses());
            match lost {
                Ok(lost) => self.tell_losses(lost, tell)?,
                Err(error) => {
                    self.tell_losses(Vec::new(), tell)?;
                    return self.ended(poller, now, &error.to_string(), tell);
                }
            }
        }
        Ok(())
    }

    /// Tells what the feed has lost, and what everything else has.
    fn tell_losses(&mut self, mut losses: Vec<Loss>, tell: &mut Tell<'_>) -> Result<(), Interrupted> {
        let now = now_ns();
        losses.extend(self.acts.losses());
        for (shed, reason) in
            [(&mut self.teller.shed, why::SHED_FORKS), (&mut self.teller.shed_connections, why::SHED_CONNECTIONS)]
        {
            losses.extend(Loss::of("shed", take(shed), reason));
        }
        let nameless = "processes had begun, run a program and ended before anything of them could be read";
        losses.extend(Loss::of("nameless", take(&mut self.teller.nameless), nameless));
        for Loss { kind, count, reason } in losses {
            tracing::warn!(kind, count, reason, "events were lost");
            let gap = Gap { kind: kind.to_owned(), from: self.clear_until, to: Some(now), count, reason };
            tell(Item::Gap(gap))?;
        }
        self.clear_until = now;
        Ok(())
    }

    /// The feed has ended.
    fn ended<C: Look>(
        &mut self,
        poller: &mut Poller<C>,
        now: Instant,
        cause: &str,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        tracing::error!(cause, mode = self.heard.mode, "events ended");
        let gap = self.heard.end(now, cause);
        self.set_up(poller);
        tracing::warn!(mode = self.heard.mode, reason = self.heard.reason, "processes are seen");
        tell(Item::Gap(gap))
    }

    /// Scans go by what there is beside them.
    fn set_up<C: Look>(&self, poller: &mut Poller<C>) {
        poller.in_the_name_of(self.heard.mode);
        if self.heard.feed.is_some() {
            poller.beside_events(since_boot());
        } else {
            poller.alone();
        }
    }
}

/// Tells one happening after the other, until the collector stops.
struct Taking<'a, 't> {
    teller: &'a mut Teller,
    scene: Scene<'a>,
    tell: &'a mut Tell<'t>,
    news: bool,
    interrupted: Result<(), Interrupted>,
}

impl<'a, 't> Taking<'a, 't> {
    fn new<C: Look>(
        teller: &'a mut Teller,
        poller: &'a mut Poller<C>,
        setting: &Setting,
        tell: &'a mut Tell<'t>,
    ) -> Self {
        Self { teller, scene: setting.scene(poller), tell, news: false, interrupted: Ok(()) }
    }

    fn take(&mut self, happening: Happening<'_>) -> ControlFlow<()> {
        self.news = true;
        match self.teller.tell(happening, &mut self.scene, self.tell) {
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
        (self.heard.mode, self.heard.reason.clone())
    }

    fn changed(&self) -> Option<(String, String)> {
        self.heard.changed.then(|| (self.heard.mode.to_owned(), self.heard.reason.clone()))
    }

    fn features(&self) -> Option<&[Feature]> {
        self.acts.is_changed().then(|| self.acts.features())
    }

    fn hears(&self) -> bool {
        self.heard.feed.is_some()
    }

    fn further(&self) -> Further {
        let mut further = Further::default();
        if self.acts.has_network() {
            further.domains.push("network");
            further.caps |= SourceCaps::NETWORK;
        }
        if self.acts.has_security() || self.teller.tells_security() && self.heard.feed.is_some() {
            further.domains.push("security");
            further.caps |= SourceCaps::SECURITY;
        }
        further
    }

    fn news(&mut self) -> bool {
        take(&mut self.news)
    }

    fn begin(&mut self, poller: &mut Poller<C>) {
        self.teller.refresh();
        self.set_up(poller);
    }

    fn spend(&mut self, poller: &mut Poller<C>, sink: &Sink, time: Duration) -> Result<(), Stopped> {
        let began = Instant::now();
        self.teller.refresh();
        loop {
            self.hear(poller, Instant::now(), sink.is_crowded(), &mut |item| tell(sink, item))
                .map_err(|Interrupted| Stopped)?;
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            match &mut self.heard.feed {
                Some(feed) => feed.wait(sink, left.min(self.every))?,
                None if self.acts.has_any() => sink.pause(left.min(self.every))?,
                None => sink.pause(left)?,
            }
        }
    }
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "meeting_tests.rs"]
mod meeting_tests;
