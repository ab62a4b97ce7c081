//! The codec of the model and of updates: `encoding_down` and `encoding_up` of a file.

use crate::keys::Form;
use crate::keys::domain::Domain;
use fl_proto::codec::{self, Codec};
use serde::de::Error as _;
use serde::ser::{Serialize, Serializer};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// A codec by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding(pub &'static dyn Codec);

impl Default for Encoding {
    /// The codec that loses nothing.
    fn default() -> Self {
        Self(&codec::F32)
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.name().serialize(to)
    }
}

/// Every codec of the wire.
pub struct Encodings;

fn names() -> Vec<&'static str> {
    codec::ALL.iter().map(|codec| codec.name()).collect()
}

impl Domain for Encodings {
    type Value = Encoding;
    const FORM: Form = Form::Names(|| {
        let all = codec::ALL.iter();
        all.map(|codec| (codec.name(), codec.doc())).collect()
    });

    fn parse(text: &str) -> Result<Encoding, String> {
        let found = codec::by_name(text).map(Encoding);
        found.ok_or_else(|| format!("give one of {}", names().join(", ")))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Encoding, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    fn values() -> String {
        let names: Vec<_> = names().iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    }

    fn schema() -> Value {
        json!({ "enum": names() })
    }

    fn show(value: &Encoding) -> String {
        format!("\"{}\"", value.0.name())
    }
}
