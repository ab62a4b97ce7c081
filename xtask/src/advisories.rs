//! The check for known faults: no crate of a lock file is named by the RustSec database.
//!
//! The database is a folder of Markdown files, one an advisory. It is looked for where `cargo audit` and
//! `cargo deny` keep theirs, or where `ZFL_ADVISORY_DB` says. `deny.toml` lists the advisories that are
//! known and borne, with the reason, as cargo-deny reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::ci::Outcome;
use crate::project;

/// Checks the crates of every lock file against the database, where there is one.
///
/// # Errors
/// If a crate is named by an advisory that `deny.toml` does not bear, or a file is not as it should be.
pub fn check(locks: &[PathBuf]) -> Result<Outcome> {
    let Some(folder) = database() else {
        return Ok(Outcome::NotRun(
            "no advisory database: git clone https://github.com/RustSec/advisory-db ~/.cargo/advisory-db"
                .to_owned(),
        ));
    };
    let borne = borne(&project::root().join("deny.toml"))?;
    let database = Database::read(&folder)?;
    let mut found = BTreeSet::new();
    let mut crates = BTreeSet::new();
    for lock in locks {
        for package in packages(lock)? {
            found.extend(database.against(&package));
            crates.insert(package);
        }
    }
    let (known, new): (BTreeSet<_>, BTreeSet<_>) =
        found.into_iter().partition(|hit| borne.contains(&hit.id));
    for hit in &new {
        eprintln!("{} {}: {}, {}", hit.name, hit.version, hit.id, hit.kind);
    }
    ensure!(
        new.is_empty(),
        "{} advisories: update the crates, or bear them with a reason in deny.toml",
        new.len()
    );
    println!(
        "advisories: {} of {} crates, none of them new ({} advisories in {})",
        known.len(),
        crates.len(),
        database.len(),
        folder.display()
    );
    Ok(Outcome::Passed)
}

fn database() -> Option<PathBuf> {
    let given = env::var_os("ZFL_ADVISORY_DB").map(PathBuf::from);
    let cargo = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")));
    let of_audit = cargo.iter().map(|cargo| cargo.join("advisory-db"));
    let of_deny = cargo.iter().flat_map(|cargo| {
        let folders = fs::read_dir(cargo.join("advisory-dbs"));
        folders
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    });
    let mut candidates = given.into_iter().chain(of_audit).chain(of_deny);
    candidates.find(|folder| folder.join("crates").is_dir())
}

/// Advisories that are borne: `[advisories] ignore`, as IDs or as tables with an ID and a reason.
fn borne(deny_toml: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct DenyFile {
        advisories: Advisories,
    }
    #[derive(Deserialize)]
    struct Advisories {
        #[serde(default)]
        ignore: Vec<Ignored>,
    }
    #[derive(Deserialize)]
    struct Ignored {
        id: String,
    }
    let file: DenyFile = read_toml(deny_toml)?;
    Ok(file
        .advisories
        .ignore
        .into_iter()
        .map(|one| one.id)
        .collect())
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("read {}", path.display()))
}

/// A crate of a lock file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: Version,
}

/// Crates of a lock file that come from elsewhere.
fn packages(lock: &Path) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct LockFile {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: Version,
        source: Option<String>,
    }
    let file: LockFile = read_toml(lock)?;
    let foreign = file.package.into_iter().filter(|one| one.source.is_some());
    Ok(foreign
        .map(|Locked { name, version, .. }| Package { name, version })
        .collect())
}

/// An advisory, as far as a check needs it.
#[derive(Deserialize)]
struct Advisory {
    advisory: Head,
    #[serde(default)]
    versions: Versions,
}

#[derive(Deserialize)]
struct Head {
    id: String,
    package: String,
    withdrawn: Option<toml::Value>,
    informational: Option<String>,
}

#[derive(Default, Deserialize)]
struct Versions {
    #[serde(default)]
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

/// A crate that an advisory names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    name: String,
    version: Version,
    id: String,
    kind: String,
}

struct Database(BTreeMap<String, Vec<Advisory>>);

