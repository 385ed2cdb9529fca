//! Request and reply.

use std::time::Duration;

use daemoneye_eventbus::{
    CallError, Gone, MAX_FRAME, Payload,
    proto::{EventBusMessage, Role, RpcRequestPayload, RpcResponsePayload, RpcStatus},
};
use tokio::sync::oneshot;

use crate::{Bus, PATIENCE, closed_because, echo_works, within};

#[tokio::test]
async fn a_call_is_answered() {
    let bus = Bus::start();
    let mut requests = bus.agent.serve("requests.+").await.unwrap();
    let operator = bus.operator().await;
    let call =
        tokio::spawn(
            async move { operator.call("requests.query", b"question".to_vec(), Duration::from_secs(9)).await },
        );
    let request = within(requests.recv()).await.unwrap();
    assert_eq!(request.topic, "requests.query");
    assert_eq!(request.body, b"question");
    assert_eq!(request.timeout, Some(Duration::from_secs(9)));
    assert_ne!(request.request_id, 0, "the logs of both sides have a name for it");
    assert_eq!((request.sender.role(), request.sender.pid), (Role::Operator, Some(std::process::id())));
    request.respond(b"answer".to_vec()).await;
    assert_eq!(within(call).await.unwrap().unwrap(), b"answer");
}

#[tokio::test]
async fn a_streamed_answer_arrives_in_order() {
    let bus = Bus::start();
    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    tokio::spawn(async move {
        let mut request = requests.recv().await.unwrap();
        for number in 0..500_u32 {
            request.send_part(number.to_le_bytes().to_vec()).await.unwrap();
        }
        request.respond(b"last".to_vec()).await;
    });
    let operator = bus.operator().await;
    let mut parts = operator.call_stream("requests.query", Vec::new(), PATIENCE).await.unwrap();
    for number in 0..500_u32 {
        assert_eq!(parts.next().await, Some(Ok(number.to_le_bytes().to_vec())));
    }
    assert_eq!(parts.next().await, Some(Ok(b"last".to_vec())));
    assert_eq!(parts.next().await, None);
    assert_eq!(parts.next().await, None);
}

#[tokio::test]
async fn failures_reach_the_caller_as_what_they_are() {
    let bus = Bus::start();
    let operator = bus.operator().await;
    let unserved = operator.call("requests.query", Vec::new(), PATIENCE).await;
    assert_eq!(unserved, Err(CallError::NoServer { topic: "requests.query".into() }));

    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    tokio::spawn(async move {
        requests.recv().await.unwrap().fail(b"no such table".to_vec()).await;
        let mut after_a_part = requests.recv().await.unwrap();
        after_a_part.send_part(b"part".to_vec()).await.unwrap();
        after_a_part.fail(b"disk".to_vec()).await;
        drop(requests.recv().await.unwrap());
        requests.recv().await.unwrap().respond(vec![0; MAX_FRAME]).await;
        let mut in_parts = requests.recv().await.unwrap();
        assert_eq!(in_parts.send_part(vec![0; MAX_FRAME]).await, Err(Gone));
        drop(in_parts);
        let mut in_parts = requests.recv().await.unwrap();
        in_parts.send_part(Vec::new()).await.unwrap();
        in_parts.cancelled().await;
        drop(requests);
    });
    let failed = operator.call("requests.query", Vec::new(), PATIENCE).await;
    assert_eq!(failed, Err(CallError::Failed(b"no such table".to_vec())));
    let mut parts = operator.call_stream("requests.query", Vec::new(), PATIENCE).await.unwrap();
    assert_eq!(parts.next().await, Some(Ok(b"part".to_vec())));
    assert_eq!(parts.next().await, Some(Err(CallError::Failed(b"disk".to_vec()))));
    assert_eq!(parts.next().await, None);

    for reason in ["the server did not answer", "larger than a frame", "larger than a frame", "in parts"] {
        match operator.call("requests.query", Vec::new(), PATIENCE).await {
            Err(CallError::Aborted { reason: found, .. }) => assert!(found.contains(reason), "{found}"),
            other => panic!("{other:?}"),
        }
    }
    let too_large = operator.call("requests.query", vec![0; MAX_FRAME], PATIENCE).await;
    assert!(matches!(too_large, Err(CallError::TooLarge { .. })), "{too_large:?}");
}

#[tokio::test]
async fn the_policy_refuses_calls_without_closing_anything() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let _register = bus.agent.serve("control.collector.register").await.unwrap();
    let operator = bus.operator().await;
    let (collector, _) = bus.collector("procmond").await;
    for (client, topic) in
        [(&operator, "control.collector.register"), (&operator, "tasks.procmond"), (&collector, "requests.echo")]
    {
        match client.call(topic, Vec::new(), PATIENCE).await {
            Err(CallError::Denied { topic: denied, reason }) => {
                assert_eq!(denied, topic);
                assert!(reason.contains("may not call"), "{reason}");
            }
            other => panic!("{topic}: {other:?}"),
        }
    }
    echo_works(&operator).await;
}

