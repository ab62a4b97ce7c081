//! Consequences of the declarations of keys: the tables of the documentation, and the JSON Schema.

use serde_json::{Map, Value};
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

/// Finds the first value that a schema does not allow, as far as this project's schema goes.
fn first_problem(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let known = [
        "description",
        "type",
        "enum",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "pattern",
        "items",
        "properties",
        "required",
        "additionalProperties",
        "$schema",
        "title",
        "anyOf",
    ];
    let rules = schema.as_object().unwrap();
    if let Some(rule) = rules.keys().find(|rule| !known.contains(&rule.as_str())) {
        panic!("{at}: the test knows no rule {rule}");
    }
    let fails = |problem: &str| Err(format!("{at}: {value} {problem}"));
    if let Some(types) = rules.get("anyOf").and_then(Value::as_array) {
        return match types
            .iter()
            .any(|one| first_problem(one, value, at).is_ok())
        {
            true => Ok(()),
            false => fails("is none of several"),
        };
    }
    let fits = match rules.get("type").and_then(Value::as_str) {
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("{at}: the test knows no type {other}"),
        None => true,
    };
    if !fits {
        return fails("has another type");
    }
    if let Some(names) = rules.get("enum").and_then(Value::as_array)
        && !names.contains(value)
    {
        return fails("is none of the names");
    }
    if let Some(number) = value.as_f64() {
        let bound = |rule: &str| rules.get(rule).and_then(Value::as_f64);
        if bound("minimum").is_some_and(|least| number < least)
            || bound("maximum").is_some_and(|most| number > most)
            || bound("exclusiveMinimum").is_some_and(|least| number <= least)
        {
            return fails("is out of bounds");
        }
    }
    for item in value.as_array().into_iter().flatten() {
        first_problem(&rules["items"], item, &format!("{at}[]"))?;
    }
    let Some(table) = value.as_object() else {
        return Ok(());
    };
    let none = Map::new();
    let properties = rules
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    for (key, value) in table {
        match (properties.get(key), rules.get("additionalProperties")) {
            (Some(schema), _) => first_problem(schema, value, &format!("{at}.{key}"))?,
            (None, Some(Value::Bool(false))) => return Err(format!("{at}.{key}: is no key")),
            (None, Some(others @ Value::Object(_))) => {
                first_problem(others, value, &format!("{at}.{key}"))?;
            }
            (None, _) => {}
        }
    }
    let required = rules.get("required").and_then(Value::as_array);
    let missing = |key: &&Value| !table.contains_key(key.as_str().unwrap());
    match required.into_iter().flatten().find(missing) {
        Some(key) => Err(format!("{at}: {key} is missing")),
        None => Ok(()),
    }
}

fn check(text: &str) -> Result<(), String> {
    let table: toml::Table = toml::from_str(text).unwrap();
    first_problem(&schema(), &serde_json::to_value(table).unwrap(), "file")
}

#[test]
fn the_ready_experiments_follow_the_schema() {
    let mut files = 0;
    for entry in std::fs::read_dir(root().join("experiments"))
        .unwrap()
        .flatten()
    {
        let path = entry.path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            let text = std::fs::read_to_string(&path).unwrap();
            check(&text).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
            Settings::read(&path).unwrap();
            files += 1;
        }
    }
    assert!(files >= 3);
}

/// Examples that both read and schema have to judge alike.
#[test]
fn the_schema_refuses_what_the_reading_refuses() {
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
        assert_eq!((read(good), check(good)), (Ok(()), Ok(())), "{good}");
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
        assert!(read(bad).is_err() && check(bad).is_err(), "{bad}");
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
