//! Malformed frames, each on a connection of its own, while a client that behaves keeps asking.
//!
//! With the bounds that the agent has, most of these connections wait on the steps and are turned back from there; without
//! the one for failures, every single frame is read.

use std::time::{Duration, Instant};

use crate::site::{Site, Times};

const LINES: u64 = 10;

pub(crate) async fn run(frames: u64, read_all: bool) {
    let site = Site::start(|config| {
        if read_all {
            (config.failures_at_once, config.failures_a_second) = (u32::MAX, u32::MAX);
        }
    })
    .await;
    tell("before", &site.measure(3_000).await);
    // Little is kept of what is measured, or it would be our own memory that grows.
    let (mut told, mut since_told) = (frames / LINES, Times::default());
    let start = Instant::now();
    let mut crowd = site.crowd("frames", frames);
    while crowd.try_wait().unwrap().is_none() {
        since_told.add(site.measure(1_000).await);
        let refused = site.gate.refused();
        if refused >= told {
            told += frames / LINES;
            tell(&format!("{refused} refused in {} s", start.elapsed().as_secs()), &since_told);
            since_told = Times::default();
        }
    }
    // The last are counted a moment after they were sent.
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("all {} refused in {} s", site.gate.refused(), start.elapsed().as_secs());
    tell("after", &site.measure(3_000).await);
    assert_eq!(site.gate.refused(), frames, "every frame must have been refused, and nothing else");
}

fn tell(when: &str, times: &Times) {
    let (median, p99, connect) = (times.median(), times.p99(), times.connect());
    println!("{when}: median {median:?}, p99 {p99:?}, longest connect {connect:?}; {} resident", resident());
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or("an unknown amount").trim().to_owned()
}
