//! Connections and what matters for security, as an agent gets them.

use crate::agent::{Agent, scanning_with};
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::proto::common::{NetworkEvent, NetworkEventType, SecurityEvent, SecurityEventType};
use daemoneye_lib::proto::ipc::collected_item::Item;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::Child;

/// Nobody's uid on any usual system.
const SOMEBODY: u32 = 54_321;

/// An agent to which a procmond with these settings has told its first scan.
async fn watching(dir: &Path, source: &str, settings: &[(&str, &str)]) -> Option<(Agent, Child)> {
    if !testkit::require("root", testkit::is_root(), "listens to the kernel") {
        return None;
    }
    let (mut agent, token) = Agent::start(dir).await;
    let settings = [&[("PROCMOND_PROCMOND__SOURCE", source)], settings].concat();
    let procmond = scanning_with(dir, &token.to_string(), &settings);
    agent.until("the first scan", |item| matches!(item, Item::Scan(_))).await;
    Some((agent, procmond))
}

fn is_network(item: &Item, event_type: NetworkEventType, local: u16) -> bool {
    matches!(item, Item::Network(it) if it.event_type() == event_type && it.local_port == Some(local.into()))
}

fn network(agent: &Agent, at: usize) -> &NetworkEvent {
    let Item::Network(event) = &agent.items[at] else { panic!("{:?}", agent.items[at]) };
    event
}

fn credentials(item: &Item, program: &Path) -> bool {
    let Item::Security(event) = item else { return false };
    event.event_type() == SecurityEventType::Credentials && event.object.as_deref() == program.to_str()
}

fn security(agent: &Agent, at: usize) -> &SecurityEvent {
    let Item::Security(event) = &agent.items[at] else { panic!("{:?}", agent.items[at]) };
    event
}

fn own_key() -> String {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let own = std::process::id();
    process_key(&boot_id, own, testkit::start_ticks(own).unwrap())
}

#[tokio::test]
async fn a_connection_is_told_from_both_sides_with_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut agent, _procmond)) = watching(dir.path(), "auto", &[]).await else { return };
    let registered = agent.registered[0].clone();
    let capabilities = registered.capabilities.unwrap();
    assert_eq!(capabilities.domains, ["process", "network", "security"]);
    assert!(registered.features.iter().any(|feature| feature.name == "connect" && feature.available));
    for feature in registered.features.iter().filter(|feature| !feature.available) {
        assert!(!feature.reason.is_empty(), "{feature:?}");
    }

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let there = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, there)).unwrap();
    let here = stream.local_addr().unwrap().port();
    drop(listener.accept().unwrap());

    let listen = agent.until("the listener", |item| is_network(item, NetworkEventType::Listen, there)).await;
    let connect = agent.until("the connection", |item| is_network(item, NetworkEventType::Connect, here)).await;
    let accept = agent.until("its other side", |item| is_network(item, NetworkEventType::Accept, there)).await;
    for at in [listen, connect, accept] {
        let event = network(&agent, at);
        assert_eq!(event.process_key.as_deref(), Some(own_key().as_str()), "{event:?}");
        assert_eq!((event.pid, event.uid, event.user.as_deref()), (Some(std::process::id()), Some(0), Some("root")));
        let own_program = std::env::current_exe().unwrap();
        assert_eq!(event.executable_path.as_deref(), own_program.to_str());
        assert!(event.parent_key.is_some() && event.name.is_some() && event.event_time > 0, "{event:?}");
        assert_eq!((event.protocol.as_deref(), event.family.as_deref()), (Some("tcp"), Some("ipv4")));
        assert_eq!((event.source.as_str(), event.provenance["*"].as_str()), ("ebpf", "captured"));
    }
    let connect = network(&agent, connect);
    assert_eq!((connect.direction.as_deref(), connect.state.as_deref()), (Some("out"), Some("established")));
    assert_eq!((connect.remote_address.as_deref(), connect.remote_port), (Some("127.0.0.1"), Some(there.into())));
    assert!(connect.inode.is_some());
    assert_eq!(network(&agent, accept).direction.as_deref(), Some("in"));
    assert_eq!(network(&agent, listen).remote_port, None);
}

/// A copy of `sleep` in this directory that runs as root, whoever starts it.
fn set_uid_program(dir: &Path) -> PathBuf {
    let program = dir.join("as-root");
    std::fs::copy("/bin/sleep", &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    program
}

async fn set_uid_is_told(source: &str) {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("PROCMOND_PROCMOND__NETWORK_EVENTS", "false")];
    let Some((mut agent, _procmond)) = watching(dir.path(), source, &settings).await else { return };
    assert_eq!(agent.registered[0].capabilities.as_ref().unwrap().domains, ["process", "security"]);
    let programs = tempfile::tempdir().unwrap();
    let program = set_uid_program(programs.path());
    // Each of the two lives so long that who only hears of it can look at it.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("sleep 1; exec {} 60", program.display())]);
    command.uid(SOMEBODY).gid(SOMEBODY).current_dir("/");
    let child = Child::spawn(command).unwrap();
    let at = agent.until("the program that makes root", |item| credentials(item, &program)).await;
    let event = security(&agent, at);
    assert_eq!((event.pid, event.uid), (Some(child.pid()), Some(SOMEBODY)));
    assert_eq!((event.old_uid, event.new_uid), (Some(SOMEBODY), Some(SOMEBODY)));
    assert_eq!((event.old_euid, event.new_euid), (Some(SOMEBODY), Some(0)));
    assert_eq!((event.count, event.source.as_str()), (1, source));
    assert_eq!(event.executable_path.as_deref(), program.to_str());
    assert!(event.process_key.is_some() && event.parent_key.is_some());
}

#[tokio::test]
async fn a_program_that_makes_its_user_root_is_told() {
    set_uid_is_told("ebpf").await;
}

#[tokio::test]
async fn who_is_another_user_only_since_its_last_program_was_that_user_before() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut agent, _procmond)) = watching(dir.path(), "auto", &[]).await else { return };
    let programs = tempfile::tempdir().unwrap();
    let program = set_uid_program(programs.path());
    // It becomes somebody between fork and exec.
    let mut command = Command::new(&program);
    command.arg("60").uid(SOMEBODY).gid(SOMEBODY).current_dir("/");
    let _child = Child::spawn(command).unwrap();
    let at = agent.until("the program that makes root", |item| credentials(item, &program)).await;
    let event = security(&agent, at);
    assert_eq!((event.old_uid, event.old_euid, event.new_euid), (Some(SOMEBODY), Some(SOMEBODY), Some(0)));
    assert_eq!(event.provenance["old_euid"], "inferred");
    assert_eq!(event.platform_data["how"], "set_uid_program");
}

#[tokio::test]
async fn the_connector_tells_it_too() {
    set_uid_is_told("connector").await;
}
