//! The kinds of rules: partitioners, algorithms, attacks, selectors.

use super::{Chosen, RuleKind};
use fl_algo::{ALGORITHMS, ATTACKS, AttackChoice, Choice, SectionSpec, Sizes, Way};
use fl_data::{PARTITIONERS, Partitioner};
use fl_param::{ParamError, ParamSpec, Params};
use fl_round::Selection;

/// A partitioner with the values of its parameters: `[partition]`, `--partition`, `--partition-arg`.
pub type Partitioning = Chosen<PartitionChoice>;

/// An algorithm with the values of its parameters: `[strategy]`, `--strategy`, `--strategy-arg`.
pub type Strategy = Chosen<Choice>;

/// An attack with the values of its parameters: `attack` of a group.
pub type Attacking = Chosen<AttackChoice>;

/// A selector with the values of its parameters: `[selection]`, `--selection`, `--selection-arg`.
pub type Selecting = Chosen<Selection>;

/// A partitioner with the values of its parameters.
#[derive(Clone, Copy)]
pub struct PartitionChoice {
    /// The partitioner.
    pub rule: &'static dyn Partitioner,
    /// Values of its parameters.
    pub params: Params,
}

impl RuleKind for PartitionChoice {
    const KIND: &'static str = "partition";
    const ARG: Option<(&'static str, &'static str)> = Some((
        "partition-arg",
        "Parameter of --partition, as often as needed: alpha=0.1",
    ));

    fn all() -> Vec<Self> {
        let with_defaults = |rule: &&'static dyn Partitioner| Self {
            rule: *rule,
            params: Params::defaults(rule.params()),
        };
        PARTITIONERS.iter().map(with_defaults).collect()
    }

    fn name(&self) -> &'static str {
        self.rule.name()
    }

    fn doc(&self) -> &'static str {
        self.rule.doc()
    }

    fn values(&self) -> Vec<(&'static ParamSpec, f64)> {
        self.params.iter().collect()
    }

    fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        self.params.set(name, value)
    }
}

impl RuleKind for Choice {
    const KIND: &'static str = "strategy";
    const ARG: Option<(&'static str, &'static str)> = Some((
        "strategy-arg",
        "Parameter of --strategy, as often as needed: proximal_mu=0.1; `zfl schema` has them all",
    ));

    fn all() -> Vec<Self> {
        ALGORITHMS.iter().copied().map(Self::new).collect()
    }

    fn name(&self) -> &'static str {
        self.algorithm.name
    }

    fn doc(&self) -> &'static str {
        self.algorithm.doc
    }

    fn values(&self) -> Vec<(&'static ParamSpec, f64)> {
        self.device_params
            .iter()
            .chain(self.params.iter())
            .collect()
    }

    fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        Self::set(self, name, value)
    }
}

impl RuleKind for Selection {
    const KIND: &'static str = "selection";
    const ARG: Option<(&'static str, &'static str)> = Some((
        "selection-arg",
        "Parameter of --selection, as often as needed: num_candidates=30",
    ));

    fn all() -> Vec<Self> {
        Self::all().collect()
    }

    fn name(&self) -> &'static str {
        self.selector.name()
    }

    fn doc(&self) -> &'static str {
        self.selector.doc()
    }

    fn values(&self) -> Vec<(&'static ParamSpec, f64)> {
        self.params.iter().collect()
    }

    fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        Self::set(self, name, value)
    }
}

impl RuleKind for AttackChoice {
    const KIND: &'static str = "attack";

    fn all() -> Vec<Self> {
        ATTACKS.iter().copied().map(Self::new).collect()
    }

    fn usual() -> Option<Self> {
        None
    }

    fn name(&self) -> &'static str {
        self.attack.name()
    }

    fn doc(&self) -> &'static str {
        self.attack.doc()
    }

    fn values(&self) -> Vec<(&'static ParamSpec, f64)> {
        self.params.iter().collect()
    }

    fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        Self::set(self, name, value)
    }
}

impl Strategy {
    /// Its name in a sentence.
    pub fn title(&self) -> String {
        if self.algorithm.name == Choice::default().algorithm.name {
            return "federated averaging".to_owned();
        }
        self.to_string()
    }

    /// Sections of its messages.
    pub fn sections(&self, way: Way, sizes: &Sizes) -> impl Iterator<Item = SectionSpec> + use<> {
        let half = self.algorithm.device;
        half.sections(&self.device_params, way, sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::asked;
    use super::*;

    #[test]
    fn a_table_is_read_and_written() {
        let text = "name = \"fedprox\"\nproximal_mu = 0.1\n";
        let strategy = Strategy::resolve(Some(&asked(text))).unwrap();
        assert_eq!(toml::to_string(&strategy).unwrap(), text);
        assert_eq!(strategy.to_string(), "fedprox (proximal_mu 0.1)");
        let usual = Strategy::resolve(None).unwrap();
        assert_eq!(toml::to_string(&usual).unwrap(), "name = \"fedavg\"\n");
        let text = "name = \"fedbuff\"\nbuffer_size = 3\n";
        let strategy = Strategy::resolve(Some(&asked(text))).unwrap();
        let written = toml::to_string(&strategy).unwrap();
        assert!(written.contains("\nbuffer_size = 3\n"), "{written}");
        let again = Strategy::resolve(Some(&asked(&written))).unwrap();
        assert_eq!(again.to_string(), strategy.to_string());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let refused = |text| Strategy::resolve(Some(&asked(text))).unwrap_err().0;
        let names: Vec<_> = ALGORITHMS.iter().map(|known| known.name).collect();
        let all = format!("there is no strategy `x`: take {}", names.join(" or "));
        for (text, why) in [
            (
                "name = \"fedprocks\"",
                "there is no strategy `fedprocks`: did you mean `fedprox`?",
            ),
            ("name = \"x\"", all.as_str()),
            (
                "name = \"fedprox\"\nproximal_nu = 1",
                "strategy fedprox: there is no `proximal_nu`: did you mean `proximal_mu`?",
            ),
            (
                "name = \"fedprox\"\nproximal_mu = -1",
                "strategy fedprox: proximal_mu is -1, it must be from 0 to 1000000",
            ),
            (
                "name = \"fedbuff\"\nbuffer_size = 2.5",
                "strategy fedbuff: buffer_size is 2.5, it must be a whole number",
            ),
            (
                "mu = 1",
                "strategy fedavg: it has no parameters, and so no `mu`",
            ),
        ] {
            assert_eq!(refused(text), why);
        }
    }

    #[test]
    fn an_attack_is_named_and_has_parameters() {
        let resolve = |text| Attacking::resolve(Some(&asked(text)));
        let attack = resolve("name = \"sign-flip\"\nscale = 2").unwrap();
        assert_eq!(attack.to_string(), "sign-flip (scale 2)");
        let written = toml::to_string(&attack).unwrap();
        assert_eq!(written, "name = \"sign-flip\"\nscale = 2.0\n");
        let refused = |text| resolve(text).unwrap_err().0;
        let names: Vec<_> = ATTACKS.iter().map(|known| known.name()).collect();
        assert_eq!(
            refused("scale = 2"),
            format!("attack has no name: take {}", names.join(" or "))
        );
        assert_eq!(
            refused("name = \"sign-flap\""),
            "there is no attack `sign-flap`: did you mean `sign-flip`?"
        );
        assert_eq!(
            refused("name = \"label-flip\"\nscale = 2"),
            "attack label-flip: it has no parameters, and so no `scale`"
        );
    }
}
