//! Support of the tests: scripts that stand in for programs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program by another one: a process that another test starts would hold a copy of a descriptor
/// of this process for a moment, and what somebody can write to cannot be run.
pub fn install(path: &Path, script: &str) {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path);
    let mut install = install.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = install.stdin.take().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    drop(stdin);
    assert!(install.wait().unwrap().success(), "{}", path.display());
}
