//! Programs of the host in place of an emulator: Zephyr's `native_sim`, and whatever else has its serial line at
//! standard input and output and its network at a descriptor.

use std::ffi::OsString;
use std::os::fd::AsRawFd;

use crate::arguments::Card;
use crate::board::Board;

/// Places in a board's words, and what they stand for.
const NETWORK: &str = "{network}";
const MAC: &str = "{mac}";

/// Checks a board whose image is a program: it has nothing that only an emulator has.
///
/// # Errors
/// Advice: the change to make.
pub(crate) fn check(board: &Board, words: &[String]) -> Result<(), String> {
    if board.is_strangers {
        return Err(
            "machine.program is a program that runs on this host's processor, not in an emulator: zfl starts \
             only those of its own boards/"
                .into(),
        );
    }
    if !words.iter().any(|word| word.contains(NETWORK)) {
        return Err(format!(
            "machine.program has no {NETWORK}: it would not find the descriptor of its network"
        ));
    }
    let machine = &board.machine;
    let of_emulators = [
        ("machine.qemu", !machine.qemu.is_empty()),
        ("machine.machine", !machine.machine.is_empty()),
        ("machine.cpu", !machine.cpu.is_empty()),
        ("machine.extra_args", !machine.extra_args.is_empty()),
        ("nic.model", !board.nic.model.is_empty()),
        ("nic.options", !board.nic.options.is_empty()),
        ("storage", board.storage.is_some()),
        ("radio", board.radio.is_some()),
        ("gateway", board.gateway.is_some()),
        ("firmware", board.firmware.is_some()),
        ("clock", board.clock.is_some()),
        ("kernel.command_line", !board.kernel.command_line.is_empty()),
    ];
    match of_emulators.iter().find(|(_, is_there)| *is_there) {
        Some((key, _)) => Err(format!(
            "{key} is of emulators: a board with machine.program has none"
        )),
        None => Ok(()),
    }
}

/// Builds the arguments of a program: the words of its board, with its own network and address.
pub(crate) fn arguments(words: &[String], card: Option<&Card>) -> Vec<OsString> {
    let inherited = card.and_then(|card| card.inherited.as_ref());
    let network = inherited.map_or(-1, AsRawFd::as_raw_fd).to_string();
    let mac = card.map_or("", |card| &card.mac);
    let word = |word: &String| word.replace(NETWORK, &network).replace(MAC, mac).into();
    words.iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::fd::OwnedFd;

    use crate::arguments;
    use crate::arguments::Tuning;
    use crate::board::tests::board;

    #[test]
    fn a_program_is_told_its_network_and_its_address_and_nothing_of_qemus() {
        let inherited = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let fd = inherited.as_raw_fd();
        let card = Card {
            netdev: "of no use".into(),
            inherited: Some(inherited),
            mac: "52:54:00:00:00:07".into(),
        };
        let board = board("native_sim");
        let words = arguments::arguments(
            &board,
            Tuning::default(),
            "zfl-7",
            Some(&card),
            3,
            None,
            None,
        );
        let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
        let network = format!("--eth-if=fd:{fd}");
        assert!(words.contains(&network.as_str()), "{words:?}");
        assert!(words.contains(&"--mac-addr=52:54:00:00:00:07"), "{words:?}");
        assert!(!words.iter().any(|word| word.contains('{')), "{words:?}");
        assert!(words.iter().all(|word| word.starts_with("--")), "{words:?}");
    }

    fn refused(change: impl FnOnce(&mut Board)) -> Option<String> {
        let mut board = board("native_sim");
        change(&mut board);
        let words = board.machine.program.clone()?;
        check(&board, &words).err()
    }

    #[test]
    fn what_only_an_emulator_has_is_refused() {
        assert_eq!(refused(|_| {}), None);
        type Change = (&'static str, fn(&mut Board));
        let changes: [Change; 4] = [
            ("machine.qemu ", |board| {
                board.machine.qemu = "qemu-system-arm".into();
            }),
            ("nic.model ", |board| board.nic.model = "e1000".into()),
            ("kernel.command_line ", |board| {
                board.kernel.command_line = "quiet".into();
            }),
            ("machine.program ", |board| {
                board.machine.program = Some(vec!["--quiet".into()]);
            }),
        ];
        for (key, change) in changes {
            let text = refused(change).expect("it is refused");
            assert!(text.starts_with(key), "{text}");
        }
    }

    #[test]
    fn a_strangers_program_is_not_started() {
        let text = refused(|board| board.is_strangers = true).expect("it is refused");
        assert!(text.contains("only those of its own boards"), "{text}");
    }
}
