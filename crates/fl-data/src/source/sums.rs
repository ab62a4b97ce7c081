//! `SHA256SUMS`: the lines that `sha256sum` writes, in all of its forms.
//!
//! A line names a file as it lies in the folder, or, of a file that is packed with gzip, its content by the name
//! without `.gz`.

use crate::error::Problem;
use std::path::{Component, Path};

/// Largest `SHA256SUMS` that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The checksums of a folder.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    lines: Vec<Line>,
}

/// A line: a file's name in the folder, none if it is of another folder; and its sum, none if it is no SHA-256.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    said: String,
    name: Option<String>,
    sum: Option<String>,
}

/// The checksums that a file is held to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Of its content.
    pub content: Vec<String>,
    /// Of the file as it lies there, or of its content.
    pub either: Vec<String>,
}

impl Sums {
    /// Reads the file of this name in a folder; without one there are no checksums.
    ///
    /// # Errors
    /// If it cannot be read, or a line is none of sha256sum's.
    pub fn read(dir: &Path, name: &str) -> Result<Self, Problem> {
        let bytes = match zfl_files::read(&dir.join(name), MAX_BYTES) {
            Err(error) if error.is_missing() => return Ok(Self::default()),
            read => read.map_err(std::io::Error::from)?,
        };
        Self::parse(&String::from_utf8_lossy(&bytes), dir)
    }

    fn parse(text: &str, dir: &Path) -> Result<Self, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate();
        let lines = lines.map(|(at, line)| (at + 1, line.trim_end_matches('\r')));
        let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let lines = lines.map(|(at, line)| {
            let (said, sum) = parse(line).ok_or_else(|| {
                Problem::Sums(format!("line {at} is none that sha256sum writes: {line:?}"))
            })?;
            Ok(Line {
                name: in_folder(&said, dir),
                said,
                sum,
            })
        });
        Ok(Self {
            lines: lines.collect::<Result<_, Problem>>()?,
        })
    }

    /// The checksums of a file of this name, packed with gzip or not.
    pub fn of(&self, file: &str, is_gzip: bool) -> Expected {
        let sums = |name: &str| -> Vec<String> {
            let those = self
                .lines
                .iter()
                .filter(|line| line.name.as_deref() == Some(name));
            those.filter_map(|line| line.sum.clone()).collect()
        };
        let content = bare(file).map_or_else(Vec::new, sums);
        match is_gzip {
            true => Expected {
                content,
                either: sums(file),
            },
            false => Expected {
                content: [content, sums(file)].concat(),
                either: Vec::new(),
            },
        }
    }

    /// A line for people about the lines that hold none of these files to anything.
    pub fn unused(&self, files: &[&str]) -> Option<String> {
        let names = |line: &Line, file: &str| {
            let name = line.name.as_deref();
            name.is_some() && (name == Some(file) || name == bare(file))
        };
        let used = |line: &Line| line.sum.is_some() && files.iter().any(|file| names(line, file));
        let unused: Vec<_> = self.lines.iter().filter(|line| !used(line)).collect();
        let shown = unused
            .iter()
            .take(3)
            .map(|line| line.said.escape_debug().to_string());
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = if unused.len() > 3 { ", …" } else { "" };
        (!unused.is_empty()).then(|| {
            format!(
                "SHA256SUMS has lines that hold no file of the data set to anything: {shown}{more}"
            )
        })
    }
}

/// A name without `.gz`.
fn bare(name: &str) -> Option<&str> {
    name.strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".GZ"))
}

/// Name and SHA-256 of a line; the sum is none where it is of another kind.
fn parse(line: &str) -> Option<(String, Option<String>)> {
    let (escaped, line) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (name, sum) = tagged(line).or_else(|| plain(line))?;
    let name = if escaped {
        unescape(name)
    } else {
        name.to_owned()
    };
    Some((name, sum))
}

/// `<64 hex digits>  <name>`, with `*` before the name for binary mode.
fn plain(line: &str) -> Option<(&str, Option<String>)> {
    let (sum, name) = line.trim_start().split_once([' ', '\t'])?;
    // One more blank or a star; further ones belong to the name, unless an editor lined the names up.
    let name = name.strip_prefix([' ', '*']).unwrap_or(name).trim_start();
    let sum = hex(sum)?;
    (!name.is_empty()).then_some((name, (sum.len() == 64).then_some(sum)))
}

