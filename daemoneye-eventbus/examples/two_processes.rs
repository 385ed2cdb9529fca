//! Two processes on one bus: this program serves, starts itself once more as the client, and ends as that ended.
//!
//! `two_processes DIRECTORY` binds the socket in the directory (a named pipe on Windows). The client sends bodies of many
//! sizes and wants each back as it was; it ends with success only when all came back.

use daemoneye_eventbus::{Broker, BrokerConfig, Client, Identity};
use std::error::Error;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// From nothing to what takes many reads of a pipe.
const SIZES: [usize; 6] = [0, 1, 4095, 65_536, 1_000_003, 4_000_000];
const ROUNDS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    let done = match &arguments[..] {
        [directory] => runtime.block_on(serve(directory)),
        [word, socket] if word == Path::new("client") => runtime.block_on(call(socket)),
        _ => Err("usage: two_processes DIRECTORY".into()),
    };
    match done {
        Ok(said) => {
            let _ = writeln!(io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(directory: &Path) -> Result<String, Box<dyn Error>> {
    let socket = directory.join("agent.sock");
    let broker = Broker::bind(BrokerConfig::new(&socket, directory.join("sessions")))?;
    let second = Broker::bind(BrokerConfig::new(&socket, directory.join("sessions")));
    if second.is_ok() {
        return Err("a second broker was let onto the same socket".into());
    }
    let agent = broker.local("echo");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(broker.run(async { drop(stopped.await) }));
    let mut requests = agent.serve("requests.echo").await?;
    let echo = tokio::spawn(async move {
        let mut bytes = 0;
        while let Some(request) = requests.recv().await {
            let body = request.body.clone();
            bytes += body.len();
            request.respond(body).await;
        }
        bytes
    });
    let mut client = tokio::process::Command::new(std::env::current_exe()?);
    let status = client.arg("client").arg(&socket).kill_on_drop(true).status().await?;
    drop(stop);
    running.await??;
    let bytes = echo.await?;
    if !status.success() {
        return Err(format!("the client ended with {status}").into());
    }
    if bytes != ROUNDS * SIZES.iter().sum::<usize>() {
        return Err(format!("only {bytes} bytes were served").into());
    }
    Ok(format!("served {bytes} bytes to another process"))
}

async fn call(socket: &Path) -> Result<String, Box<dyn Error>> {
    let client = Client::connect(socket, Identity::Operator).await?.client;
    for round in 0..ROUNDS {
        for size in SIZES {
            let body: Vec<u8> = (0..size).map(|at| (at * 31 + round).to_le_bytes()[0]).collect();
            let answer = client.call("requests.echo", body.clone(), PATIENCE).await?;
            if answer != body {
                return Err(format!("{size} bytes came back changed").into());
            }
        }
    }
    Ok(format!("{} answers are right", ROUNDS * SIZES.len()))
}
