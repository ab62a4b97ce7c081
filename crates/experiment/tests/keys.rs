//! Consequences of the declarations of keys: the tables of the documentation, and the JSON Schema.

use std::path::{Path, PathBuf};
use zfl_experiment::keys::{reference, schema};
use zfl_experiment::{Settings, all_keys};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Set to anything, the tables are written instead of compared.
const UPDATE: &str = "ZFL_UPDATE";

#[test]
fn the_documentation_has_every_key_as_it_is_declared() {
    let path = root().join("experiments/README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut parts = text.split("<!-- keys: ");
    let mut renewed = parts.next().unwrap().to_owned();
    let mut tables = 0;
    for part in parts {
        let (table, rest) = part.split_once(" -->").unwrap();
        let (_, rest) = rest.split_once("<!-- end -->").unwrap();
        let keys = reference(table).unwrap_or_else(|| panic!("no table {table}"));
        renewed += &format!("<!-- keys: {table} -->\n{keys}<!-- end -->{rest}");
        tables += 1;
    }
    assert_eq!(tables, 4);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, renewed).unwrap();
    } else {
        assert!(
            text == renewed,
            "experiments/README.md is not as the keys are declared: run this test with {UPDATE}=1"
        );
    }
}

#[test]
fn the_ready_experiments_are_read() {
    let mut files = 0;
    for entry in std::fs::read_dir(root().join("experiments"))
        .unwrap()
        .flatten()
    {
        let path = entry.path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            Settings::read(&path).unwrap_or_else(|problem| panic!("{problem}"));
            files += 1;
        }
    }
    assert!(files >= 3);
}

/// The schema is what files are held against before they are read.
#[test]
fn the_schema_lets_through_what_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let path = folder.path().join("experiment.toml");
        std::fs::write(&path, text).unwrap();
        Settings::read(&path)
            .map(drop)
            .map_err(|refusal| refusal.to_string())
    };
    for good in [
        "rounds = 3",
        "hidden = [20, 20]",
        "[faults.crash]\nprobability = 0.1",
    ] {
        assert_eq!(read(good), Ok(()), "{good}");
    }
    for bad in [
        "rounds = 0",
        "rounds = \"3\"",
        "round = 3",
        "loss = 2",
        "body = \"cloud\"",
        "hidden = [0]",
        "learning_rate = 0",
        "[[fleet]]\nname = \"x\"",
        "[[fleet]]\ncount = 1\nseed = 3",
        "[faults]\ndropout = 1",
        "[faults.crash]\nreboot = true",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_two_keys_and_no_two_flags_are_alike() {
    let mut flags: Vec<_> = all_keys()
        .flat_map(|key| (key.flags)())
        .map(|flag| flag.long)
        .collect();
    let count = flags.len();
    flags.sort_unstable();
    flags.dedup();
    assert_eq!(flags.len(), count);
    let properties = schema()["properties"].as_object().unwrap().len();
    assert!(properties > 30, "{properties}");
}

/// Rules of one kind may bound a parameter of one name differently.
#[test]
fn a_table_takes_what_its_own_rule_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("experiment.toml");
    for (good, text) in [
        (true, "[schedule]\nname = \"constant\"\nwarmup_rounds = 0"),
        (false, "[schedule]\nname = \"warm-up\"\nwarmup_rounds = 0"),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(Settings::read(&path).is_ok(), good, "{text}");
    }
}
