//! The one run loop: sequence, spool, publish, trim on acknowledgement; reconnect and replay.
//!
//! One task owns all of it: the spool, the [`Link`] to the agent and the [`Window`] of what is in flight. The source's
//! thread and the bus tell it things; nobody else touches its state, and it never waits for one of them alone. A wake-up
//! is a value ([`Woken`]) that the loop acts on, and after each it publishes what the window has room for.
//!
//! ```text
//! Running ──(stop, shutdown, orphaned, source ended, refused)──► Draining ──(source ended, or 1 s)──► Sending ──► end
//!                                          what the source still tells is spooled     (acknowledged, or 1 s)
//! ```
//!
//! What is not acknowledged at the end stays in the spool for the next run.

mod backoff;
mod ending;
mod link;
mod memory;
mod status;
mod tasks;
mod terms;
#[cfg(test)]
mod tests;
mod thread;
mod window;

pub use terms::{CollectorConfig, CollectorError, Ended};

use crate::caps::SourceCaps;
use crate::sink::{Intake, MAX_QUEUED_ITEMS};
use crate::source::{EventSource, SourceDescription};
use crate::spool::{NewEpoch, Spool, max_item};
use backoff::Backoff;
use daemoneye_lib::lock::DataDirLock;
use daemoneye_lib::models::domain::{Domain, Domains};
use daemoneye_lib::models::event::Epoch;
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::proto::ipc::{CollectedItem, EventBatch, Gap, Instructions, RegisterCollector};
use daemoneye_lib::telemetry::batch_id;
use ending::Phase;
use link::{Agent, Link, LinkEvent};
use prost::Message as _;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tasks::Tasks;
use thread::SourceThread;
use tokio::time::Instant;
use window::{PATIENCE, Window};

/// How often the status is told where the agent does not say.
const STATUS_EVERY: Duration = Duration::from_secs(5);
const STATUS_AT_MOST: Duration = Duration::from_millis(100);
const SPOOL: &str = "spool";
const SESSION_KEY: &str = "session.key";

type Outcome = Result<Ended, CollectorError>;

/// Runs a collector until `stop` resolves, the agent ends it, or it cannot go on.
///
/// The lock proves that nobody else uses the data directory; it is held to the end.
///
/// # Errors
/// [`CollectorError`] says what the process should end with; what was collected is in the spool.
pub async fn run(
    config: CollectorConfig,
    lock: DataDirLock,
    source: Box<dyn EventSource>,
    stop: impl Future<Output = ()>,
) -> Result<Ended, CollectorError> {
    run_with(Window::new(PATIENCE), config, lock, source, stop).await
}

async fn run_with(
    window: Window,
    config: CollectorConfig,
    lock: DataDirLock,
    mut source: Box<dyn EventSource>,
    stop: impl Future<Output = ()>,
) -> Outcome {
    let mut description = source.describe();
    let tasks = Tasks::new(source.tasks(), &description.capabilities.tasks);
    if !tasks.are_served() {
        description.capabilities.tasks.clear();
    }
    let name = config.name.clone();
    let Some(domain) = description.capabilities.domains.first().cloned() else {
        return Err(CollectorError::NoDomain { name });
    };
    let wrong = description
        .capabilities
        .domains
        .iter()
        .find_map(|domain| Some((domain, misdeclared(domain, description.caps)?)));
    if let Some((domain, problem)) = wrong {
        return Err(CollectorError::Domain { name, domain: domain.clone(), problem });
    }
    let domains = Domains::named(&description.capabilities.domains);
    let test_mode = config.variables.test_mode;
    let first = test_mode.then(|| Epoch::reproducible(&name));
    let spool = Spool::open(&config.data_dir.join(SPOOL), config.spool_max_bytes, &config.boot_id, first);
    let (spool, new_epoch) = spool?;
    tell_opened(&spool, new_epoch);
    let key_path = config.data_dir.join(SESSION_KEY);
    let agent = Agent { socket: config.socket.clone(), keys: config.bus_keys.clone() };
    let mut link = Link::new(agent, &name, &domain, key_path.clone(), config.token.clone());
    link.serve_tasks(tasks.are_served());
    if !link.has_credential() {
        return Err(CollectorError::NoCredential { name, path: key_path });
    }
    let system = |source| CollectorError::System { name: name.clone(), source };
    let registration = registration(&config, description).map_err(system)?;
    let queue_items = config.variables.event_buffer_size.unwrap_or(MAX_QUEUED_ITEMS);
    let (sink, intake) = crate::sink::queue(max_item(config.spool_max_bytes), queue_items, spool.epoch(), domains);
    intake.crowded(spool.is_crowded());
    let thread = SourceThread::spawn(&name, source, sink).map_err(system)?;
    let status_every = if test_mode { STATUS_EVERY / 10 } else { STATUS_EVERY };
    let collector = Collector {
        name: name.clone(),
        orphan_timeout: config.orphan_timeout,
        registration,
        spool,
        link,
        window,
        intake,
        phase: Phase::Running,
        status_every,
        status_at: Instant::now() + status_every,
        paused_since: None,
        status_due: false,
        alone_since: Some(Instant::now()),
        told_alone: false,
        retry_at: None,
        retries: Backoff::default(),
        told_dropped: 0,
        tasks,
        published: 0,
        tells_telemetry: config.variables.enable_telemetry.unwrap_or(true),
    };
    let outcome = collector.run(thread, stop).await;
    drop(lock);
    outcome
}

