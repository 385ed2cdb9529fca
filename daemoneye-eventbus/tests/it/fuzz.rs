//! Fuzz target: whatever comes in on a socket is a frame, or refused.

use bolero::check;
use daemoneye_eventbus::frame::{self, ReadError};

const LIMIT: usize = 1 << 16;

#[test]
fn fuzz_frame() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = |bytes: &[u8]| runtime.block_on(frame::read(&mut &*bytes, LIMIT));
    check!().for_each(|bytes: &[u8]| {
        // Read from a stream, the same bytes mean the same.
        match (frame::decode(bytes, LIMIT), read(bytes)) {
            (Ok(Some((payload, _))), Ok(Some(found))) => assert_eq!(payload, found),
            (Ok(None), Ok(None)) => assert!(bytes.is_empty()),
            (Ok(None), Err(ReadError::Truncated)) | (Err(_), Err(ReadError::Frame(_))) => {}
            (decoded, read) => panic!("{decoded:?} and {read:?}"),
        }
        // A frame with these bytes in it, and as many more behind it.
        let whole = frame::encode(bytes).unwrap();
        let (payload, length) = frame::decode(&whole, frame::MAX_FRAME).unwrap().unwrap();
        assert_eq!((payload, length), (bytes, whole.len()));
        let two = [&whole[..], bytes].concat();
        assert_eq!(frame::decode(&two, frame::MAX_FRAME).unwrap().unwrap(), (bytes, length));
    });
}
