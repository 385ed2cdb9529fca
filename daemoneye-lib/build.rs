//! Compiles the domain messages without a `protoc` on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../proto/common.proto");
    println!("cargo::rerun-if-changed=../proto/ipc.proto");
    let common = protox::compile(["common.proto"], ["../proto"])?;
    prost_build::Config::new().btree_map(["."]).compile_fds(common)?;
    let ipc = protox::compile(["ipc.proto"], ["../proto"])?;
    prost_build::Config::new()
        .btree_map(["."])
        .extern_path(".daemoneye.common.v1", "crate::proto::common")
        .compile_fds(ipc)?;
    Ok(())
}
