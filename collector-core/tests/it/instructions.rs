//! What the agent wants, and how the collector says that it follows.

use crate::agent::{Agent, Shared, Site, State, until};
use crate::collector::{config, item, start};
use collector_core::{Ended, SourceError};
use daemoneye_lib::proto::ipc::{CollectedItem, Instructions, collected_item::Item};
use prost::Message;
use std::time::Duration;

fn wanted(version: u64, settings: &str, paused: bool) -> Instructions {
    Instructions { version, settings: settings.into(), paused, status_interval_ms: 100, ..Instructions::default() }
}

fn pauses_told(shared: &Shared) -> usize {
    let state = shared.lock();
    let items = state.committed.values().map(|bytes| CollectedItem::decode(&bytes[..]).unwrap());
    items.filter(|item| matches!(&item.item, Some(Item::Gap(gap)) if gap.kind == "paused" && gap.to.is_some())).count()
}

fn status<T>(shared: &Shared, read: impl FnOnce(&daemoneye_lib::proto::ipc::CollectorStatus) -> T) -> Option<T> {
    shared.lock().status.as_ref().map(read)
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_taken_refused_and_changed_while_it_runs() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    shared.lock().instructions = Some(wanted(1, "{\"limit\":1}", false));
    let agent = Agent::start(&site, &shared).await;
    let collector = start(config(&site, Some(agent.token())), |sink| {
        let mut last = 0;
        loop {
            let settings = sink.settings();
            if settings.version != last {
                last = settings.version;
                let taken = if settings.json.contains("limit") { Ok(()) } else { Err("no limit".to_owned()) };
                sink.settled(settings.version, taken);
            }
            sink.pause(Duration::from_secs(600))?;
        }
    });
    let answered = |version, refused: &str| {
        status(&shared, |status| status.settings_version == version && status.settings_refused == refused) == Some(true)
    };
    until("the first settings to be taken", || answered(1, "")).await;
    agent.instruct(wanted(2, "{\"other\":1}", false)).await;
    until("the next to be refused", || answered(2, "no limit")).await;
    agent.instruct(wanted(3, "{\"limit\":2}", false)).await;
    until("the last to be taken", || answered(3, "")).await;
    assert_eq!(collector.stop().await.unwrap(), Ended::Stopped);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_the_source_and_becomes_a_gap() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let collector = start(config(&site, Some(agent.token())), |sink| -> Result<(), SourceError> {
        for number in 0.. {
            sink.emit(item(number, 20))?;
            sink.pause(Duration::from_millis(1))?;
        }
        Ok(())
    });
    until("some items", || shared.committed() > 10).await;
    agent.instruct(wanted(0, "", true)).await;
    until("the pause", || status(&shared, |status| status.paused && status.spool_items == 0) == Some(true)).await;
    let before = shared.committed();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(shared.committed(), before, "it goes on");
    assert_eq!(pauses_told(&shared), 0);
    agent.instruct(wanted(0, "", false)).await;
    until("more items", || shared.committed() > before + 10).await;
    assert_eq!(pauses_told(&shared), 1);

    // The end of a paused collector ends the pause, too.
    agent.instruct(wanted(0, "", true)).await;
    until("the pause", || status(&shared, |status| status.paused) == Some(true)).await;
    assert_eq!(collector.stop().await.unwrap(), Ended::Stopped);
    assert_eq!(pauses_told(&shared), 2);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_over_its_budget_goes_on_and_says_what_it_uses() {
    let (site, shared) = (Site::new(), Shared::new(State { acknowledges: true, ..State::default() }));
    shared.lock().instructions = Some(Instructions { memory_budget_bytes: 1, ..wanted(1, "", false) });
    let agent = Agent::start(&site, &shared).await;
    let collector = start(config(&site, Some(agent.token())), |sink| {
        while !sink.is_over_budget() {
            sink.pause(Duration::from_millis(1))?;
        }
        for number in 0..2_000 {
            sink.emit(item(number, 20))?;
        }
        crate::collector::waits(&sink)
    });
    until("all committed", || shared.committed() == 2_000).await;
    until("its memory", || status(&shared, |status| status.memory_bytes > 1_000_000) == Some(true)).await;
    assert_eq!(collector.stop().await.unwrap(), Ended::Stopped);
    agent.stop().await;
}
