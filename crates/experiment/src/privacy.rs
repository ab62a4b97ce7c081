//! Checks of differential privacy against the rest of an experiment: a promise that would not hold is refused.

use crate::experiment::Experiment;
use crate::refusal::{Refusal, require};
use crate::rule::{Hiding, RuleKind, Strategy};
use crate::settings::Settings;
use fl_algo::{MODEL, ServerRule, Sizes, Way};
use fl_round::Selection;
use zfl_aggregator::{Mechanism, Weighting};

/// The privacy asked for, if any, which holds with this algorithm and these rounds.
///
/// # Errors
/// A [`Refusal`] if it would not hold.
pub fn resolve(
    settings: &Settings,
    (strategy, rule): (&Strategy, &dyn ServerRule),
    sizes: &Sizes,
    clients_per_round: u32,
) -> Result<Option<Hiding>, Refusal> {
    let Some(asked) = &settings.privacy else {
        return Ok(None);
    };
    let hiding = Hiding::resolve(Some(asked))?;
    let name = strategy.algorithm.name;
    let mut sent = strategy.sections(Way::Up, sizes);
    let open = sent.find(|section| section.name != MODEL);
    require(open.is_none(), || {
        let section = open.map_or("", |section| section.name);
        format!(
            "privacy: devices of strategy {name} send {section}, which nothing bounds or hides: take another --strategy"
        )
    })?;
    if let Mechanism::Central(_) = hiding.privacy().mechanism {
        central(settings, name, rule)?;
    }
    let fits = hiding.privacy().model_multiplier(clients_per_round);
    require(fits.is_some(), || {
        let stddev = hiding.privacy().count_stddev(clients_per_round);
        format!(
            "privacy: the noise of the count, {stddev}, has to be above half the noise_multiplier: raise \
             clipped_count_stddev or --clients-per-round, or lower noise_multiplier"
        )
    })?;
    Ok(Some(hiding))
}

/// Refuses what would give one client more of the mean than the noise is made for.
fn central(settings: &Settings, name: &str, rule: &dyn ServerRule) -> Result<(), Refusal> {
    require(rule.takes_the_mean(), || {
        format!(
            "privacy: central noise is that of a mean of updates, and strategy {name} takes more of them than their \
             mean: take --strategy fedavg or --privacy local"
        )
    })?;
    require(settings.weighting != Some(Weighting::NumExamples), || {
        "privacy: the noise is made for updates that all weigh the same: leave --weighting out"
            .to_owned()
    })?;
    let selection = settings.selection.as_ref();
    let selection = selection.and_then(|selection| selection.name.as_deref());
    let usual = Selection::usual().map(|usual| usual.name());
    require(selection.is_none() || selection == usual, || {
        "privacy: epsilon reckons with clients that are chosen by chance alone: leave --selection out".to_owned()
    })?;
    require(!settings.use_late(), || {
        "privacy: a late update would count beside that of the round: leave --use-late out"
            .to_owned()
    })
}

/// Lines for people about the privacy of a run.
pub fn notes(experiment: &Experiment) -> Vec<String> {
    let Some(hiding) = &experiment.privacy else {
        return Vec::new();
    };
    let (privacy, rounds) = (hiding.privacy(), experiment.rounds);
    let accountant = privacy.accountant(experiment.sampling());
    let epsilon = accountant.epsilon(rounds);
    let whose = match privacy.mechanism {
        Mechanism::Central(_) => "after",
        Mechanism::Local => "for a device that is in all of",
    };
    let line = if epsilon.is_finite() {
        let delta = privacy.delta;
        format!(
            "privacy: epsilon {epsilon:.2} at delta {delta:e} {whose} {rounds} rounds; see docs/privacy.md"
        )
    } else {
        "privacy: no noise, so no promise".to_owned()
    };
    vec![line]
}
