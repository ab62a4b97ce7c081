//! Tokens as words: sixteen hexadecimal digits of the number by which a round machine knows one.

use core::fmt::Write;

use crate::Token;

/// Writes the word of a number.
pub fn word(number: u64) -> Option<Token> {
    let mut token = Token::new();
    write!(token, "{number:016x}").ok()?;
    Some(token)
}

/// Reads the number of a word, if one has that word.
pub fn number(token: &Token) -> Option<u64> {
    let number = u64::from_str_radix(token, 16).ok()?;
    (word(number).as_ref() == Some(token)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_word() {
        for it in [0, 0xab, u64::MAX] {
            assert_eq!(number(&word(it).unwrap()), Some(it));
        }
        for forged in ["ab", "00000000000000AB", "+0000000000000ab", "forged"] {
            assert_eq!(number(&Token::try_from(forged).unwrap()), None, "{forged}");
        }
    }
}
