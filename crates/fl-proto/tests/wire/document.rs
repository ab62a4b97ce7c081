//! The examples in docs/wire-format.md: fenced blocks named ```` ```json NAME ```` (one line, the
//! bytes as they travel) and ```` ```hex NAME ```` (lines of `offset: bytes | note`).

const DOCUMENT: &str = include_str!("../../../../docs/wire-format.md");

/// Every example, by name.
pub fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let mut examples = Vec::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        let Some((language, name)) = line.strip_prefix("```").and_then(|f| f.split_once(' '))
        else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let bytes = match language {
            "json" => block.join("\n").into_bytes(),
            "hex" => parse_hex(&block),
            other => panic!("{name}: blocks are json or hex, not {other}"),
        };
        examples.push((name, bytes));
    }
    examples
}

/// One example.
pub fn example(name: &str) -> Vec<u8> {
    let found = examples().into_iter().find(|(n, _)| *n == name);
    found
        .unwrap_or_else(|| panic!("docs/wire-format.md has no example {name}"))
        .1
}

fn parse_hex(block: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in block {
        let (offset, rest) = line.split_once(": ").expect("offset: bytes | note");
        let (hex, _note) = rest.split_once('|').expect("offset: bytes | note");
        assert_eq!(
            usize::from_str_radix(offset, 16),
            Ok(bytes.len()),
            "offset of {line:?}"
        );
        bytes.extend(
            hex.split_whitespace()
                .map(|b| u8::from_str_radix(b, 16).expect(line)),
        );
    }
    bytes
}
