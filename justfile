# The commands of every day. `just` alone lists them.

_default:
    @just --list

# Build all programs
build:
    cargo build --workspace --bins

# Run all tests; the programs they start are built with them
test *arguments:
    cargo test --workspace {{ arguments }}

# Everything that a reviewer should not have to say
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo xtask boundaries

# Format the code
fmt:
    cargo fmt --all

# The documentation of the crates
doc:
    cargo doc --workspace --no-deps --locked

# Monitor this host in the foreground
up *arguments:
    cargo xtask up -- {{ arguments }}

# Show the whole line at work, in a temporary place
demo:
    cargo xtask demo

# All that must hold before a change is taken
ci:
    .ci/run
