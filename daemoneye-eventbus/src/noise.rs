//! Encryption: a Noise handshake before the `Hello`, and a sealed stream of bytes after it.
//!
//! `Noise_IK_25519_ChaChaPoly_BLAKE2s`: the client knows the agent's public key beforehand, and the agent learns the
//! client's within the first message. Frames stay what they are; the bytes of a direction are cut into records, each a `u16`
//! little-endian length and so many sealed bytes. A record that cannot be opened ends the connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use snow::{Builder, Keypair, StatelessTransportState};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::keys::{PrivateKey, PublicKey};

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

/// What both sides must mean.
const PROLOGUE: &[u8] = b"daemoneye bus 1";

/// The longest record, without its length.
const MAX_RECORD: usize = 65_535;

/// What sealing adds.
const TAG: usize = 16;

/// Bytes before a record.
const LENGTH: usize = 2;

/// What a finished handshake leaves: the keys of both directions.
pub(crate) type Seal = Arc<StatelessTransportState>;

fn builder<'a>() -> Result<Builder<'a>, snow::Error> {
    Builder::new(PATTERN.parse()?).prologue(PROLOGUE)
}

/// A fresh pair.
pub(crate) fn generate() -> Result<Keypair, snow::Error> {
    builder()?.generate_keypair()
}

/// The client's side of a handshake, between its two messages.
pub(crate) struct Initiator(snow::HandshakeState);

impl Initiator {
    /// Begins, with the message to send.
    pub(crate) fn begin(own: &PrivateKey, agent: &PublicKey) -> Result<(Self, Vec<u8>), snow::Error> {
        let mut state =
            builder()?.local_private_key(own.bytes())?.remote_public_key(agent.bytes())?.build_initiator()?;
        let mut message = vec![0; 256];
        let length = state.write_message(&[], &mut message)?;
        message.truncate(length);
        Ok((Self(state), message))
    }

    /// Ends with the agent's answer.
    pub(crate) fn finish(mut self, answer: &[u8]) -> Result<Seal, snow::Error> {
        self.0.read_message(answer, &mut [0; 256])?;
        self.0.into_stateless_transport_mode().map(Arc::new)
    }
}

/// The agent's side of a handshake: what to answer, the seal, and who is there.
pub(crate) fn respond(first: &[u8], own: &PrivateKey) -> Result<(Vec<u8>, Seal, Option<PublicKey>), snow::Error> {
    let mut state = builder()?.local_private_key(own.bytes())?.build_responder()?;
    state.read_message(first, &mut [0; 256])?;
    let peer = state.get_remote_static().and_then(PublicKey::from_bytes);
    let mut answer = vec![0; 256];
    let length = state.write_message(&[], &mut answer)?;
    answer.truncate(length);
    Ok((answer, Arc::new(state.into_stateless_transport_mode()?), peer))
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Opens the records of a stream.
pub(crate) struct Opening<R> {
    inner: R,
    seal: Seal,
    /// How many records were opened.
    count: u64,
    /// Of the next record, what has come.
    record: Vec<u8>,
    opened: Vec<u8>,
    /// How much of that was read.
    read: usize,
}

impl<R> Opening<R> {
    pub(crate) fn new(inner: R, seal: Seal) -> Self {
        Self { inner, seal, count: 0, record: Vec::new(), opened: Vec::new(), read: 0 }
    }

    /// The bytes that the record has as far as it is known.
    fn wanted(&self) -> usize {
        match self.record.first_chunk::<LENGTH>() {
            Some(length) => LENGTH + usize::from(u16::from_le_bytes(*length)),
            None => LENGTH,
        }
    }

    fn open(&mut self) -> io::Result<()> {
        self.opened.resize(MAX_RECORD, 0);
        let sealed = self.record.get(LENGTH..).unwrap_or_default();
        let length = self
            .seal
            .read_message(self.count, sealed, &mut self.opened)
            .map_err(|_| broken("a sealed record cannot be opened"))?;
        self.opened.truncate(length);
        self.read = 0;
        self.record.clear();
        self.count += 1;
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Opening<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let rest = this.opened.get(this.read..).unwrap_or_default();
            if !rest.is_empty() || buf.remaining() == 0 {
                let taken = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..taken]);
                this.read += taken;
                return Poll::Ready(Ok(()));
            }
            let wanted = this.wanted();
            if wanted > LENGTH && this.record.len() == wanted {
                this.open()?;
                continue;
            }
            if wanted == LENGTH && this.record.len() == LENGTH {
                return Poll::Ready(Err(broken("a sealed record is empty")));
            }
            let mut chunk = [0; 4096];
            let missing = (wanted - this.record.len()).min(chunk.len());
            let mut chunk = ReadBuf::new(&mut chunk[..missing]);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                let whole = this.record.is_empty();
                return Poll::Ready(if whole {
                    Ok(())
                } else {
                    Err(broken("the stream ended within a sealed record"))
                });
            }
            this.record.extend_from_slice(chunk.filled());
        }
    }
}

