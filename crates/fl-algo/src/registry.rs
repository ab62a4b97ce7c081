//! Algorithms by name.

use crate::algorithms::{ALGORITHMS, DEVICE_HALVES};
use crate::client::ClientRule;
#[cfg(feature = "server")]
use crate::server::{ServerRule, Setup};
use crate::vector::{MODEL, SectionSpec, Sizes, Way};
use fl_param::{ParamSpec, Params};

/// One algorithm: all that is to be known of it.
#[derive(Clone, Copy)]
pub struct Algorithm {
    /// Name on the command line and in files.
    pub name: &'static str,
    /// Purpose, in one line.
    pub doc: &'static str,
    /// Paper that describes it.
    pub paper: &'static str,
    /// Its device half.
    pub device: &'static DeviceHalf,
    /// Parameters of its server half.
    pub params: &'static [ParamSpec],
    /// Makes its server half.
    ///
    /// # Errors
    /// Reason against the setup, for a person.
    #[cfg(feature = "server")]
    pub server: fn(&Setup) -> Result<alloc::boxed::Box<dyn ServerRule>, alloc::string::String>,
}

/// The device half of one or more algorithms.
#[derive(Clone, Copy)]
pub struct DeviceHalf {
    /// Name on the wire, of 1 to 24 ASCII characters.
    pub rule: &'static str,
    /// Its parameters.
    pub params: &'static [ParamSpec],
    /// The rule.
    pub client: &'static dyn ClientRule,
}

impl DeviceHalf {
    /// Sections of a message, in their order.
    pub fn sections(
        &self,
        params: &Params,
        way: Way,
        sizes: &Sizes,
    ) -> impl Iterator<Item = SectionSpec> + use<> {
        let (sizes, count) = (*sizes, self.client.stays(params).travelling(sizes));
        let has_model = count > 0 && way != Way::State;
        let model = has_model.then_some(SectionSpec {
            name: MODEL,
            count,
            exact: false,
        });
        let vectors = self.client.vectors(params).iter();
        let beside = vectors.filter_map(move |spec| spec.section(way, &sizes));
        model.into_iter().chain(beside)
    }

    /// Tells if anything stays on the device from round to round that nobody else has.
    pub fn keeps_personal(&self, params: &Params, sizes: &Sizes) -> bool {
        self.personal_numbers(params, sizes) > 0
    }

    /// Numbers that stay on the device from round to round and that nobody else has.
    pub fn personal_numbers(&self, params: &Params, sizes: &Sizes) -> usize {
        let vectors = self.client.vectors(params).iter();
        let vectors = vectors.filter(|spec| spec.is_personal());
        let beside: usize = vectors.map(|spec| spec.length.of(sizes)).sum();
        sizes.num_params - self.client.stays(params).travelling(sizes) + beside
    }
}

impl core::fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Algorithm")
            .field("name", &self.name)
            .field("rule", &self.device.rule)
            .finish_non_exhaustive()
    }
}

/// An algorithm by its name.
pub fn find(name: &str) -> Option<&'static Algorithm> {
    ALGORITHMS.iter().copied().find(|known| known.name == name)
}

/// A device half by its name on the wire.
pub fn find_rule(rule: &str) -> Option<&'static DeviceHalf> {
    DEVICE_HALVES.iter().copied().find(|half| half.rule == rule)
}

/// Names of all client rules, each once.
pub fn rule_names() -> impl Iterator<Item = &'static str> {
    let rules = DEVICE_HALVES.iter().map(|half| half.rule).enumerate();
    rules.filter_map(|(at, rule)| {
        let before = &DEVICE_HALVES[..at];
        (!before.iter().any(|other| other.rule == rule)).then_some(rule)
    })
}
