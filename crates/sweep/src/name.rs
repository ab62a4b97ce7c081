//! Names of runs, made of their values.

use crate::file::Setting;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use toml::Value;

/// Longest name, in letters: beside it there are files with a longer one.
const LONGEST: usize = 120;

/// The name of a run: `CASE_KEY-VALUE_…`, the seed last. It follows from the case and the values alone.
pub(crate) fn name(case: Option<&str>, values: &Setting) -> String {
    let pair = |(key, value): (&String, &Value)| format!("{}-{}", short(key, values), text(value));
    let mut words: Vec<String> = case.into_iter().map(str::to_owned).collect();
    // A case that has a name stands for its values; in another, they are its name.
    words.extend(values.iter().filter(|(key, _)| *key != "seed").map(pair));
    words.extend(values.get_key_value("seed").map(pair));
    let raw = words.join("_");
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let clean: String = raw.chars().map(plain).collect();
    let clean = clean.trim_start_matches(['.', '-']);
    match clean {
        "" => "base".to_owned(),
        clean if clean == raw && clean.len() <= LONGEST => clean.to_owned(),
        clean => format!("{}-{}", &clean[..clean.len().min(LONGEST)], digest(&raw)),
    }
}

/// The last word of a key, if no other key of the run ends in it; of a rule's name, the rule's.
fn short<'a>(key: &'a str, values: &'a Setting) -> &'a str {
    let of = |key: &'a str| {
        let key = key.strip_suffix(".name").unwrap_or(key);
        key.rsplit('.').next().unwrap_or(key)
    };
    let alike = values.keys().filter(|other| of(other) == of(key)).count();
    if alike > 1 { key } else { of(key) }
}

/// A value in a name or a table.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join("+"),
        Value::Table(table) => {
            let sorted: BTreeMap<_, _> = table.iter().collect();
            let pairs = sorted
                .into_iter()
                .map(|(key, value)| format!("{key}-{}", self::text(value)));
            pairs.collect::<Vec<_>>().join("+")
        }
        Value::Float(number) => number.to_string(),
        other => other.to_string(),
    }
}

fn digest(text: &str) -> String {
    let hash = Sha256::digest(text);
    hash.iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Setting {
        toml::from_str::<toml::Table>(text)
            .unwrap()
            .into_iter()
            .collect()
    }

    #[test]
    fn a_name_has_every_value_the_seed_last() {
        let of = |text: &str| name(None, &values(text));
        assert_eq!(
            of("seed = 2\nlearning_rate = 0.5\n\"strategy.name\" = 'fedavg'"),
            "learning_rate-0.5_strategy-fedavg_seed-2"
        );
        assert_eq!(
            of("hidden = [200, 200]"),
            "hidden-200+200".replace('+', "-") + "-" + &digest("hidden-200+200")
        );
        assert_eq!(
            of("\"fleet.a.count\" = 1\n\"fleet.b.count\" = 2"),
            "fleet.a.count-1_fleet.b.count-2"
        );
        assert_eq!(of(""), "base");
        assert!(
            name(Some("E=1, B=10"), &values("seed = 1"))
                .split("-")
                .count()
                > 2
        );
    }

    #[test]
    fn a_name_is_one_of_a_run_however_long_and_whatever_is_in_it() {
        let long = values(&format!("data = '/{}'", "x/".repeat(200)));
        let other = values(&format!("data = '/{}y'", "x/".repeat(200)));
        for values in [&long, &other] {
            let name = name(None, values);
            assert!(
                zfl_experiment::values::name(&name).is_ok() && name.len() < 200,
                "{name}"
            );
        }
        assert_ne!(name(None, &long), name(None, &other));
    }
}