/// What is wrong with a domain that a source of these capabilities declares.
fn misdeclared(domain: &str, caps: SourceCaps) -> Option<&'static str> {
    let needed = match Domain::find(domain) {
        None => return Some("which there is not"),
        Some(Domain::Process) => SourceCaps::PROCESS,
        Some(Domain::Network) => SourceCaps::NETWORK,
        Some(Domain::Filesystem) => SourceCaps::FILESYSTEM,
        Some(Domain::Performance) => SourceCaps::PERFORMANCE,
        Some(Domain::Security) => SourceCaps::SECURITY,
        Some(Domain::Trigger) => SourceCaps::empty(),
    };
    (!caps.contains(needed)).then_some("without the capability of that name")
}

fn registration(config: &CollectorConfig, description: SourceDescription) -> io::Result<RegisterCollector> {
    let mut run = vec![0; 16];
    getrandom::fill(&mut run).map_err(io::Error::other)?;
    Ok(RegisterCollector {
        collector: config.name.clone(),
        version: config.version.clone(),
        mode: description.mode,
        mode_reason: description.mode_reason,
        started: now_ns(),
        pid: std::process::id(),
        source_caps: description.caps.names().map(str::to_owned).collect(),
        capabilities: Some(description.capabilities),
        limitations: description.limitations,
        features: description.features,
        run,
        ..RegisterCollector::default()
    })
}

fn tell_opened(spool: &Spool, new_epoch: Option<NewEpoch>) {
    let (epoch, items) = (spool.epoch(), spool.items());
    match new_epoch {
        None => tracing::info!(%epoch, items, "spool opened"),
        Some(NewEpoch::Created) => tracing::info!(%epoch, "spool created"),
        Some(reason) => tracing::warn!(%epoch, items, %reason, "spool opened with a new epoch"),
    }
}

struct Collector {
    name: String,
    orphan_timeout: Option<Duration>,
    registration: RegisterCollector,
    spool: Spool,
    link: Link,
    window: Window,
    intake: Intake,
    phase: Phase,
    status_every: Duration,
    status_at: Instant,
    /// Since when, in nanoseconds since 1970, the source does not observe.
    paused_since: Option<i64>,
    status_due: bool,
    /// Since when there is no agent.
    alone_since: Option<Instant>,
    told_alone: bool,
    retry_at: Option<Instant>,
    retries: Backoff,
    told_dropped: u64,
    tasks: Tasks,
    /// Batches, since this run began.
    published: u64,
    tells_telemetry: bool,
}

/// What woke the loop.
enum Woken {
    Stop,
    Items,
    SourceEnded(Result<(), String>),
    Link(LinkEvent),
    Timer,
}

