//! The program procmond; all of it is in the library.

fn main() -> std::process::ExitCode {
    procmond::cli::main()
}
