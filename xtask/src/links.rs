//! Links in the repository's Markdown: every file and every heading that one names is there.
//!
//! Links to other hosts are left alone: what is checked here comes out the same anywhere, offline.
//! Not seen: a reference link whose definition is missing, which is plain text by Markdown's rules.

use crate::{process, project};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Openings before a link's target: inline links and images, and HTML.
const OPENINGS: [(&str, char); 3] = [("](", ')'), ("src=\"", '"'), ("href=\"", '"')];

/// Checks every Markdown file that git knows or would take in.
///
/// # Errors
/// If a link leads nowhere; all such links are named, by file and line.
pub fn check() -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(project::root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.md",
    ]);
    let files = process::output(&mut git).context("the list of files comes from git")?;
    // A file that was deleted and not yet committed is listed all the same.
    let files = files
        .lines()
        .filter(|file| project::root().join(file).is_file());
    let broken = broken_in(project::root(), files)?;
    if !broken.is_empty() {
        bail!(
            "{} links lead nowhere:\n    {}",
            broken.len(),
            broken.join("\n    ")
        );
    }
    Ok(())
}

/// The links of `files` that lead nowhere, each with its place and the reason.
fn broken_in<'a>(root: &Path, files: impl Iterator<Item = &'a str>) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for file in files {
        let path = root.join(file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (line, target) in links(&text) {
            if let Some(reason) = complaint(root, &path, &target) {
                broken.push(format!("{file}:{line}: {target}: {reason}"));
            }
        }
    }
    Ok(broken)
}

/// Checks a link of `from`; gives the reason if it leads nowhere.
fn complaint(root: &Path, from: &Path, target: &str) -> Option<&'static str> {
    if is_elsewhere(target) {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => from.to_owned(),
        _ => from.parent().unwrap_or(root).join(file),
    };
    let Ok(path) = path.canonicalize() else {
        return Some("no such file");
    };
    if !root.canonicalize().is_ok_and(|root| path.starts_with(root)) {
        return Some("outside the repository");
    }
    if heading.is_empty() || path.extension().is_none_or(|ext| ext != "md") {
        return None;
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    let is_there = anchors(&text).iter().any(|anchor| anchor == heading);
    (!is_there).then_some("no such heading")
}

/// True if a target has a scheme (`https:`, `mailto:`) or a host of its own.
fn is_elsewhere(target: &str) -> bool {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme);
    let has_scheme = scheme.is_some_and(|s| s.chars().all(|c| c.is_ascii_alphanumeric()));
    has_scheme || target.starts_with("//")
}

/// The targets of all links, with their lines from 1.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        for (opening, closing) in OPENINGS {
            let behind = line.split(opening).skip(1);
            links.extend(behind.filter_map(|rest| target(rest.split(closing).next()?, number)));
        }
        let definition = line.trim_start().strip_prefix('[');
        if let Some((_, rest)) = definition.and_then(|rest| rest.split_once("]: ")) {
            links.extend(target(rest, number));
        }
    }
    links
}

/// A target without its title and its angle brackets.
fn target(text: &str, line: usize) -> Option<(usize, String)> {
    let target = text.split_whitespace().next()?;
    Some((line, target.trim_matches(['<', '>']).to_owned()))
}

/// The lines outside fenced code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let mark = ["```", "~~~"]
            .into_iter()
            .find(|mark| line.trim_start().starts_with(mark));
        match (mark, fence) {
            (Some(mark), None) => fence = Some(mark),
            (Some(mark), Some(open)) if mark == open => fence = None,
            (None, None) => return Some((index + 1, line)),
            _ => {}
        }
        None
    })
}

/// A line without what stands between its backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The names that headings can be linked by, as the usual renderers make them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen = HashMap::<String, usize>::new();
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.strip_prefix(' '))?
    });
    headings
        .map(|title| {
            let anchor = slug(title);
            let before = seen.entry(anchor.clone()).or_default();
            *before += 1;
            match *before {
                1 => anchor,
                n => format!("{anchor}-{}", n - 1),
            }
        })
        .collect()
}

/// Lower case, spaces as hyphens, and of all other signs only hyphens and underscores.
fn slug(title: &str) -> String {
    let kept = title.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn has_links(text: &str, expected: &[&str]) {
        let targets: Vec<_> = links(text).into_iter().map(|(_, target)| target).collect();
        assert_eq!(targets, expected);
    }

    #[test]
    fn links_are_seen_in_every_form() {
        has_links(
            "a [b](c.md), [d](e/#f) and ![g](h.svg)",
            &["c.md", "e/#f", "h.svg"],
        );
        has_links("[`a`](b.rs \"title\") [c](<d.md>)", &["b.rs", "d.md"]);
        has_links("<img src=\"a.svg\"> <a href=\"b\">c</a>", &["a.svg", "b"]);
        has_links("[a]: b.md", &["b.md"]);
    }

    #[test]
    fn code_has_no_links() {
        has_links(
            "`[a](b)` and\n```\n[c](d)\n~~~\n[e](f)\n```\n[g](h)",
            &["h"],
        );
    }

    #[test]
    fn headings_are_named_as_renderers_name_them() {
        let text = "# Time, `--time` & more\n## A_b\n```\n# no heading\n```\n## A_b\n#none\nplain";
        assert_eq!(anchors(text), ["time---time--more", "a_b", "a_b-1"]);
    }

    #[test]
    fn what_leads_nowhere_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("repository");
        fs::create_dir_all(root.join("docs")).unwrap();
        fs::write(folder.path().join("outside.md"), "").unwrap();
        fs::write(root.join("docs/b.md"), "# Top\n[up](../a.md#here)").unwrap();
        let text = "## Here\n[1](docs/b.md) [2](docs/b.md#top) [3](#here) [4](https://x.org/y)\n\
                    [5](docs)\n[6](c.md)\n[7](docs/b.md#low) [8](#there) [9](../outside.md)";
        fs::write(root.join("a.md"), text).unwrap();
        let broken = broken_in(&root, ["a.md", "docs/b.md"].into_iter()).unwrap();
        let expected = [
            "a.md:4: c.md: no such file",
            "a.md:5: docs/b.md#low: no such heading",
            "a.md:5: #there: no such heading",
            "a.md:5: ../outside.md: outside the repository",
        ];
        assert_eq!(broken, expected);
    }
}
