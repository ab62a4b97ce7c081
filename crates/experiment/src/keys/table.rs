//! Tables of a file: keys read one by one, with a suggestion for one that is unknown.

use super::{Key, suggest};
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// A table of a file.
pub(crate) trait Table: Default {
    /// The keys that it may have.
    fn names() -> Vec<&'static str>;

    /// Reads the value of a key.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Names of the keys of several tables.
pub(crate) fn names(tables: &[&[Key]]) -> Vec<&'static str> {
    let keys = tables.iter().copied().flatten();
    keys.map(|key| key.name).collect()
}

/// Reads a table.
pub(crate) fn read<'de, T: Table, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    struct Tables<T>(PhantomData<T>);
    impl<'de, T: Table> Visitor<'de> for Tables<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of keys")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
            let mut table = T::default();
            while let Some(key) = map.next_key_seed(Known(&T::names()))? {
                table.take(&key, &mut map)?;
            }
            Ok(table)
        }
    }
    from.deserialize_map(Tables(PhantomData))
}

/// Reads a key that is one of these.
struct Known<'a>(&'a [&'static str]);

impl<'de> DeserializeSeed<'de> for Known<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        let key = String::deserialize(from)?;
        if self.0.contains(&&*key) {
            return Ok(key);
        }
        Err(D::Error::custom(suggest(&key, self.0)))
    }
}