impl Collector {
    async fn run(mut self, mut thread: SourceThread, stop: impl Future<Output = ()>) -> Outcome {
        let mut stop = pin!(stop);
        loop {
            let (running, deadline) = (matches!(self.phase, Phase::Running), self.deadline());
            let woken = tokio::select! {
                () = &mut stop, if running => Woken::Stop,
                () = self.intake.ready() => Woken::Items,
                ended = thread.ended(), if thread.runs() => Woken::SourceEnded(ended),
                event = self.link.next() => Woken::Link(event),
                () = tokio::time::sleep_until(deadline) => Woken::Timer,
            };
            match woken {
                Woken::Stop => self.end(Ok(Ended::Stopped)),
                Woken::Items => self.spool_items(),
                Woken::SourceEnded(ended) => self.source_ended(ended),
                Woken::Link(event) => self.link_event(event)?,
                Woken::Timer => {}
            }
            self.due_by(Instant::now());
            self.intake.crowded(self.spool.is_crowded());
            self.publish();
            if let Some(outcome) = self.ended(Instant::now()) {
                return outcome;
            }
        }
    }

    /// When the loop must wake without being told anything.
    fn deadline(&self) -> Instant {
        let phase = match &self.phase {
            Phase::Running => None,
            Phase::Draining(until, _) | Phase::Sending(until, _) => Some(*until),
        };
        let window = self.window.deadline().map(Instant::from);
        let others = [phase, window, self.orphaned_at(), self.retry_at];
        others.into_iter().flatten().fold(self.status_at, Instant::min)
    }

