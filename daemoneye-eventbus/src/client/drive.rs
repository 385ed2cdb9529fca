//! The task behind a client: what arrives is handed on, what is queued goes out, until either ends.

use std::{
    pin::pin,
    sync::{Arc, Weak},
};

use prost::Message as _;
use tokio::{io::AsyncRead, sync::mpsc, time::timeout};

use super::{Client, Inner, table::Shared};
use crate::{
    broker::{Event, GRACE, Lane, write_message},
    frame::{self, MAX_FRAME},
    line::Line,
    proto::EventBusMessage,
    queue::{Delivery, Room},
};

/// What may have arrived and not been taken yet; beyond it the connection is not read.
const UNTAKEN_MESSAGES: usize = 1024;
const UNTAKEN_BYTES: usize = 2 * MAX_FRAME;

/// Drives a client of the same process. Whatever it receives holds its sender's room already.
pub(super) async fn local(
    shared: Arc<Shared>,
    client: Weak<Inner>,
    connection: u64,
    mut inbox: mpsc::UnboundedReceiver<Delivery>,
    mut outgoing: mpsc::UnboundedReceiver<Delivery>,
    events: Lane,
) {
    let receive = async {
        while let Some(delivery) = inbox.recv().await {
            if let Err(reason) = shared.dispatch(client.upgrade().map(Client), delivery) {
                return reason;
            }
        }
        "the broker has ended".to_owned()
    };
    let send = async {
        while let Some(Delivery { message, permit, .. }) = outgoing.recv().await {
            if events.send(Event::Message { connection, message, permit }).await.is_err() {
                return "the broker has ended".to_owned();
            }
        }
        "every handle is gone".to_owned()
    };
    let reason = tokio::select! {
        reason = receive => reason,
        reason = send => reason,
        reason = shared.closed() => reason,
    };
    close(&shared, &client, reason);
    // The router may be gone already.
    let _ = events.send(Event::Left { connection, violation: None }).await;
}

/// Drives a client behind a socket.
pub(super) async fn socket(
    shared: Arc<Shared>,
    client: Weak<Inner>,
    line: Line,
    mut outgoing: mpsc::UnboundedReceiver<Delivery>,
) {
    let Line { reader, mut writer } = line;
    let mut receive = pin!(receive(&shared, &client, reader));
    let send = async {
        while let Some(Delivery { message, permit, .. }) = outgoing.recv().await {
            write_message(&mut writer, &message).await?;
            drop(permit);
        }
        std::io::Result::Ok(())
    };
    let reason = tokio::select! {
        reason = &mut receive => reason,
        reason = shared.closed() => reason,
        sent = send => match sent {
            Ok(()) => "every handle is gone".to_owned(),
            // The broker's reason may still be on its way to us.
            Err(error) => timeout(GRACE, receive).await.unwrap_or_else(|_| format!("cannot write to the broker: {error}")),
        },
    };
    close(&shared, &client, reason);
}

/// Hands on what the broker sends, until it ends; returns why.
async fn receive(shared: &Shared, client: &Weak<Inner>, mut reader: impl AsyncRead + Unpin) -> String {
    let untaken = Room::new(UNTAKEN_MESSAGES, UNTAKEN_BYTES);
    loop {
        let payload = match frame::read(&mut reader, MAX_FRAME).await {
            Ok(Some(payload)) => payload,
            Ok(None) => return "the broker closed it".into(),
            Err(error) => return defect(error.to_string()),
        };
        let message = match EventBusMessage::decode(payload.as_slice()) {
            Ok(message) => message,
            Err(error) => return defect(format!("a frame holds no message: {error}")),
        };
        let Some(permit) = untaken.acquire(payload.len()).await else { return "it ended".into() };
        drop(payload);
        if let Err(reason) = shared.dispatch(client.upgrade().map(Client), Delivery { message, permit, room: None }) {
            return reason;
        }
    }
}

fn defect(reason: String) -> String {
    tracing::warn!(reason, "closed the connection to the bus");
    reason
}

fn close(shared: &Shared, client: &Weak<Inner>, reason: String) {
    shared.close(reason);
    if let Some(inner) = client.upgrade() {
        inner.outbox.room.close();
    }
}
