//! How long a call of a client that behaves takes, alone and beside peers in another process that do not, in turns.

use std::time::Duration;

use crate::peers::Site;

const CALLS: usize = 2_000;

pub(crate) async fn run() {
    let loads = [
        ("nobody", "silent", 0),
        ("4 that send heartbeats without end", "heartbeats", 4),
        ("8 that do not read their alerts", "slow", 8),
        ("4 that subscribe without end", "subscribe", 4),
        ("1,000 connections that say nothing, ever new ones", "silent", 1_000),
        ("16 that send malformed frames", "malformed", u64::MAX),
    ];
    println!("| beside | alone: median | p99 | loaded: median | p99 | p99 is times | cut off |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (what, kind, amount) in loads {
        let site = Site::start().await;
        site.measure(200).await;
        let alone = site.measure(CALLS).await;
        let mut crowd = (amount > 0).then(|| site.crowd(kind, amount));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let loaded = site.measure(CALLS).await;
        if let Some(crowd) = &mut crowd {
            crowd.kill().await.unwrap();
        }
        let (median, p99) = (CALLS / 2, CALLS * 99 / 100);
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "| {what} | {:.0} µs | {:.0} µs | {:.0} µs | {:.0} µs | {:.1} | {} |",
            micros(alone[median]),
            micros(alone[p99]),
            micros(loaded[median]),
            micros(loaded[p99]),
            micros(loaded[p99]) / micros(alone[p99]),
            site.gate.refused(),
        );
    }
}
