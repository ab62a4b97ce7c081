//! Text of unknown origin, made safe to show.
//!
//! What a device writes or answers ends up on terminals, in logs and in tables. A character of it that
//! is not to be seen can move a cursor, set a window's title, begin a line that seems to be another's, or
//! turn the direction of writing. So such text is made plain where it comes in, and once.
//!
//! It is characters that are looked at, not bytes: the control sequence introducer U+009B is two bytes
//! of UTF-8, none of which is below 0x20.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod authority;

pub use authority::{Authority, Host, is_of_a_page};

use alloc::string::String;

/// True for a character with an effect on a terminal: controls, of C0 and C1, ends of lines and
/// paragraphs, and those that turn the direction of writing (Unicode's `Bidi_Control`).
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// A text on one line, with a space for each character that [`steers`].
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if steers(c) { ' ' } else { c })
        .collect()
}

/// A text of several lines, without the characters that [`steers`] names but ends of lines and tabs.
pub fn plain_lines(text: &str) -> String {
    let keep = |c: &char| matches!(c, '\n' | '\t') || !steers(*c);
    text.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORGED: &str =
        "no\x1b[2J\x1b]0;pwned\x07 \u{9b}31m\u{202e}\u{2067}\u{200f}\nwarning: fake";

    #[test]
    fn a_reason_is_one_line_that_does_nothing() {
        assert_eq!(plain(FORGED), "no [2J ]0;pwned   31m    warning: fake");
        assert_eq!(plain("grün, 日本, \u{1f600}"), "grün, 日本, \u{1f600}");
        assert_eq!(plain("a\u{2028}b\u{85}c\td"), "a b c d");
    }

    #[test]
    fn a_log_keeps_its_lines() {
        assert_eq!(plain_lines(FORGED), "no[2J]0;pwned 31m\nwarning: fake");
        assert_eq!(plain_lines("a\tb\r\nc"), "a\tb\nc");
    }

    #[test]
    fn every_control_character_steers_and_letters_do_not() {
        let controls = (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32);
        assert_eq!(controls.filter(|c| steers(*c)).count(), 0x20 + 0x21);
        let bidi = [
            0x61c, 0x200e, 0x200f, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e,
        ];
        let bidi = bidi.into_iter().chain(0x2066..=0x2069);
        assert!(bidi.filter_map(char::from_u32).all(steers));
        assert!(!"a é\u{a0}\u{200d}\u{2027}\u{202f}\u{2065}".contains(steers));
    }
}
