//! Tokens: words that no device can guess, of the numbers by which the machine knows them.

pub(crate) use fl_proto::token::{number, word};
use fl_round::TokenSource;

/// Source of tokens from the operating system's randomness.
pub(crate) fn source() -> TokenSource {
    Box::new(rand::random)
}
