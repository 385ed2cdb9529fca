# The commands of every day. `just` alone lists them.

_default:
    @just --list

# Build all programs
build:
    cargo build --workspace --bins

# Run the agent in the foreground with the shipped rules; it starts procmond
run-agent *arguments:
    cargo xtask up -- {{ arguments }}

# Run procmond alone: `just run-procmond scan` prints what it sees
run-procmond *arguments:
    cargo build --workspace --bins
    cargo run --package procmond -- {{ arguments }}

# Ask a running agent: `just run-cli health`
run-cli *arguments:
    cargo build --workspace --bins
    "${CARGO_TARGET_DIR:-target}/debug/daemoneye-cli" {{ arguments }}

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

# Fail when fewer per cent of the lines are run by the tests; our crates alone are instrumented
coverage threshold="80" *arguments:
    .ci/coverage {{ threshold }} {{ arguments }}

# Run each fuzz target for so many seconds
fuzz seconds="60" *filter="fuzz_":
    BOLERO_RANDOM_TEST_TIME_MS={{ seconds }}000 cargo test --workspace -- {{ filter }}

# Compare Sigma rules that nobody wrote with what rsigma says of them
sigma-oracle cases="5000":
    cargo build --manifest-path sigma-oracle/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-{{ justfile_directory() }}/target}/sigma-oracle" --locked
    DAEMONEYE_SIGMA_ORACLE="${CARGO_TARGET_DIR:-{{ justfile_directory() }}/target}/sigma-oracle/debug/sigma-oracle" \
        PROPTEST_CASES={{ cases }} cargo test --workspace --test it -- two_judges_agree

# Measure what the programs cost on this host
bench *arguments:
    cargo xtask measure {{ arguments }}

# Compare the store with SQLite on the same events
bench-store *arguments:
    cargo xtask bench-store {{ arguments }}

# Compare standing rules with other ways of evaluating them
bench-rules *arguments:
    cargo xtask bench-rules {{ arguments }}

# Compare what watching programs costs with auditd, bpftrace and nothing; needs root
bench-exec *arguments:
    cargo xtask bench-exec {{ arguments }}

# Feed an agent for minutes; fails when its memory grows or anything is lost
soak *arguments:
    cargo xtask soak {{ arguments }}

# Known vulnerabilities (needs the network), licences, sources, banned and doubled crates
security-scan:
    "$(.ci/tool cargo-deny 0.20.2)" --locked check
    "$(.ci/tool cargo-audit 0.22.2 --no-default-features)" audit

# Pack what is shipped; with the profile `dist`, linking takes more than ten minutes
dist profile="dist":
    .ci/dist {{ profile }}

# The documentation of the crates
doc:
    cargo doc --workspace --no-deps --locked

# The book of docs/
book:
    .ci/book

# Type-check the whole workspace for Windows, macOS, FreeBSD and ARM64 Linux
check-systems:
    .ci/systems check-all

# Run procmond and the bus of Windows under wine
windows:
    .ci/systems windows

# Monitor this host in the foreground
up *arguments:
    cargo xtask up -- {{ arguments }}

# Show the whole line at work, in a temporary place
demo:
    cargo xtask demo

# What the kernel tells, on other kernels, in virtual machines
kernels *PACKAGES:
    .ci/kernels {{ PACKAGES }}

# All that must hold before a change is taken
ci:
    .ci/run
