//! The command line as it can be typed again.

/// This process's command.
pub fn own() -> String {
    command(std::env::args().skip(1).map(without_token))
}

/// The command with these arguments, as a shell takes it.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = |argument: String| {
        if !argument.is_empty() && argument.chars().all(plain) {
            argument
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    let words = std::iter::once("zfl".to_owned()).chain(arguments.map(quoted));
    words.collect::<Vec<_>>().join(" ")
}

/// An argument as it may be written down: without the token, a new one is made when it is repeated.
pub fn without_token(argument: String) -> String {
    match argument.split_once('=') {
        Some((flag @ "--dashboard-token", _)) => flag.to_owned(),
        _ => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_written_down() {
        let words = ["run", "--dashboard-token=correct-horse-battery", "--lr=1"].map(str::to_owned);
        let words = words.into_iter().map(without_token);
        assert_eq!(command(words), "zfl run --dashboard-token --lr=1");
    }

    #[test]
    fn a_command_can_be_repeated() {
        let words = ["run", "--lr=0.5", "", "it's a $HOME"].map(str::to_owned);
        let expected = r"zfl run --lr=0.5 '' 'it'\''s a $HOME'";
        assert_eq!(command(words.into_iter()), expected);
    }
}
