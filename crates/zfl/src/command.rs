//! The command line as it can be typed again.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// This process's command.
pub fn own() -> String {
    command(std::env::args_os().skip(1).map(without_token))
}

/// The command with these arguments, as a shell takes it.
fn command(arguments: impl Iterator<Item = OsString>) -> String {
    let words = arguments.map(|argument| match argument.to_str() {
        Some(text) => quoted(text),
        None => escaped(argument.as_bytes()),
    });
    let words = std::iter::once("zfl".to_owned()).chain(words);
    words.collect::<Vec<_>>().join(" ")
}

/// A path as a shell takes it.
pub fn quoted_path(path: &Path) -> String {
    match path.to_str() {
        Some(text) => quoted(text),
        None => escaped(path.as_os_str().as_bytes()),
    }
}

/// An argument as a shell takes it.
pub fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// Bytes that are no text, byte by byte where that is needed, for bash and zsh.
fn escaped(argument: &[u8]) -> String {
    let each = argument.iter().map(|&byte| match byte {
        b'\'' | b'\\' => format!("\\{}", byte as char),
        b' '..=b'~' => (byte as char).to_string(),
        _ => format!("\\x{byte:02x}"),
    });
    format!("$'{}'", each.collect::<String>())
}

/// An argument as it may be written down: without the token, a new one is made when it is repeated.
fn without_token(argument: OsString) -> OsString {
    const FLAG: &str = "--dashboard-token";
    match argument.as_bytes().strip_prefix(FLAG.as_bytes()) {
        Some([b'=', ..]) => FLAG.into(),
        _ => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn a_token_is_not_written_down() {
        let words =
            ["run", "--dashboard-token=correct-horse-battery", "--lr=1"].map(OsString::from);
        let words = words.into_iter().map(without_token);
        assert_eq!(command(words), "zfl run --dashboard-token --lr=1");
    }

    #[test]
    fn a_command_can_be_repeated() {
        let words = ["run", "--lr=0.5", "", "it's a $HOME"].map(OsString::from);
        let expected = r"zfl run --lr=0.5 '' 'it'\''s a $HOME'";
        assert_eq!(command(words.into_iter()), expected);
    }

    #[test]
    fn a_name_that_is_no_text_can_be_typed_again() {
        let word = OsString::from_vec(b"M\xe4rz's".to_vec());
        assert_eq!(command([word].into_iter()), r"zfl $'M\xe4rz\'s'");
    }
}
