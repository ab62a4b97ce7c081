//! The examples do what they say, in as few lines as they say.

#[path = "../examples/median.rs"]
mod median;
#[path = "../examples/run.rs"]
mod run;

use serde_json::Value;
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

/// One test, since the current folder belongs to the whole process.
#[test]
fn a_run_takes_less_than_thirty_lines_and_an_algorithm_less_than_sixty() {
    assert!(lines("run.rs") < 30, "{}", lines("run.rs"));
    assert!(lines("median.rs") < 60, "{}", lines("median.rs"));
    let folder = tempfile::tempdir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    run::main().unwrap();
    median::main().unwrap();
    let runs = std::fs::read_dir("runs").unwrap().flatten();
    let strategies: Vec<String> = runs
        .map(|run| {
            let run = run.path();
            let text = std::fs::read_to_string(run.join("summary.json")).unwrap();
            let summary: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(summary["success"], true);
            let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
            let config: toml::Table = toml::from_str(&config).unwrap();
            config["strategy"]["name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(strategies.len(), 2);
    assert!(strategies.contains(&"median".to_owned()), "{strategies:?}");
}
