//! The token without which a run can only be looked at.

use anyhow::{Context, Result};
use std::fmt::{self, Write as _};
use subtle::ConstantTimeEq;

/// Bytes of a random token: 128 bits, more than can be tried out.
const RANDOM_BYTES: usize = 16;

/// Characters that a token has at least and at most. A shorter one could be guessed, a longer one
/// would burden every request.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=256;

/// A secret that whoever controls a run has to show. It can be put neither into a log nor into a file
/// by accident: [`Token::fragment`] is the only way to its text.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// One that nobody can guess.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).context("the system gives no random numbers for a token")?;
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }

    /// One that somebody chose.
    ///
    /// # Errors
    /// Advice for a better choice, without the text: it may nearly be the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        // What neither an address nor a header has to quote.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if LENGTH.contains(&text.len()) && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        let (least, most) = (LENGTH.start(), LENGTH.end());
        Err(format!(
            "take {least} to {most} letters, digits, '-', '.', '_' and '~' that nobody guesses"
        ))
    }

    /// Compares a given token with this one in constant time.
    pub fn matches(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }

    /// Fragment with the token, for the page's address. Browsers keep a fragment to themselves: it is in no
    /// request, and so in no log of one.
    pub fn fragment(&self) -> String {
        format!("#token={}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_token_is_128_bits_and_never_the_same() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(one.0.len(), 32);
        assert!(Token::parse(&one.0).is_ok());
        assert!(!one.matches(other.0.as_bytes()));
        assert_eq!(one.fragment(), format!("#token={}", one.0));
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::parse("correct-horse-battery").unwrap();
        assert!(token.matches(b"correct-horse-battery"));
        for wrong in [
            &b""[..],
            b"correct-horse",
            b"correct-horse-battery2",
            b"Correct-horse-battery",
        ] {
            assert!(!token.matches(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_refused_is_not_repeated_and_what_is_taken_is_not_shown() {
        for text in [
            "",
            "short",
            "with a space in it",
            "with/slash/in/it",
            "ünsichtbar-ünsichtbar",
        ] {
            let advice = Token::parse(text).unwrap_err();
            assert!(text.is_empty() || !advice.contains(text), "{advice}");
        }
        assert!(Token::parse(&"x".repeat(257)).is_err());
        let token = Token::parse("correct-horse-battery").unwrap();
        assert!(!format!("{token:?}").contains("horse"));
    }
}
