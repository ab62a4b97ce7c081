//! Mistakes and their places.

use std::fmt;
use std::ops::Range;

/// Mistake in a file, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// The problem and the way out.
    pub problem: String,
    /// The line itself, and the number of characters that are meant.
    excerpt: (String, usize),
}

impl Mistake {
    /// A mistake at these bytes of a text.
    pub(crate) fn new(text: &str, at: &Range<usize>, problem: impl Into<String>) -> Self {
        let start = floor(text, at.start);
        let before = &text[..start];
        let first = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[first..].lines().next().unwrap_or_default();
        let column = text[first..start].chars().count() + 1;
        let end = floor(text, at.end.max(start)).min(first + line.len());
        let meant = text
            .get(start..end)
            .map_or(0, |meant| meant.chars().count());
        Self {
            line: before.matches('\n').count() + 1,
            column,
            problem: problem.into(),
            excerpt: (line.to_owned(), meant.max(1)),
        }
    }
}

/// The byte, or the one at which its character begins.
fn floor(text: &str, byte: usize) -> usize {
    let byte = byte.min(text.len());
    (0..=byte)
        .rev()
        .find(|byte| text.is_char_boundary(*byte))
        .unwrap_or(0)
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            problem,
            excerpt: (text, meant),
        } = self;
        // Control characters would move the mark, or the terminal.
        let text: String = text
            .chars()
            .map(|char| if char.is_control() { ' ' } else { char })
            .collect();
        let margin = line.to_string();
        let (blank, before, mark) = (
            " ".repeat(margin.len()),
            " ".repeat(column - 1),
            "^".repeat(*meant),
        );
        write!(
            f,
            "line {line}, column {column}: {problem}\n{blank} |\n{margin} | {text}\n{blank} | {before}{mark}"
        )
    }
}

impl std::error::Error for Mistake {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_with_its_line() {
        let text = "a = 1\r\nschön = 2\r\n";
        let at = text.find('2').unwrap();
        let said = Mistake::new(text, &(at..at + 1), "no").to_string();
        assert_eq!(
            said,
            "line 2, column 9: no\n  |\n2 | schön = 2\n  |         ^"
        );
        for at in [0..0, 5..99, 10..11, 99..100] {
            assert!(Mistake::new(text, &at, "no").line >= 1);
        }
    }
}
