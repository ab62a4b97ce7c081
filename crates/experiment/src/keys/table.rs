//! Tables of a file: keys read one by one. The schema has refused those that are unknown.

use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A table of a file.
pub(crate) trait Table: Default {
    /// Reads the value of a key.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// An error about a key that is none of a table's.
pub(crate) fn unknown<E: Error>(key: &str) -> E {
    E::custom(format!("there is no key `{key}` here"))
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
            while let Some(key) = map.next_key::<String>()? {
                table.take(&key, &mut map)?;
            }
            Ok(table)
        }
    }
    from.deserialize_map(Tables(PhantomData))
}
