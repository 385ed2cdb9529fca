//! Compiles the bus messages without a `protoc` on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../proto/eventbus.proto");
    let bus = protox::compile(["eventbus.proto"], ["../proto"])?;
    prost_build::Config::new().btree_map(["."]).compile_fds(bus)?;
    Ok(())
}
