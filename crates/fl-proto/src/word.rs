//! Secret words: that of a device, which its aggregator has to show, and that of whoever joins.
//!
//! Words travel in header lines and never in a URL, which servers and proxies write down.

use core::fmt;
use core::str::FromStr;
use subtle::ConstantTimeEq;

/// Characters of a word, at least and at most. A shorter one could be guessed.
const LENGTH: core::ops::RangeInclusive<usize> = 16..=32;

/// A secret of 16 to 32 letters, digits, `-` and `_`.
///
/// It can be put into no log by accident: [`Word::text`] is the only way to its text. Words are compared
/// in constant time.
#[derive(Clone, Copy)]
pub struct Word {
    bytes: [u8; *LENGTH.end()],
    len: u8,
}

impl Word {
    /// Header line by which a device tells its word at `/id`, and by which the aggregator shows it.
    pub const HEADER: &'static str = "Zfl-Word";

    /// Header line with the secret of whoever joins.
    pub const SECRET_HEADER: &'static str = "Zfl-Secret";

    /// Bytes of randomness behind a word that nobody chose.
    pub const RANDOM_BYTES: usize = 16;

    /// The word of these random bytes, in hexadecimal.
    pub fn random(bytes: [u8; Self::RANDOM_BYTES]) -> Self {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        let mut text = [0; *LENGTH.end()];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        let len = text.len() as u8;
        Self { bytes: text, len }
    }

    /// The word of a header's value; `None` if it is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !LENGTH.contains(&text.len()) || !text.iter().all(is_plain) {
            return None;
        }
        let mut bytes = [0; *LENGTH.end()];
        bytes[..text.len()].copy_from_slice(text);
        let len = text.len() as u8;
        Some(Self { bytes, len })
    }

    /// Compares what was shown with this word.
    pub fn matches(&self, shown: &[u8]) -> bool {
        self.text().as_bytes().ct_eq(shown).into()
    }

    /// Its text, to be shown to whom it is meant for.
    pub fn text(&self) -> &str {
        // Plain ASCII, as both ways to make one see to.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("")
    }
}

/// The text is no word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoWord;

impl fmt::Display for NoWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (LENGTH.start(), LENGTH.end());
        write!(
            f,
            "take {least} to {most} letters, digits, - or _ that nobody guesses"
        )
    }
}

impl core::error::Error for NoWord {}

impl FromStr for Word {
    type Err = NoWord;

    fn from_str(text: &str) -> Result<Self, NoWord> {
        Self::parse(text.as_bytes()).ok_or(NoWord)
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.text().as_bytes())
    }
}

impl Eq for Word {}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Word(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_make_a_word_that_reads_back() {
        let bytes = core::array::from_fn(|i| (i * 17) as u8);
        let word = Word::random(bytes);
        assert_eq!(word.text(), "00112233445566778899aabbccddeeff");
        assert_eq!(Word::parse(word.text().as_bytes()), Some(word));
        assert_ne!(Word::random([0; 16]), Word::random([1; 16]));
    }

    #[test]
    fn only_the_whole_word_matches() {
        let word: Word = "correct-horse_battery".parse().unwrap();
        assert!(word.matches(b"correct-horse_battery"));
        for wrong in [
            &b""[..],
            b"correct-horse_batter",
            b"correct-horse_battery2",
            b"Correct-horse_battery",
        ] {
            assert!(!word.matches(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_could_be_guessed_or_would_have_to_be_quoted_is_no_word() {
        for text in [
            "",
            "fifteen-letters",
            "with a space in it",
            "with=equals=in=it",
            "thirty-three-characters-are-a-lot",
            "ünsichtbar-ünsichtbar",
            "line-end-within\r\nX: y",
        ] {
            assert!(text.parse::<Word>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_word_is_not_shown_by_accident() {
        let word: Word = "correct-horse_battery".parse().unwrap();
        assert_eq!(std::format!("{word:?}"), "Word(…)");
    }
}
