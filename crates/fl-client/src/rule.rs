//! The client rule of this build: FedAvg's, which trains by the loss alone and needs no vector.

use fl_proto::Params;

/// A client rule at work.
#[derive(Clone, Debug)]
pub(crate) struct LocalRule;

/// Names of the rules, separated by commas.
pub(crate) const NAMES: &str = fl_proto::DEFAULT_RULE;

impl LocalRule {
    /// The rule of a name, with its vectors; `None` if this device has none such.
    pub fn named(name: &str) -> Option<Self> {
        (name == fl_proto::DEFAULT_RULE).then_some(Self)
    }

    /// Name on the wire.
    pub fn name(&self) -> &'static str {
        fl_proto::DEFAULT_RULE
    }

    /// Takes the parameters of a `/start`.
    pub fn prepare(&mut self, _params: &Params) {}
}
