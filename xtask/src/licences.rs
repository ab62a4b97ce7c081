//! The licence check: every crate that zfl is built from is under a licence on the list.
//!
//! The list is that of `deny.toml`, so that `cargo deny` and this check, which needs no tool and no
//! network, agree.

use crate::{process, project};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

#[derive(Deserialize)]
struct DenyFile {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

/// Checks the crates that go into the workspaces whose manifests are given, tests included.
///
/// # Errors
/// If a crate's licence is missing, unreadable or not on the list; all such crates are named.
pub fn check(manifests: &[PathBuf]) -> Result<()> {
    let allowed = allowed()?;
    let mut crates = BTreeSet::new();
    for manifest in manifests {
        let mut cargo = project::cargo();
        cargo.args([
            "tree",
            "--locked",
            "--workspace",
            "--target",
            "all",
            "--all-features",
        ]);
        cargo
            .args([
                "--prefix",
                "none",
                "--format",
                "{p}\t{l}",
                "--manifest-path",
            ])
            .arg(manifest);
        crates.extend(process::output(&mut cargo)?.lines().filter_map(entry));
    }
    let bad: Vec<_> = crates
        .iter()
        .filter(|(_, licence)| !permitted(licence, &allowed))
        .collect();
    for (name, licence) in &bad {
        eprintln!(
            "not allowed: {name}: {}",
            if licence.is_empty() {
                "no licence"
            } else {
                licence
            }
        );
    }
    if !bad.is_empty() {
        bail!(
            "{} crates are under licences that deny.toml does not list",
            bad.len()
        );
    }
    println!(
        "licences: {} crates, all on the list of deny.toml",
        crates.len()
    );
    Ok(())
}

fn allowed() -> Result<BTreeSet<String>> {
    let path = project::root().join("deny.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let file: DenyFile = toml::from_str(&text).context("deny.toml has no list of licences")?;
    Ok(file.licenses.allow)
}

/// `name vX.Y.Z (path) (*)\tlicence` to (`name vX.Y.Z`, licence).
fn entry(line: &str) -> Option<(String, String)> {
    let (package, licence) = line.split_once('\t')?;
    let package = package
        .split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ");
    Some((package, licence.trim_end_matches("(*)").trim().to_owned()))
}

/// True if the allowed licences satisfy an SPDX expression.
fn permitted(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // Old manifests write `MIT/Apache-2.0` for `MIT OR Apache-2.0`.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed) == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed)?;
    }
    Some(met)
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed)?;
    }
    Some(met)
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let met = any_of(words, allowed)?;
        return words.next_if_eq(&")").map(|_| met);
    }
    if words.next_if_eq(&"WITH").is_some() {
        return Some(allowed.contains(&format!("{word} WITH {}", words.next()?)));
    }
    Some(allowed.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, expected: bool) {
        let allowed = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"];
        let allowed = allowed.into_iter().map(str::to_owned).collect();
        assert_eq!(permitted(expression, &allowed), expected, "{expression}");
    }

    #[test]
    fn one_licence() {
        check("MIT", true);
        check("GPL-3.0", false);
        check("", false);
    }

    #[test]
    fn either_or() {
        check("GPL-3.0 OR MIT", true);
        check("GPL-3.0/MIT", true);
        check("GPL-3.0 OR ISC", false);
    }

    #[test]
    fn both_and_groups() {
        check("(GPL-3.0 OR MIT) AND Unicode-3.0", true);
        check("MIT AND GPL-3.0", false);
        check("MIT OR GPL-3.0 AND ISC", true);
    }

    #[test]
    fn exceptions_are_licences_of_their_own() {
        check("Apache-2.0 WITH LLVM-exception", true);
        check("Apache-2.0", false);
    }

    #[test]
    fn malformed_is_refused() {
        check("(MIT", false);
        check("MIT)", false);
        check("MIT OR", false);
        check("MIT MIT", false);
    }

    #[test]
    fn tree_lines() {
        let line = "zfl v0.1.0 (/some/where)\tApache-2.0 (*)";
        assert_eq!(
            entry(line),
            Some(("zfl v0.1.0".to_owned(), "Apache-2.0".to_owned()))
        );
        assert_eq!(entry(""), None);
    }
}