#[tokio::test]
async fn a_caller_that_waited_long_enough_is_told_and_the_server_too() {
    let bus = Bus::start();
    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    let operator = bus.operator().await;
    let after = Duration::from_millis(100);
    let (result, mut request) = tokio::join!(operator.call("requests.query", Vec::new(), after), async {
        let request = requests.recv().await.unwrap();
        within(request.cancelled()).await;
        request
    });
    assert_eq!(result, Err(CallError::TimedOut { topic: "requests.query".into(), after }));
    assert_eq!(request.send_part(Vec::new()).await, Err(Gone));
}

/// A caller that keeps no time itself.
async fn raw_call(bus: &Bus, timeout_ms: u64) -> crate::Raw {
    let mut raw = crate::hostile::let_in(bus, Role::Operator, "", None).await;
    let request = RpcRequestPayload { correlation_id: 9, timeout_ms, ..RpcRequestPayload::default() };
    raw.send(&EventBusMessage {
        topic: "requests.query".into(),
        payload: Some(Payload::RpcRequest(request)),
        ..EventBusMessage::default()
    })
    .await;
    raw
}

async fn response(raw: &mut crate::Raw) -> RpcResponsePayload {
    match raw.read().await.unwrap().payload {
        Some(Payload::RpcResponse(response)) => response,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_broker_keeps_to_a_deadline_whatever_the_caller_does() {
    let bus = Bus::start();
    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    let mut raw = raw_call(&bus, 50).await;
    let request = within(requests.recv()).await.unwrap();
    let timed_out = response(&mut raw).await;
    assert_eq!((timed_out.correlation_id, timed_out.status()), (9, RpcStatus::RpcTimedOut));
    assert!(!timed_out.more);
    within(request.cancelled()).await;
    request.respond(b"late".to_vec()).await;
    raw.settle().await;

    // Each part gives the next one its time, and the answer before the end is no error.
    let mut raw = raw_call(&bus, 300_000).await;
    let mut request = within(requests.recv()).await.unwrap();
    request.send_part(b"part".to_vec()).await.unwrap();
    assert_eq!(response(&mut raw).await.message, b"part");
    request.respond(b"end".to_vec()).await;
    assert_eq!((response(&mut raw).await.message, timed_out.more), (b"end".to_vec(), false));

    let mut raw = raw_call(&bus, 200).await;
    let mut request = within(requests.recv()).await.unwrap();
    request.send_part(b"part".to_vec()).await.unwrap();
    assert_eq!(response(&mut raw).await.message, b"part");
    assert_eq!(response(&mut raw).await.status(), RpcStatus::RpcTimedOut);
    within(request.cancelled()).await;
}

#[tokio::test]
async fn no_time_passes_for_a_caller_that_does_not_read() {
    let bus = Bus::start();
    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    let mut raw = raw_call(&bus, 100).await;
    let mut request = within(requests.recv()).await.unwrap();
    // More than a socket takes, so that some of it waits in the broker.
    for _ in 0..4 {
        within(request.send_part(vec![0; 1 << 20])).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(tokio::time::timeout(Duration::from_millis(1), request.cancelled()).await.is_err());
    for _ in 0..4 {
        assert_eq!(response(&mut raw).await.message.len(), 1 << 20);
    }
    // It has read everything, and its time runs again.
    assert_eq!(response(&mut raw).await.status(), RpcStatus::RpcTimedOut);
    within(request.cancelled()).await;
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled() {
    let bus = Bus::start();
    let mut requests = bus.agent.serve("requests.query").await.unwrap();

    let operator = bus.operator().await;
    let parts = operator.call_stream("requests.query", Vec::new(), PATIENCE).await.unwrap();
    let request = within(requests.recv()).await.unwrap();
    drop(parts);
    within(request.cancelled()).await;

    let parts = operator.call_stream("requests.query", Vec::new(), PATIENCE).await.unwrap();
    let request = within(requests.recv()).await.unwrap();
    let mut raw_end = bus.gate.connected();
    // The whole connection goes.
    drop((parts, operator));
    within(request.cancelled()).await;
    within(raw_end.wait_for(Vec::is_empty)).await.unwrap();

    // One that was cancelled before it was taken is not handed out any more.
    let operator = bus.operator().await;
    drop(operator.call_stream("requests.query", b"dead".to_vec(), PATIENCE).await.unwrap());
    let _alive = operator.call_stream("requests.query", b"alive".to_vec(), PATIENCE).await.unwrap();
    // The server's own queue is in order, so that a subscription made now tells that both have arrived.
    drop(operator.subscribe("alerts.#").await.unwrap());
    drop(bus.agent.subscribe("alerts.#").await.unwrap());
    assert_eq!(within(requests.recv()).await.unwrap().body, b"alive");
}

#[tokio::test]
async fn a_collector_serves_tasks_until_it_disappears() {
    let bus = Bus::start();
    let (collector, _) = bus.collector("procmond").await;
    let mut tasks = collector.serve("tasks.procmond").await.unwrap();
    let agent = bus.agent.clone();
    let call = tokio::spawn(async move { agent.call("tasks.procmond", b"1".to_vec(), PATIENCE).await });
    within(tasks.recv()).await.unwrap().respond(b"done".to_vec()).await;
    assert_eq!(within(call).await.unwrap(), Ok(b"done".to_vec()));

    let agent = bus.agent.clone();
    let (came, taken) = oneshot::channel();
    let server = tokio::spawn(async move {
        let request = tasks.recv().await.unwrap();
        came.send(()).unwrap();
        request.cancelled().await;
    });
    let call = tokio::spawn(async move { agent.call("tasks.procmond", b"2".to_vec(), PATIENCE).await });
    within(taken).await.unwrap();
    // As if the process were killed: nothing is answered and nothing is said.
    server.abort();
    drop(collector);
    match within(call).await.unwrap() {
        Err(CallError::Aborted { topic, .. }) => assert_eq!(topic, "tasks.procmond"),
        other => panic!("{other:?}"),
    }
    let mut peers = bus.gate.connected();
    within(peers.wait_for(Vec::is_empty)).await.unwrap();
    let gone = bus.agent.call("tasks.procmond", Vec::new(), PATIENCE).await;
    assert!(matches!(gone, Err(CallError::NoServer { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_server_that_is_cut_off_mid_call_fails_the_call() {
    let bus = Bus::start();
    let token = bus.gate.issue_token("procmond").unwrap();
    let mut raw = crate::hostile::let_in(&bus, Role::Collector, "procmond", Some(&token)).await;
    raw.send(&crate::hostile::serve("tasks.procmond")).await;
    raw.settle().await;
    let agent = bus.agent.clone();
    let call = tokio::spawn(async move { agent.call("tasks.procmond", Vec::new(), PATIENCE).await });
    assert!(raw.read().await.is_some(), "the request");
    drop(raw);
    match within(call).await.unwrap() {
        Err(CallError::Aborted { reason, .. }) => assert!(reason.contains("the server left"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_topic_has_one_server() {
    let bus = Bus::start();
    let _first = bus.agent.serve("requests.query").await.unwrap();
    let (collector, _) = bus.collector("procmond").await;
    let first = collector.serve("tasks.procmond").await.unwrap();
    closed_because(bus.agent.serve("tasks.procmond").await, "served already");
    drop(first);
}

#[tokio::test]
async fn the_calls_of_a_connection_are_bounded() {
    let bus = Bus::start();
    let _requests = bus.agent.serve("requests.query").await.unwrap();
    let operator = bus.operator().await;
    let mut under_way = Vec::new();
    for _ in 0..64 {
        under_way.push(operator.call_stream("requests.query", Vec::new(), PATIENCE).await.unwrap());
    }
    let one_more = operator.call("requests.query", Vec::new(), PATIENCE).await;
    assert!(matches!(&one_more, Err(CallError::Denied { reason, .. }) if reason.contains("64 calls")), "{one_more:?}");
    under_way.pop();
    let mut again = operator.call_stream("requests.query", Vec::new(), Duration::from_millis(50)).await.unwrap();
    assert!(matches!(again.next().await, Some(Err(CallError::TimedOut { .. }))));
}

#[tokio::test]
async fn requests_that_a_server_does_not_take_are_bounded_whoever_sends_them() {
    let bus = Bus::start();
    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    let large = vec![0; 2 * 1024 * 1024];
    let mut waiting = Vec::new();
    let refused = loop {
        assert!(waiting.len() < 16, "32 MiB wait");
        let operator = bus.operator().await;
        let mut parts =
            operator.call_stream("requests.query", large.clone(), Duration::from_millis(300)).await.unwrap();
        match parts.next().await.unwrap() {
            Err(CallError::TimedOut { .. }) => waiting.push(operator),
            Err(error) => break error,
            Ok(part) => panic!("{part:?}"),
        }
    };
    assert!(
        matches!(&refused, CallError::Aborted { reason, .. } if reason.contains("too many requests")),
        "{refused:?}"
    );
    // All of those who waited have given up: once they are taken, there is room again.
    let operator = bus.operator().await;
    let server = tokio::spawn(async move { requests.recv().await.unwrap().respond(b"room".to_vec()).await });
    tokio::task::yield_now().await;
    let answer = loop {
        match operator.call("requests.query", Vec::new(), PATIENCE).await {
            Ok(answer) => break answer,
            Err(CallError::Aborted { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(answer, b"room");
    within(server).await.unwrap();
}
