//! Frames on a socket, by the description in `docs/formats/bus.md`.

use crate::protocol::bus::EventBusMessage;
use prost::Message as _;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The longest payload of a frame.
pub const MAX_FRAME: usize = 4 << 20;
const HEADER: usize = 8;

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other end closed, or broke, the connection.
    #[error("the connection was closed")]
    Closed,
    /// What came is no frame, or holds no message.
    #[error("it sent {0}")]
    Garbage(String),
}

/// A connection of frames.
pub struct Wire {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Over a connected socket.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next message; none when there is none within the time.
    ///
    /// # Errors
    /// The connection is over, or what came is no message.
    pub fn receive(&mut self, within: Duration) -> Result<Option<EventBusMessage>, WireError> {
        let until = Instant::now() + within;
        loop {
            if let Some(payload) = self.frame()? {
                return EventBusMessage::decode(&payload[..])
                    .map(Some)
                    .map_err(|error| WireError::Garbage(format!("a frame that holds no message: {error}")));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut chunk = [0; 65_536];
            // A timeout of zero would wait for ever.
            let timed = self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))));
            match timed.and_then(|()| self.stream.read(&mut chunk)) {
                Ok(0) => return Err(WireError::Closed),
                Ok(bytes) => self.buffer.extend_from_slice(&chunk[..bytes]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(WireError::Closed),
            }
        }
    }

    /// The payload at the beginning of what has arrived, when all of it has.
    fn frame(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > MAX_FRAME {
            return Err(WireError::Garbage(format!("a frame of {length} bytes; {MAX_FRAME} is the limit")));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        if crc32c::crc32c(payload) != u32::from_le_bytes([e, f, g, h]) {
            return Err(WireError::Garbage("a frame whose checksum is wrong".to_owned()));
        }
        let payload = payload.to_vec();
        self.buffer.drain(..HEADER + length);
        Ok(Some(payload))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection is over.
    pub fn send(&mut self, message: &EventBusMessage) -> Result<(), WireError> {
        self.send_bytes(&frame(&message.encode_to_vec()))
    }

    /// Ends the connection.
    pub fn close(&self) {
        // One that has ended already is as good.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is over.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes).map_err(|_| WireError::Closed)
    }
}

/// The frame around a payload of at most [`MAX_FRAME`] bytes.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &crc32c::crc32c(payload).to_le_bytes(), payload].concat()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_and_garbage_is_told() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut one, mut other) = (Wire::new(one), Wire::new(other));
        let message = EventBusMessage { topic: "events.process.x".into(), ..EventBusMessage::default() };
        let bytes = frame(&message.encode_to_vec());
        one.send_bytes(&bytes[..5]).unwrap();
        assert!(other.receive(Duration::from_millis(10)).unwrap().is_none());
        one.send_bytes(&bytes[5..]).unwrap();
        assert_eq!(other.receive(Duration::from_secs(5)).unwrap(), Some(message));
        let mut wrong = frame(b"x");
        wrong[4] ^= 1;
        one.send_bytes(&wrong).unwrap();
        assert!(matches!(other.receive(Duration::from_secs(5)), Err(WireError::Garbage(_))));
    }
}
