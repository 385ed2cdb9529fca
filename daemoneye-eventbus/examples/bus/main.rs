//! What the bus does under load: prints tables, leaves nothing behind.
//!
//! ```text
//! cargo run --release -p daemoneye-eventbus --example bus -- codec
//! cargo run --release -p daemoneye-eventbus --example bus -- through
//! cargo run --release -p daemoneye-eventbus --example bus -- load
//! cargo run --release -p daemoneye-eventbus --example bus -- soak 10000000
//! cargo run --release -p daemoneye-eventbus --example bus -- soak 10000000 read-all
//! ```

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

mod codec;
mod load;
mod peers;
mod site;
mod soak;
mod through;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match arguments[..] {
        ["codec"] => codec::run(),
        ["through"] => runtime.block_on(through::run()),
        ["load"] => runtime.block_on(load::run(None)),
        ["load", kind] => runtime.block_on(load::run(Some(kind))),
        ["soak", frames] => runtime.block_on(soak::run(frames.parse().unwrap(), false)),
        ["soak", frames, "read-all"] => runtime.block_on(soak::run(frames.parse().unwrap(), true)),
        // What the other two start.
        ["crowd", socket, what, amount] => {
            runtime.block_on(peers::crowd(socket.as_ref(), what, amount.parse().unwrap()));
        }
        _ => println!("usage: codec | through | load [KIND] | soak FRAMES [read-all]"),
    }
}
