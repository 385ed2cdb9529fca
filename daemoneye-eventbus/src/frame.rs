//! Frames: how messages are cut out of a stream of bytes.
//!
//! A frame is the payload's length and its CRC32C, both `u32` little-endian, then the payload. The checksum finds defects,
//! not attackers. Nothing here knows what a payload means, and nothing tries to find the next frame after a bad one: whoever
//! reads a bad frame closes the connection.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest payload of a frame, in bytes.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;

/// The bytes before the payload.
pub const HEADER: usize = 8;

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The stated length is above the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// What the header states, or what was to be sent.
        length: usize,
        /// The most that is accepted here.
        limit: usize,
    },
    /// The payload is not the one that was sent.
    #[error("a frame's checksum is {found:#010x}, its header states {stated:#010x}")]
    Checksum {
        /// What the header states.
        stated: u32,
        /// What the payload has.
        found: u32,
    },
}

/// Why no frame came out of a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// What came is not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// The stream broke.
    #[error("cannot read from the stream: {0}")]
    Io(#[from] io::Error),
}

struct Header {
    length: usize,
    checksum: u32,
}

impl Header {
    fn parse(bytes: [u8; HEADER], limit: usize) -> Result<Self, FrameError> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > limit {
            return Err(FrameError::TooLong { length, limit });
        }
        Ok(Self { length, checksum: u32::from_le_bytes([e, f, g, h]) })
    }

    fn verify(&self, payload: &[u8]) -> Result<(), FrameError> {
        let found = crc32c::crc32c(payload);
        if found != self.checksum {
            return Err(FrameError::Checksum { stated: self.checksum, found });
        }
        Ok(())
    }
}

/// The frame around a payload.
///
/// # Errors
/// The payload is longer than [`MAX_FRAME`].
pub fn encode(payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MAX_FRAME => length,
        _ => return Err(FrameError::TooLong { length: payload.len(), limit: MAX_FRAME }),
    };
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// The payload of the frame at the start of `bytes`, and how many bytes the frame takes; `None` asks for more bytes.
///
/// # Errors
/// No further bytes can make this a frame of at most `limit` bytes.
pub fn decode(bytes: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let header = Header::parse(*header, limit)?;
    let Some(payload) = rest.get(..header.length) else { return Ok(None) };
    header.verify(payload)?;
    Ok(Some((payload, HEADER + header.length)))
}

/// Reads one frame's payload; `None` when the stream ends between two frames.
///
/// Memory grows with what arrives, not with what a header promises.
///
/// # Errors
/// The stream broke, ended within a frame, or holds something else than a frame of at most `limit` bytes.
pub async fn read<R: AsyncRead + Unpin>(reader: &mut R, limit: usize) -> Result<Option<Vec<u8>>, ReadError> {
    let mut start = Vec::with_capacity(HEADER);
    (&mut *reader).take(HEADER as u64).read_to_end(&mut start).await?;
    if start.is_empty() {
        return Ok(None);
    }
    let header = Header::parse(start.try_into().map_err(|_| ReadError::Truncated)?, limit)?;
    let mut payload = Vec::with_capacity(header.length.min(64 * 1024));
    reader.take(header.length as u64).read_to_end(&mut payload).await?;
    if payload.len() < header.length {
        return Err(ReadError::Truncated);
    }
    header.verify(&payload)?;
    Ok(Some(payload))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::{FrameError, HEADER, MAX_FRAME, decode, encode};

    proptest! {
        #[test]
        fn a_payload_comes_back_from_its_frame(payload: Vec<u8>, rest: Vec<u8>) {
            let mut bytes = encode(&payload).unwrap();
            let length = bytes.len();
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(decode(&bytes, MAX_FRAME), Ok(Some((payload.as_slice(), length))));
        }

        #[test]
        fn a_changed_byte_never_yields_another_payload(payload: Vec<u8>, place: prop::sample::Index, change in 1..=u8::MAX) {
            let mut bytes = encode(&payload).unwrap();
            let place = place.index(bytes.len());
            bytes[place] ^= change;
            // A header that states a longer frame asks for bytes that never come.
            let refused_or_short = matches!(decode(&bytes, MAX_FRAME), Err(_) | Ok(None));
            prop_assert!(refused_or_short, "{:?}", decode(&bytes, MAX_FRAME));
        }

        #[test]
        fn a_part_of_a_frame_asks_for_more(payload: Vec<u8>, cut: prop::sample::Index) {
            let bytes = encode(&payload).unwrap();
            prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())], MAX_FRAME), Ok(None));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            if let Ok(Some((payload, length))) = decode(&bytes, MAX_FRAME) {
                prop_assert_eq!(length, HEADER + payload.len());
                prop_assert!(length <= bytes.len());
            }
        }
    }

    #[test]
    fn the_limit_holds_in_both_directions() {
        let largest = vec![7; MAX_FRAME];
        assert!(encode(&largest).is_ok());
        let length = MAX_FRAME + 1;
        assert_eq!(encode(&vec![7; length]), Err(FrameError::TooLong { length, limit: MAX_FRAME }));
        let mut header = u32::try_from(length).unwrap().to_le_bytes().to_vec();
        header.extend_from_slice(&[0; 4]);
        assert_eq!(decode(&header, MAX_FRAME), Err(FrameError::TooLong { length, limit: MAX_FRAME }));
    }
}
