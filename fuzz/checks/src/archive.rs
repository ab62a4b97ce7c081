//! Several files in one input: `-- name --` on a line of its own, then the file up to the end of the line
//! before the next such line.

/// Files of an archive, in order. Octets before the first name belong to none.
pub fn unpack(input: &[u8]) -> Vec<(&str, &[u8])> {
    let mut files = Vec::new();
    let mut open: Option<(&str, usize)> = None;
    let mut at = 0;
    for line in input.split_inclusive(|octet| *octet == b'\n') {
        let start = at;
        at += line.len();
        if let Some(name) = name(line) {
            let end = |from: usize| start.saturating_sub(1).max(from);
            files.extend(open.map(|(name, from)| (name, &input[from..end(from)])));
            open = Some((name, at));
        }
    }
    files.extend(open.map(|(name, from)| (name, &input[from..])));
    files
}

fn name(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    line.strip_prefix("-- ")?.strip_suffix(" --")
}

/// Packs files to be read by [`unpack`].
pub fn pack<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let before = if archive.is_empty() { "" } else { "\n" };
        archive.extend_from_slice(format!("{before}-- {name} --\n").as_bytes());
        archive.extend_from_slice(content);
    }
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_unpacked_to_what_was_packed() {
        let files = [
            ("a", &b"one\n-- two\n"[..]),
            ("b", b""),
            ("d", b"no end of a line"),
            ("c", b"no end\xff"),
        ];
        assert_eq!(unpack(&pack(files)), files);
        assert_eq!(unpack(b"nothing\n-- \n"), []);
    }
}
