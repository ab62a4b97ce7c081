//! Open objects of named numbers: an algorithm's parameters down, metrics up.

use crate::checks;
use core::fmt;
use heapless::{String, Vec};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Most numbers of one object.
pub const MAX_NAMED: usize = 8;

/// Name of a parameter or a metric: 1 to 24 of `a-z 0-9 _`.
pub type ParamName = String<24>;

/// Named finite numbers, in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Vec<(ParamName, f32), MAX_NAMED>);

/// Numbers that a device reports of a round, by name.
pub type Metrics = Params;

impl Params {
    /// No number.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The number of a name.
    pub fn get(&self, name: &str) -> Option<f32> {
        let found = self.0.iter().find(|(own, _)| own == name)?;
        Some(found.1)
    }

    /// Sets a number; `false` if the name is none, the number is not finite, or there is no room.
    #[must_use]
    pub fn set(&mut self, name: &str, number: f32) -> bool {
        let valid = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
        if name.is_empty() || !name.as_bytes().iter().all(valid) || !number.is_finite() {
            return false;
        }
        if let Some((_, old)) = self.0.iter_mut().find(|(own, _)| own == name) {
            *old = number;
            return true;
        }
        let name = ParamName::try_from(name);
        name.is_ok_and(|name| self.0.push((name, number)).is_ok())
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, f32)> {
        self.0.iter().map(|(name, number)| (name.as_str(), *number))
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Params;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of up to {MAX_NAMED} numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
        let mut params = Params::new();
        while let Some((name, number)) = map.next_entry::<ParamName, Finite>()? {
            if params.get(&name).is_some() || !params.set(&name, number.0) {
                return Err(A::Error::custom(
                    "a name there twice, no name, or one too many",
                ));
            }
        }
        Ok(params)
    }
}

/// A finite number.
struct Finite(f32);

impl<'de> Deserialize<'de> for Finite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checks::finite(deserializer).map(Self)
    }
}
