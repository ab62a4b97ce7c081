//! First words of doc comments: a noun or a verb, since a reader searches for the name of a thing and finds
//! nothing under "What" or "How".

use crate::{process, project};
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::Command;

/// Words that no doc comment begins with.
const OPENINGS: [&str; 10] = [
    "What", "How", "Whether", "Where", "Why", "When", "Who", "Which", "So", "That",
];

/// Checks every source file that git knows or would take in.
///
/// # Errors
/// If a doc comment begins with one of [`OPENINGS`]; all are named, by file and line.
pub fn check() -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(project::root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]);
    let files = process::output(&mut git).context("the list of files comes from git")?;
    let mut found = Vec::new();
    for file in files.lines() {
        let path = project::root().join(file);
        // A file that was deleted and not yet committed is listed all the same.
        if path.is_file() {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            found.extend(openings(&text).map(|(line, word)| format!("{file}:{line}: {word} …")));
        }
    }
    if !found.is_empty() {
        bail!(
            "{} doc comments begin with neither a noun nor a verb:\n    {}",
            found.len(),
            found.join("\n    ")
        );
    }
    Ok(())
}

/// Doc comments of a text that begin with one of [`OPENINGS`], with their lines from 1.
fn openings(text: &str) -> impl Iterator<Item = (usize, &'static str)> {
    let mut before = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let mark = mark(line);
        let begins = mark.is_some() && mark != before;
        before = mark;
        let word = line.trim_start().get(3..)?.split_whitespace().next()?;
        let opening = OPENINGS.into_iter().find(|opening| *opening == word)?;
        begins.then_some((index + 1, opening))
    })
}

/// Mark of a line of a doc comment.
fn mark(line: &str) -> Option<&'static str> {
    ["///", "//!"]
        .into_iter()
        .find(|mark| line.trim_start().starts_with(mark))
}

#[cfg(test)]
mod tests {
    use super::openings;

    fn found(text: &str) -> Vec<(usize, &'static str)> {
        openings(text).collect()
    }

    #[test]
    fn the_first_word_of_an_items_doc_counts() {
        assert_eq!(found("//! What a file does.\n"), [(1, "What")]);
        assert_eq!(found("fn a() {}\n    /// How it is\n"), [(2, "How")]);
        assert_eq!(
            found("//! Text.\n/// Where it is.\n/// Why it is.\nfn a() {}\n/// So it is."),
            [(2, "Where"), (5, "So")]
        );
    }

    #[test]
    fn other_words_and_other_comments_pass() {
        for text in [
            "/// Whatever comes first.\n",
            "/// A noun.\n/// What follows is no beginning.\n",
            "// What a comment says is free.\n",
            "let text = \"What\";\n///\n/// ",
            "/// »\n",
        ] {
            assert_eq!(found(text), []);
        }
    }
}
