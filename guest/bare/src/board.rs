//! Facts of the board, as `build.rs` reads them from `[firmware]` of its `board.toml`: a number `at` of the table
//! `uart` is `UART_AT`.

include!(concat!(env!("OUT_DIR"), "/board.rs"));
