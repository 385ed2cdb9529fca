//! The two directions of one connection, sealed or not.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};

use crate::noise::{Opening, Seal, Sealing};

const BUFFER: usize = 64 * 1024;

/// What is read and what is written; each may be used on its own.
pub(crate) struct Line {
    pub(crate) reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Line {
    pub(crate) fn plain(stream: &Arc<Stream>) -> Self {
        let half = || Box::new(Half(Arc::clone(stream)));
        Self { reader: BufReader::with_capacity(BUFFER, half()), writer: half() }
    }

    pub(crate) fn sealed(stream: &Arc<Stream>, seal: Seal) -> Self {
        let half = || Half(Arc::clone(stream));
        let opening = Opening::new(BufReader::with_capacity(BUFFER, half()), Arc::clone(&seal));
        Self {
            reader: BufReader::with_capacity(BUFFER, Box::new(opening)),
            writer: Box::new(Sealing::new(half(), seal)),
        }
    }
}

struct Half(Arc<Stream>);

impl AsyncRead for Half {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Half {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.0).poll_shutdown(cx)
    }
}
