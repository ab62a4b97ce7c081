//! Cycles of devices: told where the core has a table, and said to be none elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use zfl_experiment::{Experiment, Out, Root, Settings};

/// Resolves a fleet of two groups, in a tree whose plugin is built, and gives its notes or the refusal.
fn notes(boards: [&str; 2]) -> Result<Vec<String>, String> {
    let tree = tempfile::tempdir().unwrap();
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["boards", "data", "links", "profiles"] {
        symlink(real.join(folder), tree.path().join(folder)).unwrap();
    }
    fs::create_dir_all(tree.path().join("build/plugin")).unwrap();
    fs::write(tree.path().join("build/plugin/libtcg_cost.so"), []).unwrap();
    let groups = boards.map(|board| format!("[[fleet]]\ncount = 1\nboard = \"{board}\"\n"));
    let text = "data = \"zfl:digits\"\nbody = \"bare\"\ncost = \"cycles\"\n".to_owned();
    let file = tree.path().join("experiment.toml");
    fs::write(&file, text + &groups.concat()).unwrap();
    let settings = Settings::read(&file).unwrap();
    let root = Root::of_tree(tree.path().to_owned());
    let resolved = Experiment::of_run(&settings, Out::New(None), &root);
    let resolved = resolved.map_err(|refusal| refusal.to_string())?;
    Ok(resolved.0.notes)
}

#[test]
fn boards_without_a_table_of_cycles_are_named() {
    let said = notes(["microvm", "mps2-an386"]).unwrap();
    let about = |line: &&String| line.starts_with("cycles: none for devices on microvm,");
    assert_eq!(said.iter().filter(about).count(), 1, "{said:?}");
    let said = notes(["mps2-an385", "mps2-an386"]).unwrap();
    assert!(!said.iter().any(|line| line.contains("cycles")), "{said:?}");
    let refusal = notes(["microvm", "q35"]).unwrap_err();
    assert!(refusal.contains("the core of microvm, q35"), "{refusal}");
}
