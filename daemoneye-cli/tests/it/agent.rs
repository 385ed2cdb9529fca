//! The agent's double: the real broker, and a server that does with each query what its SQL says.

use crate::{Ran, cli, short_dir};
use daemoneye_eventbus::{Broker, BrokerConfig, Client, Request};
use daemoneye_lib::proto::ipc::{
    Cell, ColumnKind, Completeness, ComponentHealth, HealthReport, HealthStatus, QueryPage, QueryRequest, RequestError,
    RequestErrorKind, ResultColumn, ResultRow, cell,
};
use prost::Message;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub(crate) struct Agent {
    home: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Returns when it can be asked.
    pub(crate) fn start() -> Self {
        Self::start_with(true)
    }

    /// A broker behind which nobody serves, as while an agent starts.
    pub(crate) fn start_mute() -> Self {
        Self::start_with(false)
    }

    fn start_with(serves: bool) -> Self {
        let home = short_dir();
        let run = home.path().join("d/run");
        std::fs::create_dir_all(&run).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let broker = Broker::bind(BrokerConfig::new(run.join("agent.sock"), run.join("sessions"))).unwrap();
                let client = broker.local("agent");
                let serving = async {
                    if serves {
                        serve(client, &ready).await;
                    } else {
                        ready.send(()).unwrap();
                        std::future::pending::<()>().await;
                    }
                };
                let running = broker.run(async {
                    let _ = stopped.await;
                });
                tokio::select! {
                    ended = running => ended.unwrap(),
                    () = serving => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self { home, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.home.path().join("d/run")
    }

    pub(crate) fn cli(&self, arguments: &[&str]) -> Ran {
        cli(self.home(), arguments)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(client: Client, ready: &std::sync::mpsc::Sender<()>) {
    let mut queries = client.serve("requests.query").await.unwrap();
    let mut health = client.serve("requests.health").await.unwrap();
    ready.send(()).unwrap();
    loop {
        tokio::select! {
            Some(request) = queries.recv() => { tokio::spawn(answer(request)); }
            Some(request) = health.recv() => request.respond(report().encode_to_vec()).await,
            else => return,
        }
    }
}

/// `rows N` answers N rows, then says that they are complete; `break N` breaks off after them; `echo` shows the parameters;
/// all else is refused at its second word.
async fn answer(mut request: Request) {
    let query = QueryRequest::decode(request.body.as_slice()).unwrap();
    let words: Vec<_> = query.sql.split(' ').collect();
    let count = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let completeness = Some(Completeness::default());
    let columns = vec![ResultColumn { name: "n".to_owned(), kind: ColumnKind::Integer.into() }];
    match words[0] {
        "rows" | "break" => {
            let mut page = QueryPage { columns, ..QueryPage::default() };
            for first in (0..count).step_by(1_000) {
                page.rows = (first..count.min(first + 1_000)).map(|n| row(cell::Value::Integer(n))).collect();
                if request.send_part(page.encode_to_vec()).await.is_err() {
                    return;
                }
                page = QueryPage::default();
            }
            if words[0] == "rows" {
                page.completeness = completeness;
                request.respond(page.encode_to_vec()).await;
            }
        }
        "echo" => {
            let rows = query.parameters.iter().map(|parameter| {
                let value = parameter.value.clone().and_then(|cell| cell.value);
                row(cell::Value::Text(format!("{}={value:?}", parameter.name)))
            });
            let page = QueryPage { columns, rows: rows.collect(), completeness };
            request.respond(page.encode_to_vec()).await;
        }
        _ => {
            let error = RequestError {
                kind: RequestErrorKind::RefusedRequest.into(),
                message: format!("no such thing: {}", words[1]),
                hint: "ask for `rows`".to_owned(),
                line: 1,
                column: u32::try_from(words[0].len() + 2).unwrap(),
            };
            request.fail(error.encode_to_vec()).await;
        }
    }
}

fn row(value: cell::Value) -> ResultRow {
    ResultRow { cells: vec![Cell { value: Some(value) }] }
}

fn report() -> HealthReport {
    let store =
        ComponentHealth { component: "store".to_owned(), status: HealthStatus::Ok.into(), ..Default::default() };
    HealthReport { status: HealthStatus::Ok.into(), components: vec![store], ..HealthReport::default() }
}
