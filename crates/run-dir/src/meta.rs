//! Facts of a run from before its first event.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use zfl_files::Dir;

use crate::MAX_FACTS;
use crate::seal::{Damaged, check_text, with_checksum};

/// Facts of a run from before its first event; the run directory keeps them as [`Meta::FILE`].
///
/// Every field may be missing in the file: what is then not in `config.toml` either is not shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The run's name.
    pub name: String,
    /// The command with which it was begun. What repeats it, wherever it is typed, is its `config.toml`.
    pub command: Option<String>,
    /// The version of zfl.
    pub zfl_version: Option<String>,
    /// `bare`, `zephyr` or `native`.
    pub body: Option<String>,
    /// The board of every device, unless a fleet event says otherwise for one.
    pub board: Option<String>,
    /// Network of the devices: `bridge`, `switch`, `user`, `loopback`, `in process`.
    pub network: Option<String>,
    /// The link profile of every device, likewise.
    pub link: Option<String>,
    /// Devices.
    pub clients: u32,
    /// True if devices are started elsewhere: then `clients` is the most that may come, and their logs are
    /// not in the run directory.
    pub devices_elsewhere: bool,
    /// Rounds.
    pub rounds: u32,
    /// The resolved experiment: what `config.toml` holds.
    pub config: serde_json::Value,
    /// Examples per client and label: `[clients][labels]`.
    pub split: Vec<Vec<u32>>,
    /// Versions of what was run besides zfl: `qemu`, `linux`, and as SHA-256 `firmware <board>`, the
    /// kernel image, and `data`, the name of the data set and its files in the order of their names.
    pub versions: std::collections::BTreeMap<String, String>,
}

impl Meta {
    /// The file's name in the run directory.
    pub const FILE: &str = "meta.json";

    /// Reads [`Meta::FILE`] of a run directory, completed from `config.toml`.
    ///
    /// # Errors
    /// If one of them is there and cannot be read.
    pub fn load(run_dir: &Path) -> Result<Self> {
        let mut meta = match read(run_dir, Self::FILE)? {
            Some(text) => serde_json::from_str(&text).with_context(|| {
                format!("{} cannot be read", run_dir.join(Self::FILE).display())
            })?,
            None => Self::default(),
        };
        if let Some(text) = read(run_dir, "config.toml")? {
            let config: toml::Table = toml::from_str(&text).with_context(|| {
                format!("{} cannot be read", run_dir.join("config.toml").display())
            })?;
            meta.complete(serde_json::to_value(config)?);
        }
        if meta.name.is_empty() {
            let name = run_dir.canonicalize().ok();
            meta.name = name.as_deref().and_then(Path::file_name).map_or_else(
                || "run".to_owned(),
                |name| name.to_string_lossy().into_owned(),
            );
        }
        Ok(meta)
    }

    /// Reads [`Meta::FILE`] of a run that is to go on, which needs it as it was written.
    ///
    /// # Errors
    /// If it is not there, or not as it was written.
    pub fn verified(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join(Self::FILE);
        let text = Dir::open(run_dir)?.read(Self::FILE, MAX_FACTS)?;
        match check_text(&path, &text)? {
            true => serde_json::from_slice(&text)
                .with_context(|| format!("{} cannot be read", path.display())),
            false => Err(Damaged::at(&path, "its checksum is gone")),
        }
    }

    /// Writes [`Meta::FILE`] into a run directory, whole or not at all: what shows the run reads it, too.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn save(&self, run_dir: &Path) -> Result<()> {
        Ok(Dir::open(run_dir)?.write(Self::FILE, &with_checksum(self)?)?)
    }

    fn complete(&mut self, config: serde_json::Value) {
        let text = |key: &str| config.get(key)?.as_str().map(str::to_owned);
        let number = |key: &str| config.get(key)?.as_u64()?.try_into().ok();
        if self.name.is_empty() {
            self.name = text("name").unwrap_or_default();
        }
        for (field, key) in [
            (&mut self.command, "command"),
            (&mut self.zfl_version, "zfl_version"),
            (&mut self.body, "body"),
            (&mut self.board, "board"),
            (&mut self.network, "network"),
            (&mut self.link, "link"),
        ] {
            if field.is_none() {
                *field = text(key);
            }
        }
        if self.clients == 0 {
            self.clients = number("clients").unwrap_or(0);
        }
        if self.rounds == 0 {
            self.rounds = number("rounds").unwrap_or(0);
        }
        if self.config.is_null() {
            self.config = config;
        }
    }
}

fn read(run_dir: &Path, name: &str) -> Result<Option<String>> {
    match Dir::open(run_dir).and_then(|dir| dir.read_text(name, MAX_FACTS)) {
        Err(error) if error.is_missing() => Ok(None),
        text => Ok(Some(text?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_the_file_leaves_open_comes_from_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            "name = \"night\"\nbody = \"bare\"\nboard = \"microvm\"\nclients = 8\nrounds = 3\n";
        fs::write(dir.path().join("config.toml"), config).unwrap();
        fs::write(
            dir.path().join(Meta::FILE),
            r#"{"board":"other","command":"zfl run"}"#,
        )
        .unwrap();
        let meta = Meta::load(dir.path()).unwrap();
        assert_eq!(
            (meta.name.as_str(), meta.clients, meta.rounds),
            ("night", 8, 3)
        );
        assert_eq!(
            (meta.board.as_deref(), meta.body.as_deref()),
            (Some("other"), Some("bare"))
        );
        assert_eq!(meta.config["clients"], 8);
    }

    #[test]
    fn a_run_goes_on_with_facts_as_they_were_written_alone() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Meta {
            name: "night".to_owned(),
            ..Meta::default()
        };
        meta.save(dir.path()).unwrap();
        assert_eq!(Meta::verified(dir.path()).unwrap(), meta);
        assert_eq!(Meta::load(dir.path()).unwrap(), meta);
        let file = dir.path().join(Meta::FILE);
        let text = fs::read_to_string(&file).unwrap();
        for other in [
            text.replace("night", "light"),
            "{\"name\":\"night\"}".to_owned(),
        ] {
            fs::write(&file, other).unwrap();
            let error = Meta::verified(dir.path()).unwrap_err().to_string();
            assert!(error.contains("meta.json is damaged"), "{error}");
        }
    }

    #[test]
    fn a_run_without_either_has_its_folders_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-run");
        fs::create_dir(&path).unwrap();
        assert_eq!(Meta::load(&path).unwrap().name, "a-run");
    }

    #[test]
    fn a_file_that_is_not_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(Meta::FILE), "{").unwrap();
        let error = Meta::load(dir.path()).unwrap_err();
        assert!(format!("{error:#}").contains(Meta::FILE));
    }
}
