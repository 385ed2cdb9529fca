//! Malformed frames, each on a connection of its own, while a client that behaves keeps asking.

use std::time::{Duration, Instant};

use crate::peers::Site;

const LINES: u64 = 10;

pub(crate) async fn run(frames: u64) {
    let site = Site::start().await;
    let alone = site.measure(2_000).await;
    println!("alone: median {:?}, p99 {:?}; {} resident", alone[1_000], alone[1_980], resident());
    let start = Instant::now();
    let mut crowd = site.crowd("malformed", frames);
    let mut told = frames / LINES;
    while crowd.try_wait().unwrap().is_none() {
        let loaded = site.measure(1_000).await;
        let refused = site.gate.refused();
        if refused >= told {
            told += frames / LINES;
            let seconds = start.elapsed().as_secs();
            let (median, p99) = (loaded[500], loaded[990]);
            println!("{refused} refused in {seconds} s; median {median:?}, p99 {p99:?}; {} resident", resident());
        }
    }
    // The last are counted a moment after they were sent.
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("{} refused in {} s", site.gate.refused(), start.elapsed().as_secs());
    let after = site.measure(2_000).await;
    println!("after: median {:?}, p99 {:?}; {} resident", after[1_000], after[1_980], resident());
    assert_eq!(site.gate.refused(), frames, "every frame must have been refused, and nothing else");
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or("an unknown amount").trim().to_owned()
}
