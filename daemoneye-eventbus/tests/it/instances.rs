//! Several instances of one collector: who gets a task, who takes it over, and what all of them answer together.

use std::{collections::BTreeMap, time::Duration};

use daemoneye_eventbus::{CallError, Client, Part, Request, Requests, proto::Role};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{Bus, PATIENCE, closed_because, hostile, within};

const TASKS: &str = "tasks.procmond";
const NAMES: [&str; 3] = ["procmond", "procmond@2", "procmond@3"];

async fn instance(bus: &Bus, name: &str) -> (Client, Requests) {
    let (client, _) = bus.collector(name).await;
    let requests = client.serve(TASKS).await.unwrap();
    (client, requests)
}

/// Three instances, whose requests come out of one channel with the name of who got them.
async fn instances(bus: &Bus) -> (mpsc::UnboundedReceiver<(&'static str, Request)>, Vec<JoinHandle<()>>) {
    let (taken, requests) = mpsc::unbounded_channel();
    let mut servers = Vec::new();
    for name in NAMES {
        let (client, mut requests) = instance(bus, name).await;
        let taken = taken.clone();
        servers.push(tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                taken.send((name, request)).unwrap();
            }
            drop(client);
        }));
    }
    (requests, servers)
}

fn call(bus: &Bus, body: &[u8]) -> JoinHandle<Result<Vec<u8>, CallError>> {
    let (agent, body) = (bus.agent.clone(), body.to_vec());
    tokio::spawn(async move { agent.call(TASKS, body, PATIENCE).await })
}

