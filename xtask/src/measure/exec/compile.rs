//! A work that starts many programs: a small C project, made up and compiled by as many jobs as there are processors.

use super::watcher::{find, output};
use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::Failure;

/// The project's directory. It is removed with this.
pub(super) struct Project {
    dir: TempDir,
    files: u32,
}

impl Project {
    /// Writes so many source files, and compiles them once, so that the next time finds everything in memory.
    pub(super) fn make(files: u32) -> Result<Self, Failure> {
        find("make", "make")?;
        find("cc", "gcc")?;
        let project = Self { dir: tempfile::tempdir().map_err(|error| cannot_write(&error))?, files };
        let write = |name: &str, text: &str| {
            std::fs::write(project.dir.path().join(name), text).map_err(|error| cannot_write(&error))
        };
        for number in 0..files {
            write(&format!("part_{number}.c"), &part(number))?;
        }
        write("main.c", &main(files))?;
        write("Makefile", MAKEFILE)?;
        project.compile()?;
        Ok(project)
    }

    /// Compiles and links all of it, and says how long that took.
    pub(super) fn compile(&self) -> Result<Duration, Failure> {
        let jobs = std::thread::available_parallelism().map_or(1, |count| count.get());
        let make = |target: &str| {
            let mut command = Command::new("make");
            // What the host's other makes are told is not for this one.
            command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("CARGO_MAKEFLAGS");
            command.arg("-s").arg(format!("-j{jobs}")).arg("-C").arg(self.dir.path()).arg(target);
            output(&mut command)
        };
        make("clean")?;
        let began = Instant::now();
        make("all")?;
        let took = began.elapsed();
        let sum = output(&mut Command::new(self.dir.path().join("all")))?;
        // What was not compiled took no time.
        let expected: u64 = (0..u64::from(self.files)).map(|number| number * 3).sum();
        if sum.trim() == expected.to_string() {
            Ok(took)
        } else {
            Err(Failure::new(format!("the compiled program says {sum:?}, not {expected}")))
        }
    }
}

fn cannot_write(error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write the project to compile: {error}"))
}

const MAKEFILE: &str = "PARTS = $(patsubst %.c,%.o,$(wildcard *.c))\n\
all: $(PARTS)\n\tcc -o $@ $(PARTS)\n\
%.o: %.c\n\tcc -O1 -c -o $@ $<\n\
clean:\n\trm -f *.o all\n\
.PHONY: clean\n";

/// A file of a few functions, which asks for headers as every file does.
fn part(number: u32) -> String {
    format!(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\n\
         static int length_{number}(const char *text) {{ return (int)strlen(text); }}\n\n\
         int part_{number}(int factor) {{\n    char text[32];\n    \
         if (snprintf(text, sizeof text, \"%d\", {number} * factor) != length_{number}(text)) abort();\n    \
         return atoi(text);\n}}\n"
    )
}

fn main(files: u32) -> String {
    let mut text = String::from("#include <stdio.h>\n");
    let mut sum = String::from("0");
    for number in 0..files {
        // Writing to a string does not fail.
        let _ = writeln!(text, "int part_{number}(int factor);");
        let _ = write!(sum, " + part_{number}(3)");
    }
    text + &format!("int main(void) {{ return printf(\"%d\\n\", {sum}) < 0; }}\n")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn the_project_compiles_again_and_again_and_is_gone_at_the_end() {
        if !testkit::require("cc", find("make", "make").and(find("cc", "gcc")).is_ok(), "compiles C") {
            return;
        }
        let project = Project::make(3).unwrap();
        let dir = project.dir.path().to_path_buf();
        std::fs::write(dir.join("part_2.c"), "int part_2(int factor) { return 6 * factor / factor; }").unwrap();
        assert!(project.compile().unwrap() > Duration::ZERO);
        std::fs::write(dir.join("part_2.c"), "int part_2(int factor) { return factor; }").unwrap();
        assert!(project.compile().unwrap_err().to_string().contains("says"));
        drop(project);
        assert!(!dir.exists());
    }
}
