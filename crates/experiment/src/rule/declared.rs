//! Rules that are declared in a list: a name, a line of help, parameters, and something of their own.

use super::RuleKind;
use fl_param::{ParamError, ParamSpec, Params};

/// Declaration of a rule.
pub trait Declared: Copy + 'static {
    /// The kind in a sentence, as the key has it.
    const KIND: &'static str;

    /// The flag that sets a parameter, and help for it.
    const ARG: (&'static str, &'static str);

    /// The first of the list is the rule unless one is named; without that there is none.
    const HAS_USUAL: bool = true;

    /// The list.
    fn list() -> &'static [Self];

    /// Its name, a line of help, and its parameters.
    fn declaration(&self) -> (&'static str, &'static str, &'static [ParamSpec]);
}

/// A declared rule with the values of its parameters.
#[derive(Clone, Copy)]
pub struct DeclaredChoice<D: 'static> {
    pub(super) kind: &'static D,
    pub(super) params: Params,
}

impl<D: Declared> RuleKind for DeclaredChoice<D> {
    const KIND: &'static str = D::KIND;
    const ARG: Option<(&'static str, &'static str)> = Some(D::ARG);

    fn all() -> Vec<Self> {
        let with_defaults = |kind: &'static D| {
            let (_, _, params) = kind.declaration();
            Self {
                kind,
                params: Params::defaults(params),
            }
        };
        D::list().iter().map(with_defaults).collect()
    }

    fn usual() -> Option<Self> {
        Self::all().into_iter().next().filter(|_| D::HAS_USUAL)
    }

    fn name(&self) -> &'static str {
        self.kind.declaration().0
    }

    fn doc(&self) -> &'static str {
        self.kind.declaration().1
    }

    fn values(&self) -> Vec<(&'static ParamSpec, f64)> {
        self.params.iter().collect()
    }

    fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        self.params.set(name, value)
    }
}