impl Database {
    fn read(folder: &Path) -> Result<Self> {
        let mut advisories: BTreeMap<String, Vec<Advisory>> = BTreeMap::new();
        for of_crate in entries(&folder.join("crates"))? {
            for file in entries(&of_crate)? {
                let text = fs::read_to_string(&file)
                    .with_context(|| format!("read {}", file.display()))?;
                let advisory = parse(&text).with_context(|| format!("read {}", file.display()))?;
                let package = advisory.advisory.package.clone();
                advisories.entry(package).or_default().push(advisory);
            }
        }
        if advisories.is_empty() {
            bail!("{} has no advisories: fetch it anew", folder.display());
        }
        Ok(Self(advisories))
    }

    fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn against(&self, package: &Package) -> Vec<Hit> {
        let advisories = self.0.get(&package.name).into_iter().flatten();
        let hits = advisories.filter(|advisory| advisory.names(&package.version));
        hits.map(|Advisory { advisory, .. }| Hit {
            name: package.name.clone(),
            version: package.version.clone(),
            id: advisory.id.clone(),
            kind: advisory
                .informational
                .clone()
                .unwrap_or_else(|| "vulnerability".to_owned()),
        })
        .collect()
    }
}

impl Advisory {
    fn names(&self, version: &Version) -> bool {
        let Versions {
            patched,
            unaffected,
        } = &self.versions;
        let mut spared = patched.iter().chain(unaffected);
        self.advisory.withdrawn.is_none()
            && self.advisory.informational.as_deref() != Some("notice")
            && !spared.any(|range| range.matches(version))
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// The TOML at the head of an advisory, between its fences.
fn parse(text: &str) -> Result<Advisory> {
    let body = text
        .strip_prefix("```toml")
        .context("no ```toml at its head")?;
    let (head, _) = body.split_once("```").context("no end of its head")?;
    Ok(toml::from_str(head)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADVISORY: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2020-0001\"\npackage = \"leaky\"\n\
                            [versions]\npatched = [\">= 1.2.3\", \"^0.9.7\"]\nunaffected = [\"< 0.4\"]\n```\n# Leaks\n";

    fn hits(version: &str, text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let of_crate = folder.path().join("crates/leaky");
        fs::create_dir_all(&of_crate).unwrap();
        fs::write(of_crate.join("RUSTSEC-2020-0001.md"), text).unwrap();
        let database = Database::read(folder.path()).unwrap();
        let package = Package {
            name: "leaky".to_owned(),
            version: version.parse().unwrap(),
        };
        let hits = database.against(&package);
        hits.into_iter()
            .map(|hit| format!("{} {}", hit.id, hit.kind))
            .collect()
    }

    #[test]
    fn a_version_is_named_until_it_is_patched() {
        assert_eq!(hits("0.5.0", ADVISORY), ["RUSTSEC-2020-0001 vulnerability"]);
        assert_eq!(hits("1.2.2", ADVISORY).len(), 1);
        for spared in ["0.3.9", "0.9.7", "1.2.3", "2.0.0"] {
            assert!(hits(spared, ADVISORY).is_empty(), "{spared}");
        }
    }

    #[test]
    fn unmaintained_counts_and_withdrawn_does_not() {
        let unmaintained =
            ADVISORY.replace("[versions]", "informational = \"unmaintained\"\n[versions]");
        assert_eq!(
            hits("0.5.0", &unmaintained),
            ["RUSTSEC-2020-0001 unmaintained"]
        );
        let withdrawn = ADVISORY.replace("[versions]", "withdrawn = \"2021-01-01\"\n[versions]");
        assert!(hits("0.5.0", &withdrawn).is_empty());
    }

    #[test]
    fn only_crates_from_elsewhere_are_looked_up() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("Cargo.lock");
        let text = "[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n[[package]]\nname = \"leaky\"\n\
                    version = \"0.5.0\"\nsource = \"registry+x\"\n";
        fs::write(&lock, text).unwrap();
        let names: Vec<_> = packages(&lock)
            .unwrap()
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(names, ["leaky"]);
    }

    #[test]
    fn an_advisory_without_a_head_is_an_error() {
        assert!(parse("# Leaks").is_err());
        assert!(parse("```toml\n[advisory]").is_err());
    }
}
