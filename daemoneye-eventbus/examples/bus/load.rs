//! How long a call of a client that behaves takes: alone, beside peers that do not, and beside a process that does nothing but
//! use as much of the processors as those peers did. In turns, each for a short time, because a host is not equally fast all
//! the time. What other work on the host adds comes and goes, and only adds: of the rounds' figures it is the lower quartile that
//! is told.

use std::time::{Duration, Instant};

use crate::site::{Site, Times, cpu_time};

const ROUNDS: u32 = 11;
const CALLS: usize = 300;

pub(crate) async fn run(only: Option<&str>) {
    let loads = [
        ("nobody", "silent", 0),
        ("8 that do not read their alerts", "slow", 8),
        ("1,000 connections that say nothing, ever new ones", "silent", 1_000),
        ("16 that send malformed frames", "malformed", 16),
        ("256 that send malformed frames", "malformed", 256),
        ("16 that show a used token", "replay", 16),
        ("4 that subscribe without end", "subscribe", 4),
        ("4 that send heartbeats without end", "heartbeats", 4),
        ("4 that call without end", "calls", 4),
    ];
    println!(
        "| beside | alone: median | p99 | beside them: median | p99 | p99 is times | beside as much work elsewhere: p99 | is times \
         | longest connect | cut off a second | their CPU | ours alone | ours |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (what, kind, amount) in loads {
        if only.is_none_or(|only| only == kind) {
            row(what, kind, amount).await;
        }
    }
}

async fn row(what: &str, kind: &str, amount: u64) {
    let site = Site::start(|_| {}).await;
    site.measure(200).await;
    let (mut alone, mut loaded, mut elsewhere) = <(Vec<Times>, Vec<Times>, Vec<Times>)>::default();
    let (mut ours_alone, mut ours, mut theirs, mut took, mut refused) = (0.0, 0.0, 0.0, Duration::ZERO, 0);
    let us = std::process::id();
    for _ in 0..ROUNDS {
        let (start, before) = (Instant::now(), cpu_time(us));
        alone.push(site.measure(CALLS).await);
        ours_alone += share(us, before, start) / f64::from(ROUNDS);

        let mut crowd = site.crowd(kind, amount.max(1));
        if amount == 0 {
            crowd.kill().await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let pid = crowd.id();
        let (start, before, refused_before) = (Instant::now(), cpu_time(us), site.gate.refused());
        let crowd_before = pid.map(cpu_time);
        loaded.push(site.measure(CALLS).await);
        ours += share(us, before, start) / f64::from(ROUNDS);
        let crowds = pid.map_or(0.0, |pid| share(pid, crowd_before.unwrap(), start));
        theirs += crowds / f64::from(ROUNDS);
        took += start.elapsed();
        refused += site.gate.refused() - refused_before;
        let _ = crowd.kill().await;

        let mut spinning = site.crowd("spin", crowds.round() as u64);
        tokio::time::sleep(Duration::from_millis(300)).await;
        elsewhere.push(site.measure(CALLS).await);
        spinning.kill().await.unwrap();
    }
    let (alone_p99, loaded_p99) = (quartile(&alone, Times::p99), quartile(&loaded, Times::p99));
    let elsewhere_p99 = quartile(&elsewhere, Times::p99);
    println!(
        "| {what} | {:.0} µs | {alone_p99:.0} µs | {:.0} µs | {loaded_p99:.0} µs | {:.1} | {elsewhere_p99:.0} µs | {:.1} \
         | {:.1} ms | {:.0} | {theirs:.0} % | {ours_alone:.0} % | {ours:.0} % |",
        quartile(&alone, Times::median),
        quartile(&loaded, Times::median),
        loaded_p99 / alone_p99,
        elsewhere_p99 / alone_p99,
        loaded.iter().map(Times::connect).max().unwrap_or_default().as_secs_f64() * 1e3,
        refused as f64 / took.as_secs_f64(),
    );
}

/// The lower quartile of the rounds' figures, in microseconds.
fn quartile(rounds: &[Times], figure: impl Fn(&Times) -> Duration) -> f64 {
    let mut figures: Vec<Duration> = rounds.iter().map(figure).collect();
    figures.sort();
    figures[figures.len() / 4].as_secs_f64() * 1e6
}

/// Of one processor, in per cent.
fn share(pid: u32, before: Duration, since: Instant) -> f64 {
    (cpu_time(pid) - before).as_secs_f64() / since.elapsed().as_secs_f64() * 100.0
}
