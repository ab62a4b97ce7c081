//! Checks on single fields, made while a message is read, by both JSON parsers alike.

use crate::Token;
use serde::{Deserialize, Deserializer, de::Error};

/// A finite number.
///
/// JSON has no NaN and no infinity: writers put `null` in their place, which one parser reads as NaN
/// and the other refuses, and a number like `1e39` is infinite as f32. All of that is refused here.
pub(crate) fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    Option::<f32>::deserialize(deserializer)?
        .filter(|number| number.is_finite())
        .ok_or_else(|| D::Error::custom("expected a finite number, and null stands for NaN"))
}

/// A finite number, where there may be none at all; `null` is refused as by [`finite`].
pub(crate) fn finite_if_there<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f32>, D::Error> {
    finite(deserializer).map(Some)
}

/// A token: 1 to 16 of `A-Z a-z 0-9 - _`, so that it reads the same with and without JSON's escapes.
pub(crate) fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Token, D::Error> {
    let token = Token::deserialize(deserializer)?;
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if token.is_empty() || !token.as_bytes().iter().all(valid) {
        return Err(D::Error::custom(
            "expected a token of 1 to 16 letters, digits, - or _",
        ));
    }
    Ok(token)
}
