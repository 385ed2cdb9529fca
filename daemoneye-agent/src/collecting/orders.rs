//! What operators order of collectors: to pause, and to go on.

use crate::answering::inquiries::Answers;
use crate::collecting::collectors::Collectors;
use daemoneye_eventbus::proto::ControlPayload;
use daemoneye_eventbus::proto::control_payload::Control;
use daemoneye_eventbus::{Client, Payload, Request, Requests};
use daemoneye_lib::proto::ipc::{CollectorOrder, CollectorOrderReply, Instructions, RequestError, RequestErrorKind};
use prost::Message as _;

/// Takes orders until the bus closes.
pub(crate) struct OrderServer {
    pub(crate) requests: Requests,
    pub(crate) collectors: Collectors,
    pub(crate) bus: Client,
}

impl OrderServer {
    pub(crate) async fn run(mut self) -> String {
        let mut answers = Answers::default();
        while let Some(request) = self.requests.recv().await {
            let done = self.order(&request).await;
            answers.take(async move {
                match done {
                    Ok(reply) => request.respond(reply.encode_to_vec()).await,
                    Err(error) => request.fail(error.encode_to_vec()).await,
                }
            });
        }
        "the bus has closed".to_owned()
    }

    async fn order(&self, request: &Request) -> Result<CollectorOrderReply, RequestError> {
        let order = CollectorOrder::decode(request.body.as_slice()).map_err(|error| RequestError {
            message: format!("the request cannot be decoded: {error}"),
            ..RequestError::default()
        })?;
        let Some((instructions, told)) = self.collectors.order(&order.collector, order.paused) else {
            let known: Vec<_> = self.collectors.rows().into_iter().map(|row| row.collector).collect();
            return Err(RequestError {
                kind: RequestErrorKind::NotFound.into(),
                message: format!("there is no collector `{}`", order.collector),
                hint: format!("the collectors are: {}", known.join(", ")),
                ..RequestError::default()
            });
        };
        tracing::warn!(uid = request.sender.uid, collector = %order.collector, paused = order.paused, "an operator's order");
        instruct(&self.bus, &order.collector, &instructions).await;
        Ok(CollectorOrderReply { told })
    }
}

/// Tells a collector what is wanted of it; one that is not there is told when it registers.
pub(crate) async fn instruct(bus: &Client, collector: &str, instructions: &Instructions) {
    let control = ControlPayload { control: Some(Control::Message(instructions.encode_to_vec())) };
    if let Err(closed) = bus.publish(&format!("control.config.{collector}"), Payload::Control(control)).await {
        tracing::debug!(%closed, "a collector cannot be instructed");
    }
}