/// `SHA256 (<name>) = <64 hex digits>`, as `sha256sum --tag` and the BSDs write it.
fn tagged(line: &str) -> Option<(&str, Option<String>)> {
    let (kind, rest) = line.split_once(" (")?;
    let (name, sum) = rest.rsplit_once(')')?;
    let sum = hex(sum.trim().strip_prefix('=')?.trim())?;
    let is_kind = kind
        .bytes()
        .all(|octet| octet.is_ascii_alphanumeric() || b"-/".contains(&octet));
    let known = kind.eq_ignore_ascii_case("SHA256") && sum.len() == 64;
    is_kind.then_some((name, known.then_some(sum)))
}

/// A checksum in lower case: MD5 has 32 digits, SHA-512 has 128.
fn hex(text: &str) -> Option<String> {
    let digits = text.bytes().all(|octet| octet.is_ascii_hexdigit());
    ([32, 40, 56, 64, 96, 128].contains(&text.len()) && digits).then(|| text.to_ascii_lowercase())
}

/// A name whose backslashes and line ends sha256sum has escaped.
fn unescape(name: &str) -> String {
    let mut plain = String::new();
    let mut chars = name.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain
}

/// The name in the folder of a path that leads there: from in it, from above it, or from the root.
fn in_folder(path: &str, dir: &Path) -> Option<String> {
    let path = Path::new(path);
    let name = path.file_name()?.to_str()?.to_owned();
    let above = path.parent()?.components();
    let above: std::path::PathBuf = above
        .filter(|part| !matches!(part, Component::CurDir))
        .collect();
    let here = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    here.ends_with(above).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "00e0c911bc8a7cf372f89346211c3144fa804d046c2d1e36300e0d71fe7811b6";

    fn sums(text: &str) -> Sums {
        Sums::parse(text, Path::new("/data/mnist")).unwrap()
    }

    #[test]
    fn every_form_of_sha256sum_is_read() {
        let upper = SUM.to_uppercase();
        for line in [
            format!("{SUM}  a"),
            format!("{SUM} *a"),
            format!("{SUM} a"),
            format!("{SUM}  ./a"),
            format!("{SUM}  .//a\r"),
            format!("{upper}  a"),
            format!("SHA256 (a) = {SUM}"),
            format!("SHA256 (./a) = {upper}"),
            format!("{SUM}  mnist/a"),
            format!("{SUM}  data/mnist/a"),
            format!("{SUM}  /data/mnist/a"),
            format!("\u{feff}{SUM}  a"),
            format!("# of the data\n\n{SUM}  a\n"),
        ] {
            assert_eq!(sums(&line).of("a", false).content, [SUM], "{line:?}");
        }
        let escaped = sums(&format!("\\{SUM}  a\\\\b\\nc"));
        assert_eq!(escaped.of("a\\b\nc", false).content, [SUM]);
    }

    #[test]
    fn a_packed_file_is_held_to_both_of_its_names() {
        let expected = sums(&format!("{SUM}  a\n{SUM}  a.gz")).of("a.gz", true);
        assert_eq!(
            (&expected.content[..], &expected.either[..]),
            (&[SUM.to_owned()][..], &[SUM.to_owned()][..])
        );
    }

    #[test]
    fn lines_of_nothing_are_told_and_others_refused() {
        let all = format!(
            "{SUM}  a\n{SUM}  README.md\n{SUM}  other/a\nMD5 (a) = {}",
            "0".repeat(32)
        );
        let said = sums(&all).unused(&["a", "b"]).unwrap();
        assert!(said.ends_with("README.md, other/a, a"), "{said}");
        assert_eq!(sums(&format!("{SUM}  a")).unused(&["a.gz"]), None);
        for bad in ["no checksum at all", "0123  a", SUM, "SHA256 (a) ="] {
            let refused = Sums::parse(&format!("{SUM}  a\n{bad}"), Path::new(".")).unwrap_err();
            assert!(refused.to_string().contains("line 2"), "{bad}: {refused}");
        }
    }
}