    /// Does what is due, whatever woke the loop.
    fn due_by(&mut self, now: Instant) {
        if self.spool.is_blocked() && self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            self.spool.retry();
            self.intake.settle(0, self.spool.is_behind());
        }
        if !self.spool.is_blocked() {
            self.retry_at = None;
            self.retries.reset();
        } else if self.retry_at.is_none() {
            self.retry_at = Some(now + self.retries.next());
        }
        if now >= self.status_at {
            self.status_at = now + self.status_every;
            self.status_due = true;
            self.weigh();
            self.tell_dropped();
        }
        if self.window.deadline().is_some_and(|at| now >= at.into()) {
            self.lost_link("the agent acknowledges nothing");
            self.link.reset();
        }
        if self.orphaned_at().is_some_and(|at| now >= at) {
            self.end(Ok(Ended::Orphaned));
        }
        if let Phase::Draining(until, _) = &self.phase
            && now >= *until
        {
            tracing::warn!(collector = %self.name, "the source does not end; going on without it");
            self.drained();
        }
    }

    fn orphaned_at(&self) -> Option<Instant> {
        let running = matches!(self.phase, Phase::Running);
        self.orphan_timeout.filter(|_| running).zip(self.alone_since).map(|(timeout, since)| since + timeout)
    }

    fn spool_items(&mut self) {
        self.status_due |= self.intake.take_news();
        let items = self.intake.take();
        let count = items.len();
        self.spool.append(items);
        self.intake.settle(count, self.spool.is_behind());
    }

    fn link_event(&mut self, event: LinkEvent) -> Result<(), CollectorError> {
        match event {
            LinkEvent::Due => {
                let mut registration = self.registration();
                registration.epoch = self.spool.epoch().0.to_vec();
                registration.next_sequence = self.spool.next_sequence();
                self.link.connect(registration);
            }
            LinkEvent::Up(link::Welcomed { committed, instructions }) => {
                tracing::info!(collector = %self.name, "registered with the agent");
                (self.alone_since, self.told_alone) = (None, false);
                self.status_due = true;
                let known = committed.iter().any(|(epoch, _)| *epoch == self.spool.epoch());
                for (epoch, through) in committed {
                    self.acknowledged(epoch, through)?;
                }
                if !known && self.spool.has_forgotten() {
                    self.begin_epoch(NewEpoch::ForgottenByAgent)?;
                }
                if let Some(instructions) = instructions {
                    self.instruct(instructions);
                }
                // Behind what is committed: the replay.
                self.spool.rewind();
            }
            LinkEvent::Acknowledged(epoch, through) => self.acknowledged(epoch, through)?,
            LinkEvent::Instructed(instructions) => self.instruct(instructions),
            LinkEvent::Sent | LinkEvent::Credited => {}
            LinkEvent::Task(request) => self.tasks.take(request, self.link.agent_uid()),
            LinkEvent::Down(reason) => self.lost_link(&reason),
            LinkEvent::Refused(reason) => {
                self.lost_link(&reason);
                self.end(Err(CollectorError::Refused { name: self.name.clone(), reason }));
            }
            LinkEvent::Shutdown(reason) => {
                tracing::info!(collector = %self.name, reason, "the agent ends this collector");
                self.end(Ok(Ended::Stopped));
            }
        }
        Ok(())
    }

    /// Follows what the agent wants; while the source does not observe, that is a gap.
    fn instruct(&mut self, instructions: Instructions) {
        let asked = Duration::from_millis(instructions.status_interval_ms);
        self.status_every = if asked.is_zero() { STATUS_EVERY } else { asked.max(STATUS_AT_MOST) };
        self.status_at = self.status_at.min(Instant::now() + self.status_every);
        self.status_due = true;
        match self.intake.instruct(instructions) {
            Some(true) => {
                tracing::warn!(collector = %self.name, "paused");
                self.paused_since = Some(now_ns());
            }
            Some(false) => {
                tracing::warn!(collector = %self.name, "resumed");
                self.tell_pause();
            }
            None => {}
        }
        self.weigh();
    }

    /// Tells the gap of a pause that is over, or that the collector's end ends.
    fn tell_pause(&mut self) {
        let Some(from) = self.paused_since.take() else { return };
        let reason = "the collector was paused by an operator".to_owned();
        let gap = Gap { kind: "paused".to_owned(), from, to: Some(now_ns()), count: None, reason };
        self.spool.append(vec![CollectedItem { item: Some(Item::Gap(gap)) }.encode_to_vec()]);
    }

    /// Compares what the process has in memory with what it may have.
    fn weigh(&mut self) {
        let over = self.intake.memory_budget().zip(memory::resident()).is_some_and(|(budget, bytes)| bytes > budget);
        self.intake.over_budget(over);
    }

    fn lost_link(&mut self, reason: &str) {
        if self.told_alone {
            tracing::debug!(collector = %self.name, reason, "still no connection to the agent");
        } else {
            tracing::warn!(collector = %self.name, reason, "no connection to the agent; collecting into the spool");
        }
        self.told_alone = true;
        self.alone_since.get_or_insert_with(Instant::now);
        self.window.clear();
    }

    /// The agent has committed everything of the epoch up to this sequence.
    fn acknowledged(&mut self, epoch: Epoch, through: u64) -> Result<(), CollectorError> {
        if epoch == self.spool.epoch() && through >= self.spool.next_sequence() {
            // Going on would number new items like committed ones, and they would be taken for repetitions.
            return self.begin_epoch(NewEpoch::BehindAgent);
        }
        // Before anything is trimmed: who watches from outside may rely on it.
        tracing::debug!(%epoch, through, "acknowledged");
        self.spool.acknowledge(epoch, through);
        self.window.acknowledged(epoch, through, Instant::now().into_std());
        Ok(())
    }

    /// Begins a new epoch, in which the source tells everything anew, and registers with it. What is left of the one before
    /// is sent under its own numbers.
    fn begin_epoch(&mut self, reason: NewEpoch) -> Result<(), CollectorError> {
        self.spool.begin_epoch()?;
        let epoch = self.spool.epoch();
        tracing::error!(%epoch, %reason, "the spool begins a new epoch");
        self.intake.begin(epoch);
        self.lost_link("to register the new epoch");
        self.link.reset();
        Ok(())
    }

    /// Publishes what the window and the link have room for.
    fn publish(&mut self) {
        if !self.link.is_free() {
            return;
        }
        if self.status_due {
            self.status_due = false;
            self.link.publish_status(&self.status());
        } else if self.window.has_room()
            && self.link.has_credit()
            && let Some(batch) = self.spool.next_batch()
        {
            let (epoch, first, count) = (batch.epoch, batch.first, batch.items.len());
            let batch_id = batch_id(&self.name, epoch, first, count);
            tracing::debug!(batch = batch_id, "published");
            self.published += 1;
            self.window.sent(epoch, first + count as u64 - 1, Instant::now().into_std());
            self.link.publish_batch(&EventBatch {
                collector: self.name.clone(),
                epoch: epoch.0.to_vec(),
                first_sequence: first,
                items: batch.items,
            });
        }
    }
}
