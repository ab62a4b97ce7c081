//! The graph of the crates against the rules in ARCHITECTURE.md.
//!
//! The block fenced as `floors` there is the only list: floors, and what is absent. Dependencies are those
//! that Cargo tells, without those of tests; imports are the paths in the sources up to their test module.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Members of the workspace as a name in a rule.
const WORKSPACE: &str = "workspace";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Rules as ARCHITECTURE.md lists them.
#[derive(Default)]
struct Rules {
    /// Floor of each crate, by the name of its folder.
    floors: BTreeMap<String, u32>,
    /// Crates and what they must not depend on, directly or not.
    reaches: Vec<(String, Vec<String>)>,
    /// Folders and the crates that no source in them names.
    imports: Vec<(String, Vec<String>)>,
    /// Strings and the only folders of crates with sources that have them.
    strings: Vec<(String, Vec<String>)>,
}

impl Rules {
    fn read() -> Self {
        let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
        let (_, block) = text.split_once("```floors\n").expect("a block of floors");
        let (block, _) = block.split_once("```").expect("an end of the block");
        let mut rules = Self::default();
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            rules.add(line).unwrap_or_else(|| panic!("no rule: {line}"));
        }
        rules
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        if let Some(rest) = line.strip_prefix("floor ") {
            let (floor, crates) = rest.split_once(':')?;
            let floor = floor.parse().ok()?;
            self.floors
                .extend(words(crates).into_iter().map(|name| (name, floor)));
            return Some(());
        }
        for (separator, rules) in [
            (" reaches no ", &mut self.reaches),
            (" imports no ", &mut self.imports),
            (" stands only in ", &mut self.strings),
        ] {
            if let Some((subjects, objects)) = line.split_once(separator) {
                let subjects = words(subjects).into_iter();
                rules.extend(subjects.map(|subject| (subject, words(objects))));
                return Some(());
            }
        }
        None
    }
}

/// Dependencies of every package that the workspace needs, by short names.
struct Graph {
    arrows: BTreeMap<String, BTreeSet<String>>,
    /// Members of the workspace.
    members: BTreeSet<String>,
    /// Members that are the product: those below `crates/`.
    crates: BTreeSet<String>,
}

impl Graph {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--offline"])
            // Crates of other platforms are not fetched by a build.
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names: BTreeMap<String, String> = list(&metadata["packages"])
            .iter()
            .map(|package| (text(&package["id"]), short(&text(&package["name"]))))
            .collect();
        let is_normal = |dependency: &Value| {
            let kinds = list(&dependency["dep_kinds"]);
            kinds.iter().any(|kind| kind["kind"] != "dev")
        };
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let dependencies = list(&node["deps"]);
            let used = dependencies.iter().filter(|one| is_normal(one));
            let used = used.map(|one| names[&text(&one["pkg"])].clone());
            arrows
                .entry(names[&text(&node["id"])].clone())
                .or_default()
                .extend(used);
        }
        let crates = Path::new(&text(&metadata["workspace_root"])).join("crates");
        let is_product = |package: &&Value| {
            let manifest = text(&package["manifest_path"]);
            Path::new(&manifest).starts_with(&crates)
        };
        let packages = list(&metadata["packages"]);
        let product = packages.iter().filter(is_product);
        let members = list(&metadata["workspace_members"]);
        Self {
            arrows,
            members: members.iter().map(|id| names[&text(id)].clone()).collect(),
            crates: product
                .map(|package| short(&text(&package["name"])))
                .collect(),
        }
    }

    /// All that a package depends on, directly or not.
    fn reach(&self, name: &str) -> BTreeSet<String> {
        let (mut found, mut open) = (BTreeSet::new(), vec![name.to_owned()]);
        while let Some(next) = open.pop() {
            for dependency in self.arrows.get(&next).into_iter().flatten() {
                if found.insert(dependency.clone()) {
                    open.push(dependency.clone());
                }
            }
        }
        found
    }
}

/// Name of a package as the rules have it.
fn short(package: &str) -> String {
    package.strip_prefix("zfl-").unwrap_or(package).to_owned()
}

/// Rust sources below a folder, without tests, examples and build scripts, each up to its test module.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir()
            && !["tests", "examples", "benches", "target", "snapshots"].contains(&name.as_str())
        {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && !["tests.rs", "build.rs"].contains(&name.as_str()) {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = without_tests(&text).lines();
            let code = code.filter(|line| !line.trim_start().starts_with("//"));
            found.push((path, code.collect::<Vec<_>>().join("\n")));
        }
    }
    found
}

/// A source up to its test module.
fn without_tests(text: &str) -> &str {
    let is_module = |at: &usize| {
        let line = text[*at..].lines().nth(1);
        line.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    };
    let attributes = text.match_indices("#[cfg(test)]\n");
    let end = attributes.map(|(at, _)| at).find(is_module);
    &text[..end.unwrap_or(text.len())]
}

