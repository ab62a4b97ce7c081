//! The sweep file.

use crate::draw::Range;
use crate::keys::Keys;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};
use zfl_experiment::{Refusal, Settings, values};
use zfl_files::MAX_TEXT;
use zfl_schema::{Document, Mistake};

/// The file in a sweep's folder that repeats it.
pub(crate) const FILE: &str = "sweep.toml";

/// A value of an axis: keys with their dotted names, set together.
pub(crate) type Setting = BTreeMap<String, Value>;

/// A sweep as its file has it.
#[derive(Debug)]
pub struct Sweep {
    /// Its name, which its folder has.
    pub name: String,
    /// The experiment that every run begins with.
    pub(crate) base: Table,
    /// Cases by their labels, if they have any.
    pub(crate) cases: Vec<(Option<String>, Setting)>,
    /// Axes of the grid.
    pub(crate) grid: Vec<Vec<Setting>>,
    /// Ranges by key, and the number and seed of draws.
    pub(crate) random: Option<Random>,
    /// Folder that paths in it are meant from.
    pub(crate) folder: PathBuf,
    pub(crate) keys: Keys,
    path: PathBuf,
    text: String,
}

/// Random draws.
#[derive(Debug)]
pub(crate) struct Random {
    pub draws: u32,
    pub seed: u64,
    pub ranges: BTreeMap<String, Range>,
}

impl Sweep {
    /// Reads a sweep file, or that of a sweep's folder.
    ///
    /// # Errors
    /// A [`Refusal`] with the place of the first mistake.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let path = match path.is_dir() {
            true => path.join(FILE),
            false => path.to_owned(),
        };
        let text = zfl_files::read_text(&path, MAX_TEXT);
        let text = text.map_err(|error| Refusal(error.to_string()))?;
        Self::of_text(text, path)
    }

    fn of_text(text: String, path: PathBuf) -> Result<Self, Refusal> {
        let at = |mistake: Mistake| Refusal(format!("{}: {mistake}", path.display()));
        let document = Document::toml(&text).map_err(at)?;
        document.check(&form()).map_err(at)?;
        let table: Table = document.read().map_err(at)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let base = base(&table, &folder, &document, &path)?;
        let keys = Keys::of(&groups(&base));
        let reader = Reader { document, keys };
        let cases = reader.cases(&table).map_err(at)?;
        let grid = reader.grid(&table).map_err(at)?;
        let random = reader.random(&table).map_err(at)?;
        let name = match table.get("name").and_then(Value::as_str) {
            Some(name) => name.to_owned(),
            None => own_name(&path),
        };
        values::name(&name).map_err(|advice| {
            at(reader
                .document
                .mistake("name", format!("the name {name:?}: {advice}")))
        })?;
        let Reader { keys, .. } = reader;
        Ok(Self {
            name,
            base,
            cases,
            grid,
            random,
            folder,
            keys,
            path,
            text,
        })
    }

    /// A refusal of the value of a key, with its place if the file sets it.
    pub(crate) fn refused(&self, key: &str, problem: &str) -> Refusal {
        let Ok(document) = Document::toml(&self.text) else {
            return Refusal(problem.to_owned());
        };
        let places = ["grid", "random", "base"].map(|table| format!("{table}.{key}"));
        let cases = (0..self.cases.len()).map(|case| format!("cases.{case}.{key}"));
        let place = places
            .into_iter()
            .chain(cases)
            .find(|place| document.has(place));
        let mistake = document.mistake(&place.unwrap_or_default(), problem);
        Refusal(format!("{}: {mistake}", self.path.display()))
    }

    /// The sweep as a file that repeats it from any folder: the experiment is in it.
    pub(crate) fn to_toml(&self) -> String {
        let mut table: Table = toml::from_str(&self.text).unwrap_or_default();
        table.insert("name".to_owned(), self.name.clone().into());
        table.insert("base".to_owned(), self.base.clone().into());
        zfl_experiment::stand(&mut table, &self.folder);
        toml::to_string(&table).unwrap_or_default()
    }
}

/// The name of a file's sweep; one in a sweep's folder has that folder's.
fn own_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.into_owned()
}

/// The form of a sweep file, but for its axes.
fn form() -> serde_json::Value {
    let number = |most: i64| json!({"type": "integer", "minimum": 0, "maximum": most});
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "base": {"anyOf": [{"type": "string"}, zfl_experiment::keys::schema()]},
            "grid": {"type": "object"},
            "random": {
                "type": "object",
                "properties": {
                    "draws": {"type": "integer", "minimum": 1, "maximum": 100_000},
                    "seed": number(i64::MAX),
                },
                "required": ["draws"],
            },
            "cases": {
                "type": "array",
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
        },
        "additionalProperties": false,
    })
}

/// The experiment that runs begin with, and paths in it as they are from any folder.
fn base(
    table: &Table,
    folder: &Path,
    document: &Document<'_>,
    path: &Path,
) -> Result<Table, Refusal> {
    let mut base = match table.get("base") {
        Some(Value::String(file)) => {
            let file = folder.join(file);
            // Its mistakes are told with their places in it.
            Settings::read(&file)?;
            let text = zfl_files::read_text(&file, MAX_TEXT)
                .map_err(|error| Refusal(error.to_string()))?;
            let mut base: Table = toml::from_str(&text).map_err(Refusal::of)?;
            zfl_experiment::stand(&mut base, file.parent().unwrap_or(Path::new("")));
            base
        }
        Some(Value::Table(base)) => {
            Settings::of_table(base, folder).map_err(|problem| {
                Refusal(format!(
                    "{}: {}",
                    path.display(),
                    document.mistake("base", problem)
                ))
            })?;
            base.clone()
        }
        _ => Table::new(),
    };
    zfl_experiment::stand(&mut base, folder);
    // They are the run's own.
    for own in ["name", "out", "layers", "zfl_version"] {
        base.remove(own);
    }
    Ok(base)
}

