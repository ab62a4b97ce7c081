//! Counts of instructions by class, as the plugin shows them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

/// Beginning of the plugin's page, and the octets of a name and of an entry: `crates/tcg-cost/src/totals.rs`.
const MAGIC: &[u8; 8] = b"ZFLCOST1";
const NAME_BYTES: usize = 24;
const ENTRY_BYTES: usize = 32;

/// Size of the page.
pub const PAGE_BYTES: usize = 4096;

/// Counts by the name of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<String, u64>);

/// Failure to read counts.
#[derive(Debug, thiserror::Error)]
pub enum CountsError {
    /// The page cannot be read.
    #[error("the plugin's page cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is none.
    #[error(
        "the plugin has written no page that this zfl reads: build it again with cargo xtask build-plugin"
    )]
    Strange,
}

impl Counts {
    /// Reads the page of a plugin.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(page: &File) -> Result<Self, CountsError> {
        let mut octets = [0; PAGE_BYTES];
        page.read_exact_at(&mut octets, 0)?;
        Self::parse(&octets).ok_or(CountsError::Strange)
    }

    fn parse(page: &[u8]) -> Option<Self> {
        let entries = page.strip_prefix(MAGIC)?.as_chunks::<ENTRY_BYTES>().0;
        let mut counts = BTreeMap::new();
        for entry in entries {
            let (name, count) = entry.split_at(NAME_BYTES);
            let name = name.split(|&octet| octet == 0).next()?;
            if name.is_empty() {
                break;
            }
            let is_plain = |octet: &u8| octet.is_ascii_lowercase() || *octet == b'-';
            if !name.iter().all(is_plain) {
                return None;
            }
            let name = std::str::from_utf8(name).ok()?;
            counts.insert(name.to_owned(), u64::from_ne_bytes(count.try_into().ok()?));
        }
        Some(Self(counts))
    }

    /// Count of a name; 0 of one that is not there.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Names and counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// Counts since another reading of the same page; a count that is lower has not grown. After a boot, whose page is
    /// new, compare with none.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let grew = |name: &str, now: u64| now.saturating_sub(before.of(name));
        let counts = self.iter();
        Self(
            counts
                .map(|(name, now)| (name.to_owned(), grew(name, now)))
                .collect(),
        )
    }
}

impl<const N: usize> From<[(&str, u64); N]> for Counts {
    fn from(counts: [(&str, u64); N]) -> Self {
        let counts = counts.into_iter();
        Self(
            counts
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(entries: &[(&str, u64)]) -> Vec<u8> {
        let mut page = MAGIC.to_vec();
        for (name, count) in entries {
            let mut entry = [0; ENTRY_BYTES];
            entry[..name.len()].copy_from_slice(name.as_bytes());
            entry[NAME_BYTES..].copy_from_slice(&count.to_ne_bytes());
            page.extend(entry);
        }
        page.resize(PAGE_BYTES, 0);
        page
    }

    #[test]
    fn a_page_tells_names_and_counts() {
        let counts = Counts::parse(&page(&[("alu", 7), ("load-next", 2)])).unwrap();
        assert_eq!(counts, Counts::from([("alu", 7), ("load-next", 2)]));
        let later = Counts::from([("alu", 10), ("load-next", 1), ("div", 4)]);
        let grown = later.since(&counts);
        assert_eq!(
            grown,
            Counts::from([("alu", 3), ("load-next", 0), ("div", 4)])
        );
    }

    #[test]
    fn a_page_of_something_else_is_refused() {
        assert!(Counts::parse(&[0; PAGE_BYTES]).is_none());
        assert!(Counts::parse(b"ZFLCOST").is_none());
        assert!(Counts::parse(&page(&[("\x1b[31m", 1)])).is_none());
    }
}
