//! The agent's side: a socket, a token, the program, and who may come in.

use crate::Subject;
use crate::fault::{Fault, require};
use crate::link::Link;
use crate::place::Place;
use crate::protocol::bus::control_payload::Control;
use crate::protocol::bus::event_bus_message::Payload;
use crate::protocol::bus::{ControlPayload, EventBusMessage, Hello, Role, Welcome};
use crate::wire::{Wire, WireError};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(10);
const PROTOCOL: u32 = 1;
/// More batches than any check reads.
pub(crate) const PLENTY: u64 = 1_000_000;

/// An agent for one collector.
pub(crate) struct Agent {
    pub(crate) subject: Subject,
    place: Place,
    listener: UnixListener,
    token: Vec<u8>,
    session_key: Option<Vec<u8>>,
    /// How many batches a connection may publish; more can be granted later.
    pub(crate) credit: u64,
    child: Option<Child>,
}

impl Agent {
    /// Listens, and starts the program.
    pub(crate) fn start(subject: &Subject) -> Result<Self, Fault> {
        let place = Place::new()?;
        let listener = UnixListener::bind(place.socket())?;
        listener.set_nonblocking(true)?;
        let (subject, token) = (subject.clone(), Vec::new());
        let mut agent = Self { subject, place, listener, token, session_key: None, credit: PLENTY, child: None };
        agent.spawn()?;
        Ok(agent)
    }

    /// Starts the program, by the contract in `docs/collectors.md`.
    pub(crate) fn spawn(&mut self) -> Result<(), Fault> {
        self.token = random()?;
        let Some((program, own)) = self.subject.command.split_first() else {
            return Err(Fault::new("no program is named"));
        };
        let log = File::options().create(true).append(true).open(self.place.log())?;
        let mut command = Command::new(program);
        command.args(own).arg("--data-dir").arg(self.place.data()).arg("--runtime-dir").arg(self.place.runtime());
        command.args(["--log-level", "debug", "--log-format", "human"]);
        command.env("DAEMONEYE_COLLECTOR_NAME", &self.subject.name);
        command.env("DAEMONEYE_COLLECTOR_SPOOL_MAX_BYTES", "16777216");
        command.env("DAEMONEYE_COLLECTOR_ORPHAN_TIMEOUT_S", "60");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let mut child = command
            .spawn()
            .map_err(|error| Fault::new(format!("{} cannot be started: {error}", program.to_string_lossy())))?;
        if let Some(mut stdin) = child.stdin.take() {
            let hex: String = self.token.iter().map(|byte| format!("{byte:02x}")).collect();
            // One that has ended already is found by its end.
            let _ = writeln!(stdin, "{hex}");
        }
        self.child = Some(child);
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Waits for a connection, judges its Hello and welcomes it.
    pub(crate) fn welcome(&mut self) -> Result<Link, Fault> {
        let until = Instant::now() + self.subject.patience;
        let stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = self.ended()? {
                return Err(Fault::new(format!("it ended ({status}) without connecting; its stderr:\n{}", self.log())));
            }
            require(Instant::now() < until, || format!("no connection within {:?}", self.subject.patience))?;
            sleep(STEP);
        };
        stream.set_nonblocking(false)?;
        let mut wire = Wire::new(stream);
        let first = match wire.receive(Duration::from_secs(5)) {
            Ok(Some(message)) => message,
            Ok(None) => return Err(Fault::new("no Hello within 5 s")),
            Err(error) => return Err(Fault::new(format!("instead of a Hello: {error}"))),
        };
        let Some(Payload::Control(ControlPayload { control: Some(Control::Hello(hello)) })) = first.payload else {
            return Err(Fault::new("its first message is no Hello"));
        };
        let session_key = self.judge(&hello)?;
        let welcome = Welcome { protocol: PROTOCOL, session_key, max_frame: 4 << 20 };
        let payload = Some(Payload::Control(ControlPayload { control: Some(Control::Welcome(welcome)) }));
        let message = EventBusMessage { payload, ..EventBusMessage::default() };
        wire.send(&message).map_err(|error: WireError| Fault::new(format!("after its Hello: {error}")))?;
        let mut link = Link::new(wire, &self.subject.name, self.subject.patience);
        link.grant(self.credit);
        Ok(link)
    }

    /// Returns the session key that the collector is to come back with, when it came with a token.
    fn judge(&mut self, hello: &Hello) -> Result<Vec<u8>, Fault> {
        require(hello.protocol == PROTOCOL, || format!("Hello: protocol {}, not {PROTOCOL}", hello.protocol))?;
        require(hello.role() == Role::Collector, || format!("Hello: role {:?}, not COLLECTOR", hello.role()))?;
        let name = &self.subject.name;
        require(hello.name == *name, || format!("Hello: it calls itself {:?}, not {name:?}", hello.name))?;
        if self.session_key.as_ref().is_some_and(|key| *key == hello.session_key) {
            return Ok(Vec::new());
        }
        require(hello.session_key.is_empty(), || "Hello: the session key is not the one that it was given".to_owned())?;
        require(!hello.token.is_empty(), || "Hello: neither token nor session key".to_owned())?;
        require(hello.token == self.token, || "Hello: the token is not the one on its standard input".to_owned())?;
        require(self.child.is_some(), || "Hello: a token, and nobody was started".to_owned())?;
        // A token is good for one time.
        self.token = random()?;
        let key = random()?;
        self.session_key = Some(key.clone());
        Ok(key)
    }

    /// How the program ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Fault> {
        Ok(match &mut self.child {
            Some(child) => child.try_wait()?,
            None => None,
        })
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<(), Fault> {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| Fault::new("the program is not running"))?;
        rustix::process::kill_process(pid, signal)
            .map_err(|error| Fault::new(format!("it cannot be signalled: {error}")))
    }

    /// Ends the program as `kill -9` does.
    pub(crate) fn kill(&mut self) -> Result<(), Fault> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// The last lines of the program's standard error.
    fn log(&self) -> String {
        let text = fs::read(self.place.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.kill();
    }
}

fn random() -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Fault::new(format!("no random bytes: {error}")))?;
    Ok(bytes)
}
