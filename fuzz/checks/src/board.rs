//! `boards/<name>/board.toml`, and the command line of QEMU that follows from it.

use crate::{Verdict, folder};
use zfl_machine::{Board, Card, Tuning, arguments};

/// Nothing in a stranger's board names a file, a socket or a program.
fn strangers(folder: &Path) {
    let elsewhere = Path::new("/nowhere");
    if let Ok(board) = Board::load(elsewhere, folder.to_str().expect("a name of text")) {
        let asked = [&board.machine.machine, &board.machine.cpu, &board.nic.model];
        let asked = asked.into_iter().chain(&board.machine.extra_args);
        assert!(
            asked
                .chain(board.nic.options.values())
                .all(|text| !text.contains(['/', ':', '|']))
        );
        assert!(board.machine.qemu.starts_with("qemu-system-"));
    }
}

pub(crate) fn check(input: &[u8]) -> Verdict {
    let root = folder([("boards/it/board.toml", input)]);
    let board = Board::load(Some(root.path()), "it");
    if let Ok(board) = &board {
        let card = Card {
            netdev: "user,id=n0".into(),
            inherited: None,
            mac: "52:54:00:00:00:01".into(),
        };
        let line = arguments(board, Tuning::default(), "it", &card, 9);
        let given = |argument: &str| line.iter().any(|one| one == argument);
        assert!(given("-kernel") && given("-netdev") && given("-device"));
        assert!(board.check_memory(board.machine.memory_mib).is_ok());
    }
    strangers(&root.path().join("boards/it"));
    Verdict::of(&board)
}