/// Tells if a source names a crate in a path.
fn names(code: &str, krate: &str) -> bool {
    let path = format!("{}::", krate.replace('-', "_"));
    code.match_indices(&path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    })
}

#[test]
fn every_crate_stands_on_a_floor_and_no_arrow_points_up() {
    let (rules, graph) = (Rules::read(), Graph::read());
    for name in &graph.crates {
        let floor = rules.floors.get(name);
        let floor = floor.unwrap_or_else(|| panic!("ARCHITECTURE.md gives {name} no floor"));
        for below in graph.arrows[name].intersection(&graph.crates) {
            assert!(rules.floors[below] < *floor, "{name} points up to {below}");
        }
    }
    for name in rules.floors.keys() {
        assert!(graph.crates.contains(name), "there is no crate {name}");
    }
}

#[test]
fn what_is_absent_is_reached_by_no_dependency() {
    let (rules, graph) = (Rules::read(), Graph::read());
    for (name, absent) in &rules.reaches {
        assert!(graph.members.contains(name), "there is no crate {name}");
        let reach = graph.reach(name);
        for other in absent {
            if other == WORKSPACE {
                assert_eq!(reach.intersection(&graph.members).next(), None, "{name}");
            }
            assert!(!reach.contains(other), "{name} reaches {other}");
        }
    }
}

#[test]
fn what_is_absent_is_named_by_no_import() {
    for (folder, absent) in &Rules::read().imports {
        let sources = sources(&root().join(folder));
        assert!(!sources.is_empty(), "{folder} has no sources");
        for (path, code) in &sources {
            for krate in absent {
                assert!(!names(code, krate), "{} names {krate}", path.display());
            }
        }
    }
}

/// Ways to open a file that follow links, wait for FIFOs, or believe a size.
const OPENINGS: [&str; 7] = [
    "fs::read(",
    "fs::read_to_string(",
    "fs::write(",
    "File::open(",
    "File::create(",
    "File::options(",
    "OpenOptions::new(",
];

/// Besides, the sandbox makes files in a root of its own, and `sys` opens devices.
#[test]
fn files_of_others_are_opened_by_zfl_files_alone() {
    let crates = root().join("crates");
    let free = ["files", "sandbox"].map(|name| crates.join(name));
    for (path, code) in sources(&crates) {
        if free.iter().any(|folder| path.starts_with(folder)) || path.ends_with("sys.rs") {
            continue;
        }
        let opens = |line: &&str| OPENINGS.iter().any(|name| line.contains(name));
        let line = code
            .lines()
            .filter(opens)
            .find(|line| !line.contains("\"/proc/"));
        assert!(
            line.is_none(),
            "{}: use zfl_files for {line:?}",
            path.display()
        );
    }
}

#[test]
fn names_stand_only_where_they_belong() {
    let sources = sources(&root().join("crates"));
    for (string, folders) in &Rules::read().strings {
        let folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
        let literal = format!("\"{string}\"");
        let mut having = sources
            .iter()
            .filter(|(_, code)| code.contains(&literal))
            .peekable();
        assert!(having.peek().is_some(), "{string} stands nowhere");
        for (path, _) in having {
            let belongs = folders.iter().any(|folder| path.starts_with(folder));
            assert!(belongs, "{} has {literal}", path.display());
        }
    }
}

/// A macro that panics when nobody reads: the command line has a writer of its own.
#[test]
fn nothing_of_the_product_prints_by_a_macro() {
    for (path, code) in sources(&root().join("crates")) {
        for name in ["print!(", "println!(", "dbg!("] {
            assert!(!code.contains(name), "{} has {name}", path.display());
        }
    }
}

/// Crates whose deadlines and time limits stand still while zfl does.
const ON_THE_CLOCK: [&str; 4] = ["aggregator", "machine", "orchestrator", "runner"];

#[test]
fn deadlines_are_of_the_clock_that_stands_still() {
    for name in ON_THE_CLOCK {
        for (path, code) in sources(&root().join("crates").join(name).join("src")) {
            let by_import =
                |line: &str| line.starts_with("use std::time::") && line.contains("Instant");
            let imported = code.lines().any(by_import);
            let named = code.contains("tokio::time::") || code.contains("std::time::Instant");
            assert!(!imported && !named, "{}: use zfl_clock", path.display());
        }
    }
}

#[test]
fn a_path_is_told_from_a_word() {
    assert!(names("use std::io;", "std") && names("(tokio::spawn)", "tokio"));
    assert!(names("fl_nn::Model", "fl-nn"));
    assert!(!names("my_std::io", "std") && !names("crate::std::io", "std"));
}
