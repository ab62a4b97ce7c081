//! Keys of an experiment as axes of a sweep, by dotted names.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use zfl_schema::nearest;

/// Keys that are of a run and its folder, which the sweep chooses.
const OWN: [&str; 4] = ["name", "out", "layers", "zfl_version"];

/// Schemas of all keys that can be an axis, by dotted name.
#[derive(Debug)]
pub(crate) struct Keys(BTreeMap<String, Value>);

impl Keys {
    /// Keys of experiments whose fleet has these groups.
    pub fn of(groups: &[String]) -> Self {
        let mut all = BTreeMap::new();
        let top = children(&zfl_experiment::keys::schema());
        for (name, schema) in &top {
            if !OWN.contains(&name.as_str()) {
                add(name, schema, &mut all);
            }
        }
        let group = top.get("fleet").map(|fleet| children(&fleet["items"]));
        for (name, schema) in group.iter().flatten().filter(|(name, _)| *name != "name") {
            for of in groups {
                add(&format!("fleet.{of}.{name}"), schema, &mut all);
            }
        }
        Self(all)
    }

    /// The schema of a key.
    ///
    /// # Errors
    /// Words for people if there is no such key.
    pub fn schema(&self, name: &str) -> Result<&Value, String> {
        self.0.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let shown = name.escape_debug();
            match nearest(name, &names) {
                Some(meant) => format!("there is no key `{shown}` to vary: did you mean `{meant}`?"),
                None => format!(
                    "there is no key `{shown}` to vary: take one of experiments/README.md, those of tables with a \
                     dot (\"strategy.name\", \"fleet.GROUP.count\")"
                ),
            }
        })
    }

    /// Tells whether a key chooses a rule by its name, which may stand for its table.
    pub fn is_rule(&self, name: &str) -> bool {
        self.0.contains_key(&format!("{name}.name"))
    }

    /// Tells whether the table of a key is keys of their own, each with its value.
    pub fn is_table(&self, name: &str) -> bool {
        let schema = self.0.get(name);
        self.is_rule(name) || schema.is_none_or(|schema| schema["type"] == "object")
    }

    /// Tells whether a key takes whole numbers alone.
    pub fn is_whole(&self, name: &str) -> bool {
        let is_whole =
            |schema: &Value| schema["type"] == "integer" || schema["anyOf"][0]["type"] == "integer";
        self.0.get(name).is_some_and(is_whole)
    }
}

/// Adds a key, and those below it.
fn add(name: &str, schema: &Value, all: &mut BTreeMap<String, Value>) {
    // A table that is a value of its own, such as a range, has no keys to vary.
    let below = children(schema);
    let is_table = schema["type"] == "object" || below.contains_key("name");
    for (below, schema) in below.into_iter().filter(|_| is_table) {
        add(&format!("{name}.{below}"), &schema, all);
    }
    all.insert(name.to_owned(), schema.clone());
}

/// Keys of a table, in whatever form the schema has it.
fn children(schema: &Value) -> Map<String, Value> {
    let forms = schema.get("anyOf").and_then(Value::as_array);
    let forms = forms.into_iter().flatten().chain([schema]);
    let tables = forms.filter_map(|form| form.get("properties")?.as_object());
    tables
        .flatten()
        .map(|(name, of)| (name.clone(), of.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_an_experiment_is_an_axis_but_those_of_its_folder() {
        let keys = Keys::of(&["sensors".to_owned()]);
        for name in [
            "learning_rate",
            "seed",
            "strategy",
            "strategy.name",
            "strategy.proximal_mu",
            "partition.alpha",
            "faults.crash.probability",
            "fleet.sensors.count",
            "fleet.sensors.attack.scale",
        ] {
            assert!(keys.schema(name).is_ok(), "{name}");
        }
        assert!(keys.is_rule("strategy") && keys.is_rule("fleet.sensors.attack"));
        assert!(
            keys.is_whole("seed")
                && keys.is_whole("local_epochs")
                && !keys.is_whole("learning_rate")
        );
        assert!(keys.is_table("faults") && !keys.is_table("local_epochs"));
        let meant = |name| keys.schema(name).unwrap_err();
        assert!(meant("strategy.proximal").contains("`strategy.proximal_mu`"));
        assert!(meant("learning_rat").contains("did you mean `learning_rate`?"));
        assert!(meant("out").contains("no key `out`"));
        assert!(meant("fleet.sensors.name").contains("no key"));
    }
}
