//! Hostile bytes on the socket: whoever sends them is dropped, everyone else goes on.

use crate::support::{PATIENCE, health_of, noise, number, site, text};
use daemoneye_eventbus::frame;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use testkit::Monitor;

const QUERY: &str = "SELECT count(*) FROM processes";

#[test]
fn hostile_bytes_end_their_own_connection_and_no_other() {
    let mut monitor = Monitor::start(site()).unwrap();
    let procmond = monitor.procmond_pid();
    let socket = monitor.site().runtime_dir().join("agent.sock");
    let done = AtomicBool::new(false);
    let mut refused = 0;
    thread::scope(|scope| {
        let queries = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) || asked == 0 {
                assert!(number(monitor.site(), QUERY) > 0);
                asked += 1;
            }
        });
        for round in 0..5 {
            for bytes in hostile() {
                assert!(is_dropped(&socket, &bytes), "round {round}: {:?} were taken", &bytes[..bytes.len().min(16)]);
                refused += 1;
            }
        }
        done.store(true, Ordering::Relaxed);
        queries.join().unwrap();
    });
    let (_, health) = health_of(monitor.site(), "agent");
    assert!(text(&health, "detail").contains(&format!("{refused} connections refused or cut off")), "{health}");
    let (_, health) = health_of(monitor.site(), "collector procmond");
    assert!(text(&health, "detail").starts_with("polling only"), "the collector was affected: {health}");
    assert_eq!(monitor.procmond_pid(), procmond);
    assert_eq!(number(monitor.site(), "SELECT count(*) FROM system.gaps WHERE kind <> 'polling'"), 0);
    monitor.stop().unwrap();
}

/// What is no handshake, in several ways.
fn hostile() -> Vec<Vec<u8>> {
    let whole = frame::encode(b"this is no message of the bus").unwrap();
    let mut wrong_checksum = whole.clone();
    wrong_checksum[5] ^= 0xff;
    vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        noise(100_000),
        // It promises 4 GiB.
        [u32::MAX.to_le_bytes().to_vec(), vec![0; 64]].concat(),
        // A frame that ends too early.
        whole[..whole.len() - 3].to_vec(),
        whole[..5].to_vec(),
        wrong_checksum,
        whole,
        frame::encode(&[]).unwrap(),
        frame::encode(&noise(60_000)).unwrap(),
    ]
}

/// Sends the bytes and nothing after them; whether the connection is closed from the other side.
fn is_dropped(socket: &Path, bytes: &[u8]) -> bool {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A part may be refused already.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}