#[tokio::test]
async fn tasks_go_to_who_has_the_least_to_do() {
    let bus = Bus::start();
    let (mut requests, _servers) = instances(&bus).await;
    let (done, mut results) = mpsc::unbounded_channel();
    for _ in 0..9 {
        let (agent, done) = (bus.agent.clone(), done.clone());
        tokio::spawn(async move { done.send(agent.call(TASKS, Vec::new(), PATIENCE).await) });
    }
    let mut under_way = BTreeMap::<_, Vec<_>>::new();
    for _ in 0..9 {
        let (name, request) = within(requests.recv()).await.unwrap();
        under_way.entry(name).or_default().push(request);
    }
    assert_eq!(under_way.values().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);

    // One is done, and gets what comes next.
    for request in under_way.remove("procmond@2").unwrap() {
        request.respond(b"done".to_vec()).await;
        assert_eq!(within(results.recv()).await.unwrap(), Ok(b"done".to_vec()));
    }
    let next = call(&bus, b"next");
    let (name, request) = within(requests.recv()).await.unwrap();
    assert_eq!((name, &request.body[..]), ("procmond@2", &b"next"[..]));
    request.respond(Vec::new()).await;
    within(next).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_task_of_an_instance_that_dies_goes_to_another() {
    let bus = Bus::start();
    let mut dying =
        hostile::let_in(&bus, Role::Collector, NAMES[0], Some(&bus.gate.issue_token(NAMES[0]).unwrap())).await;
    dying.send(&hostile::serve(TASKS)).await;
    dying.settle().await;
    let (_other, mut requests) = instance(&bus, NAMES[1]).await;
    let first = call(&bus, b"task");
    assert!(dying.read().await.is_some(), "the oldest idle one gets it");
    drop(dying);
    let request = within(requests.recv()).await.unwrap();
    assert_eq!((&request.topic[..], &request.body[..]), (TASKS, &b"task"[..]));
    request.respond(b"done".to_vec()).await;
    assert_eq!(within(first).await.unwrap(), Ok(b"done".to_vec()));
}

#[tokio::test]
async fn a_task_that_was_answered_in_part_fails_with_its_instance() {
    let bus = Bus::start();
    let (first, mut requests) = instance(&bus, NAMES[0]).await;
    let mut parts = bus.agent.call_stream(TASKS, Vec::new(), PATIENCE).await.unwrap();
    let (_second, mut others) = instance(&bus, NAMES[1]).await;
    let mut request = within(requests.recv()).await.unwrap();
    request.send_part(b"part".to_vec()).await.unwrap();
    assert_eq!(within(parts.next()).await, Some(Ok(b"part".to_vec())));
    // Its process is gone, and says nothing.
    let gone = bus.gate.issue_token(NAMES[0]).unwrap();
    let _replacement = hostile::let_in(&bus, Role::Collector, NAMES[0], Some(&gone)).await;
    match within(parts.next()).await {
        Some(Err(CallError::Aborted { reason, .. })) => assert!(reason.contains("the server left"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(tokio::time::timeout(Duration::from_millis(100), others.recv()).await.is_err(), "nobody repeats it");
    drop((first, request));
}

#[tokio::test]
async fn all_instances_answer_together_and_each_in_its_own_name() {
    let bus = Bus::start();
    let (mut requests, servers) = instances(&bus).await;
    let mut answers = bus.agent.call_all(TASKS, b"list".to_vec(), Duration::from_secs(2)).await.unwrap();
    let mut asked = BTreeMap::new();
    for _ in NAMES {
        let (name, request) = within(requests.recv()).await.unwrap();
        assert_eq!(request.body, b"list");
        assert!(asked.insert(name, request).is_none(), "{name} was asked twice");
    }
    let mut first = asked.remove(NAMES[0]).unwrap();
    first.send_part(b"1".to_vec()).await.unwrap();
    first.respond(b"2".to_vec()).await;
    asked.remove(NAMES[1]).unwrap().fail(b"no".to_vec()).await;
    // The third never answers, and runs out of time.
    let silent = asked.remove(NAMES[2]).unwrap();
    let mut found = BTreeMap::<_, Vec<_>>::new();
    while let Some(part) = within(answers.next()).await {
        let Part { server, last, outcome } = part.unwrap();
        found.entry(server).or_default().push((last, outcome));
    }
    assert!(answers.next().await.is_none());
    let after = Duration::from_secs(2);
    let timed_out = CallError::TimedOut { topic: TASKS.into(), after };
    assert_eq!(found[NAMES[0]], [(false, Ok(b"1".to_vec())), (true, Ok(b"2".to_vec()))]);
    assert_eq!(found[NAMES[1]], [(true, Err(CallError::Failed(b"no".to_vec())))]);
    assert_eq!(found[NAMES[2]], [(true, Err(timed_out))]);
    within(silent.cancelled()).await;

    // Those who leave are named as well.
    let mut answers = bus.agent.call_all(TASKS, Vec::new(), PATIENCE).await.unwrap();
    let mut asked = Vec::new();
    for _ in NAMES {
        asked.push(within(requests.recv()).await.unwrap());
    }
    for name in NAMES {
        let token = bus.gate.issue_token(name).unwrap();
        drop(hostile::let_in(&bus, Role::Collector, name, Some(&token)).await);
    }
    let mut left = Vec::new();
    while let Some(part) = within(answers.next()).await {
        let Part { server, last: true, outcome: Err(CallError::Aborted { reason, .. }) } = part.unwrap() else {
            panic!("no answer was given");
        };
        assert!(reason.contains("the server left"), "{reason}");
        left.push(server);
    }
    left.sort();
    assert_eq!(left, NAMES);
    drop(asked);
    for server in servers {
        within(server).await.unwrap();
    }
    let mut peers = bus.gate.connected();
    within(peers.wait_for(Vec::is_empty)).await.unwrap();
    let mut nobody = bus.agent.call_all(TASKS, Vec::new(), PATIENCE).await.unwrap();
    assert_eq!(within(nobody.next()).await, Some(Err(CallError::NoServer { topic: TASKS.into() })));
    assert_eq!(nobody.next().await, None);
}

#[tokio::test]
async fn a_call_of_all_that_nobody_waits_for_is_cancelled_everywhere() {
    let bus = Bus::start();
    let (mut requests, _servers) = instances(&bus).await;
    let answers = bus.agent.call_all(TASKS, Vec::new(), PATIENCE).await.unwrap();
    let mut asked = Vec::new();
    for _ in NAMES {
        asked.push(within(requests.recv()).await.unwrap().1);
    }
    drop(answers);
    for request in asked {
        within(request.cancelled()).await;
    }
}

#[tokio::test]
async fn an_instance_serves_with_its_own_kind_alone() {
    let bus = Bus::start();
    let (_client, _requests) = instance(&bus, NAMES[0]).await;
    closed_because(bus.agent.serve(TASKS).await, "served already");
    let (other, _) = bus.collector("netmond@2").await;
    closed_because(other.serve(TASKS).await, "may not serve");
    let (second, _) = bus.collector(NAMES[1]).await;
    second.serve("tasks.procmond@2").await.unwrap();
}
