//! `boards/<name>/board.toml`, and the command line of QEMU that follows from it.

use crate::{Verdict, folder};
use zfl_machine::{Board, Card, Tuning, arguments};

pub(crate) fn check(input: &[u8]) -> Verdict {
    let root = folder([("boards/it/board.toml", input)]);
    let board = Board::load(Some(root.path()), "it");
    if let Ok(board) = &board {
        let card = Card {
            netdev: "user,id=n0".into(),
            inherited: None,
            mac: "52:54:00:00:00:01".into(),
        };
        let line = arguments(board, Tuning::default(), "it", Some(&card), 9, None, None);
        let given = |argument: &str| line.iter().any(|one| one == argument);
        assert!(given("-kernel") && given("-netdev") && given("-device"));
        let values = [&board.machine.machine, &board.machine.cpu, &board.nic.model];
        let values = values.into_iter().chain(&board.machine.extra_args);
        let mut values = values.chain(board.nic.options.values());
        assert!(
            values.all(|text| !text.contains(['/', ':', '|'])),
            "a board reaches out"
        );
        assert!(board.machine.qemu.starts_with("qemu-system-"));
        assert!(board.check_memory(board.machine.memory_mib).is_ok());
    }
    Verdict::of(&board)
}
