//! Boots the image on its boards and holds the console to the transcripts in `expected/`.
//!
//! A transcript is what a person at the serial line would see. Each line is expected as it stands,
//! but for spaces at its end, and:
//!
//! | in a transcript | means |
//! |---|---|
//! | `zfl:~$ words` | wait for the prompt, then type the words |
//! | `{type} words` | type the words, prompt or not |
//! | `{n}`, `{x}`, `{path}` | decimal digits, hexadecimal digits, a path |
//! | `{many} line` | one or more lines like this |
//! | `{status} n` | QEMU ends by itself with this status |
//!
//! Build the image first: `cargo xtask build-guest`, or name another one in `ZFL_IMAGE`.

mod aggregator;
mod board;
mod counts;
mod memory;
mod session;

use std::path::Path;

use session::Session;

const BOARDS: [&str; 2] = ["microvm", "q35"];

#[test]
fn shell() {
    check("shell");
}

#[test]
fn selftest() {
    check("selftest");
}

#[test]
fn network() {
    check("network");
}

#[test]
fn hog() {
    check("hog");
}

#[test]
fn crash_panic() {
    check("crash-panic");
}

#[test]
fn crash_fault() {
    check("crash-fault");
}

#[test]
fn crash_stack() {
    check("crash-stack");
}

#[test]
fn crash_heap() {
    check("crash-heap");
}

#[test]
#[ignore = "its firmware has to be built: cargo xtask build-guest --board riscv-virt"]
fn riscv_virt() {
    play("riscv-virt", "riscv-virt");
}

#[test]
#[ignore = "its firmware has to be built: cargo xtask build-guest --board nrf52840"]
fn nrf52840() {
    play("nrf52840", "nrf52840");
}

#[test]
#[ignore = "their firmware has to be built: cargo xtask build-guest --board NAME"]
fn every_microcontroller_computes_the_bits_of_the_host() {
    let boards = board::microcontrollers();
    assert!(boards.len() >= 10, "{boards:?}");
    for board in boards {
        play("selftest", &board);
    }
}

/// Plays a transcript on every PC.
fn check(name: &str) {
    for board in BOARDS {
        play(name, board);
    }
}

/// Plays a transcript on a board.
fn play(name: &str, board: &str) {
    let path = guest()
        .join("tests/expected")
        .join(name)
        .with_extension("txt");
    let transcript = std::fs::read_to_string(&path).expect("the transcript is in the repository");
    let mut session = Session::boot(board);
    for line in transcript.lines() {
        session.play(line);
    }
}

fn guest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