/// Seals what is written into records.
pub(crate) struct Sealing<W> {
    inner: W,
    seal: Seal,
    /// How many records were sealed.
    count: u64,
    record: Vec<u8>,
    /// How much of that was written.
    written: usize,
}

impl<W> Sealing<W> {
    pub(crate) fn new(inner: W, seal: Seal) -> Self {
        Self { inner, seal, count: 0, record: Vec::new(), written: 0 }
    }

    fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.record.resize(LENGTH + bytes.len() + TAG, 0);
        let (length, sealed) = self.record.split_at_mut(LENGTH);
        let sealed = self.seal.write_message(self.count, bytes, sealed).map_err(|_| broken("nothing can be sealed"))?;
        let stated = u16::try_from(sealed).map_err(|_| broken("a sealed record is too long"))?;
        length.copy_from_slice(&stated.to_le_bytes());
        self.written = 0;
        self.count += 1;
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin> Sealing<W> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.record.len() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.record[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Sealing<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let taken = bytes.len().min(MAX_RECORD - TAG);
        if taken > 0 {
            self.seal(&bytes[..taken])?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::{Initiator, MAX_RECORD, Opening, Seal, Sealing, TAG, generate, respond};
    use crate::keys::{Keys, Owner, PublicKey};

    fn seals() -> (Seal, Seal) {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::in_dir(dir.path());
        keys.ensure(Owner::Agent).unwrap();
        keys.ensure(Owner::Operator).unwrap();
        let own = keys.private(Owner::Operator).unwrap();
        let (initiator, first) = Initiator::begin(&own, &keys.public(Owner::Agent).unwrap()).unwrap();
        let (answer, agents, peer) = respond(&first, &keys.private(Owner::Agent).unwrap()).unwrap();
        assert!(peer == Some(keys.public(Owner::Operator).unwrap()));
        (initiator.finish(&answer).unwrap(), agents)
    }

    #[tokio::test]
    async fn what_is_sealed_here_is_opened_there() {
        let (ours, theirs) = seals();
        for length in [0, 1, MAX_RECORD - TAG, MAX_RECORD - TAG + 1, 300_000] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut sealed = Vec::new();
            let mut writer = Sealing::new(&mut sealed, ours.clone());
            writer.write_all(&bytes).await.unwrap();
            writer.flush().await.unwrap();
            assert!(length < 16 || !sealed.windows(16).any(|window| window == &bytes[..16]), "it can be read");
            let mut opened = Vec::new();
            Opening::new(&sealed[..], theirs.clone()).read_to_end(&mut opened).await.unwrap();
            assert!(opened == bytes, "{length} bytes");
        }
    }

    #[tokio::test]
    async fn what_was_changed_repeated_or_cut_is_not_opened() {
        let (ours, theirs) = seals();
        let mut sealed = Vec::new();
        let mut writer = Sealing::new(&mut sealed, ours);
        writer.write_all(b"one").await.unwrap();
        writer.flush().await.unwrap();
        let fails = async |bytes: &[u8]| {
            let error = Opening::new(bytes, theirs.clone()).read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        };
        for place in 2..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            fails(&changed).await;
        }
        fails(&[&sealed[..], &sealed[..]].concat()).await;
        fails(&sealed[..sealed.len() - 1]).await;
        fails(&[0, 0]).await;
    }

    #[test]
    fn only_the_agent_whose_key_is_pinned_can_answer() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::in_dir(dir.path());
        keys.ensure(Owner::Agent).unwrap();
        keys.ensure(Owner::Operator).unwrap();
        let another = PublicKey::from_bytes(&generate().unwrap().public).unwrap();
        let (_, first) = Initiator::begin(&keys.private(Owner::Operator).unwrap(), &another).unwrap();
        assert!(respond(&first, &keys.private(Owner::Agent).unwrap()).is_err());
        assert!(respond(b"", &keys.private(Owner::Agent).unwrap()).is_err());
        assert!(respond(&[7; 300], &keys.private(Owner::Agent).unwrap()).is_err());
    }
}
