//! Tokens: words that no device can guess, and the numbers by which the machine knows them.

use fl_proto::Token;
use fl_round::TokenSource;

/// Source of tokens from the operating system's randomness.
pub(crate) fn source() -> TokenSource {
    Box::new(rand::random)
}

/// The word that a device is given.
pub(crate) fn word(number: u64) -> Option<Token> {
    Token::try_from(format!("{number:016x}").as_str()).ok()
}

/// Number of a word that a device brought, if one has that word.
pub(crate) fn number(token: &Token) -> Option<u64> {
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
