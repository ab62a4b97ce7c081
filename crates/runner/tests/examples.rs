//! The examples do what they say, in as few lines as they say.

#[path = "../examples/run.rs"]
mod run;

use std::path::Path;

/// Lines of an example that are neither empty nor a comment.
fn lines(example: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(example);
    let text = std::fs::read_to_string(path).unwrap();
    let counts = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    text.lines().filter(counts).count()
}

#[test]
fn a_run_takes_less_than_thirty_lines() {
    assert!(lines("run.rs") < 30);
    let folder = tempfile::tempdir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    run::main().unwrap();
    let runs: Vec<_> = std::fs::read_dir("runs").unwrap().flatten().collect();
    assert_eq!(runs.len(), 1);
    assert!(runs[0].path().join("summary.json").is_file());
}
