//! The number of files, and so of connections, that this process may have open.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The most that is asked for: some programs walk through all that they may have.
const MOST: u64 = 1 << 20;

/// Raises the number as far as the system lets it, and returns it. Processes started later inherit it.
///
/// # Errors
/// If the system does not tell it, or does not raise it.
pub fn raise() -> io::Result<u64> {
    let limit = Resource::RLIMIT_NOFILE;
    let (soft, hard) = getrlimit(limit)?;
    let wanted = hard.min(MOST).max(soft);
    setrlimit(limit, wanted, hard)?;
    Ok(wanted)
}

/// The number as it is; if the system does not tell it, one that every system grants.
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_raised_is_the_limit() {
        assert_eq!(raise().unwrap(), limit());
    }
}
