//! Compiles the protocol without a `protoc` on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../proto");
    let files = protox::compile(["common.proto", "ipc.proto", "eventbus.proto"], ["../proto"])?;
    prost_build::Config::new().btree_map(["."]).include_file("protocol.rs").compile_fds(files)?;
    Ok(())
}