/// The names of the groups of a fleet, as a run gives them.
pub(crate) fn groups(base: &Table) -> Vec<String> {
    let fleet = base.get("fleet").and_then(Value::as_array);
    let named = fleet.into_iter().flatten().enumerate().map(|(at, group)| {
        let name = group.get("name").and_then(Value::as_str);
        name.map_or_else(|| format!("group-{}", at + 1), str::to_owned)
    });
    named.collect()
}

/// Reads the axes.
struct Reader<'a> {
    document: Document<'a>,
    keys: Keys,
}

impl Reader<'_> {
    fn grid(&self, table: &Table) -> Result<Vec<Vec<Setting>>, Mistake> {
        let empty = Table::new();
        let grid = table
            .get("grid")
            .and_then(Value::as_table)
            .unwrap_or(&empty);
        let mut axes = Vec::new();
        for (key, value) in leaves(grid, |value| !value.is_table()) {
            let place = format!("grid.{key}");
            let schema = self.known(&key, &place)?;
            let list = json!({"type": "array", "items": schema});
            self.document.check_at(&place, &list)?;
            let values: Vec<Setting> = value
                .as_array()
                .into_iter()
                .flatten()
                .map(|value| self.setting(&key, value))
                .collect();
            if values.is_empty() {
                return Err(self
                    .document
                    .mistake(&place, "the list is empty: give the values that runs have"));
            }
            axes.push(values);
        }
        Ok(axes)
    }

    fn cases(&self, table: &Table) -> Result<Vec<(Option<String>, Setting)>, Mistake> {
        let cases = table.get("cases").and_then(Value::as_array);
        let mut all = Vec::<(Option<String>, Setting)>::new();
        for (at, case) in cases.into_iter().flatten().enumerate() {
            let mut keys = case.as_table().cloned().unwrap_or_default();
            let label = keys
                .remove("name")
                .and_then(|name| Some(name.as_str()?.to_owned()));
            if label.is_some() && all.iter().any(|(other, _)| *other == label) {
                let place = format!("cases.{at}.name");
                return Err(self
                    .document
                    .mistake(&place, "two cases have this name: give each its own"));
            }
            let mut setting = Setting::new();
            for (key, value) in leaves(&keys, |value| !value.is_table() || Range::is_one(value)) {
                let place = format!("cases.{at}.{key}");
                let schema = self.known(&key, &place)?.clone();
                self.document.check_at(&place, &schema)?;
                setting.extend(self.setting(&key, &value));
            }
            all.push((label, setting));
        }
        Ok(all)
    }

    fn random(&self, table: &Table) -> Result<Option<Random>, Mistake> {
        let Some(mut random) = table.get("random").and_then(Value::as_table).cloned() else {
            return Ok(None);
        };
        let number = |value: Option<Value>| value.and_then(|value| value.as_integer());
        let draws = number(random.remove("draws")).unwrap_or(1) as u32;
        let seed = number(random.remove("seed")).unwrap_or(1).cast_unsigned();
        let mut ranges = BTreeMap::new();
        for (key, value) in leaves(&random, Range::is_one) {
            let place = format!("random.{key}");
            let schema = self.known(&key, &place)?;
            self.document.check_at(&place, &Range::form(schema))?;
            let range = Range::read(&value, self.keys.is_whole(&key));
            let range = range.map_err(|problem| self.document.mistake(&place, problem))?;
            ranges.insert(key, range);
        }
        if ranges.is_empty() {
            let problem = "nothing is drawn: give a key its range, such as learning_rate = { log_uniform = [0.01, 1] }";
            return Err(self.document.mistake("random", problem));
        }
        Ok(Some(Random {
            draws,
            seed,
            ranges,
        }))
    }

    /// The schema of a key that is there.
    fn known(&self, key: &str, place: &str) -> Result<&serde_json::Value, Mistake> {
        let schema = self.keys.schema(key);
        schema.map_err(|problem| self.document.mistake(place, problem))
    }

    /// Keys that a value sets.
    fn setting(&self, key: &str, value: &Value) -> Setting {
        setting(&self.keys, key, value)
    }
}

/// Keys that a value of a key sets: those of a table one by one, and the name of a rule by its own key.
pub(crate) fn setting(keys: &Keys, key: &str, value: &Value) -> Setting {
    match value {
        Value::Table(table) if keys.is_table(key) => {
            let each = table.iter();
            each.flat_map(|(name, value)| setting(keys, &format!("{key}.{name}"), value))
                .collect()
        }
        Value::String(_) if keys.is_rule(key) => {
            Setting::from([(format!("{key}.name"), value.clone())])
        }
        value => Setting::from([(key.to_owned(), value.clone())]),
    }
}

/// The values of a table that are leaves, by their dotted names.
fn leaves(table: &Table, is_leaf: impl Fn(&Value) -> bool + Copy) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) if !is_leaf(value) => {
                let below = leaves(inner, is_leaf).into_iter();
                all.extend(below.map(|(below, value)| (format!("{name}.{below}"), value)));
            }
            value => all.push((name.clone(), value.clone())),
        }
    }
    all
}
