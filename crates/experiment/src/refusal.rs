//! Refusals: requests that cannot be meant, told before anything starts.

use std::fmt;

/// A request that cannot be meant so; the message says what to change. Ends zfl with status 2, as
/// clap does for flags that it refuses.
#[derive(Debug)]
pub struct Refusal(pub String);

impl Refusal {
    /// A refusal of an error that came before anything was started.
    pub fn of(error: impl Into<anyhow::Error>) -> Self {
        Self(format!("{:#}", error.into()))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// Refuses unless `sound`.
///
/// # Errors
/// The message as a [`Refusal`], unless `sound`.
pub fn require(sound: bool, message: impl FnOnce() -> String) -> Result<(), Refusal> {
    if sound {
        Ok(())
    } else {
        Err(Refusal(message()))
    }
}
