//! The encodings of the model and of updates: `encoding_down` and `encoding_up` of a file.

use crate::rule::{Chosen, RuleKind};
use fl_param::{ParamError, ParamSpec};
use fl_proto::codec::{self, Codec, Encodes, Encoding};
use serde::ser::{Serialize, Serializer};

/// The encoding of updates: `encoding_up`, `--encoding-up`, `--encoding-arg`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upward(pub Encoding);

/// The encoding of the model on its way to devices: `encoding_down`, `--encoding-down`, `--encoding-down-arg`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Downward(pub Encoding);

/// An encoding, with `is_of` telling which codecs there are to choose from.
fn all(is_of: impl Fn(&dyn Codec) -> bool) -> impl Iterator<Item = Encoding> {
    let found = codec::ALL.iter().copied();
    found.filter(move |codec| is_of(*codec)).map(Encoding::new)
}

impl RuleKind for Upward {
    const KIND: &'static str = "encoding";
    const ARG: Option<(&'static str, &'static str)> = Some((
        "encoding-arg",
        "Parameter of --encoding-up, as often as needed: k=0.01; `zfl schema` has them all",
    ));

    fn all() -> Vec<Self> {
        all(|_| true).map(Self).collect()
    }

    fn name(&self) -> &'static str {
        self.0.codec().name()
    }

    fn doc(&self) -> &'static str {
        self.0.codec().doc()
    }

    fn values(&self) -> Vec<(&'static ParamSpec, f64)> {
        self.0.params().collect()
    }

    fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        self.0.set(name, value)
    }
}

impl RuleKind for Downward {
    const KIND: &'static str = "encoding of the model";
    const ARG: Option<(&'static str, &'static str)> = Some((
        "encoding-down-arg",
        "Parameter of --encoding-down, as often as needed: levels=15",
    ));

    fn all() -> Vec<Self> {
        let has_down = |codec: &dyn Codec| codec.encodes() != Encodes::ChangesWithFeedback;
        all(has_down).map(Self).collect()
    }

    fn name(&self) -> &'static str {
        self.0.codec().name()
    }

    fn doc(&self) -> &'static str {
        self.0.codec().doc()
    }

    fn values(&self) -> Vec<(&'static ParamSpec, f64)> {
        self.0.params().collect()
    }

    fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        self.0.set(name, value)
    }
}

/// Writes a rule: its name alone, if it has no parameters.
pub(crate) fn write<K: RuleKind, S: Serializer>(
    rule: &Chosen<K>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match rule.values().is_empty() {
        true => rule.name().serialize(to),
        false => rule.serialize(to),
    }
}
