//! Edges: the fleet dealt out to aggregators between its devices and the root.

use crate::experiment::Experiment;
use crate::refusal::{Refusal, require};
use crate::rule::Strategy;
use crate::settings::Settings;
use fl_algo::ServerRule;
use std::ops::Range;

/// Sums that an edge sends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its line of help in `choice`")]
pub enum EdgeSums {
    Exact,
    Rounded,
}

impl EdgeSums {
    /// True for sums that round nothing.
    pub fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

/// Refuses what cannot be done where an edge adds the updates of its cluster up.
pub(crate) fn check(
    settings: &Settings,
    clients: u32,
    (strategy, rule): (&Strategy, &dyn ServerRule),
) -> Result<(), Refusal> {
    let (edges, rounds, name) = (
        settings.edges(),
        settings.edge_rounds(),
        strategy.0.algorithm.name,
    );
    if edges == 0 {
        return require(rounds == 1 && settings.edge_sums().is_exact(), || {
            "--edge-rounds and --edge-sums are of edges: give --edges, too".to_owned()
        });
    }
    require(edges <= clients, || {
        format!("{edges} edges for {clients} devices: an edge needs one at least, lower --edges")
    })?;
    require(rule.adds_up(), || {
        format!(
            "edges: strategy {name} needs each update by itself, and an edge sends the sum of its cluster's: take \
             another --strategy (docs/algorithms.md says which add up), or leave --edges out"
        )
    })?;
    require(rounds == 1 || rule.takes_the_mean(), || {
        format!(
            "edges: strategy {name} needs more of the updates than their mean, so a cluster cannot run rounds of its \
             own: leave --edge-rounds out"
        )
    })?;
    let each = [
        (
            settings.over_commit() > 0,
            "--over-commit: which updates come first, only the root could know",
        ),
        (
            settings.use_late(),
            "--use-late: the sums of a round are closed",
        ),
        (settings.drop_stragglers(), "--drop-stragglers"),
        (
            settings.privacy.is_some(),
            "--privacy: a bound and its noise are of each update",
        ),
        (
            settings.holdout() > 0.0,
            "--holdout: devices behind edges evaluate no model yet",
        ),
    ];
    for (is_asked, what) in each {
        require(!is_asked, || {
            format!("edges go without {what}; leave it or --edges out")
        })?;
    }
    Ok(())
}

impl Experiment {
    /// Clusters of the edges: as many clients each as can be, in order; none without edges.
    pub fn clusters(&self) -> Vec<Range<u32>> {
        let (clients, edges) = (u64::from(self.clients), u64::from(self.edges));
        let first = |edge: u64| (edge * clients / edges.max(1)) as u32;
        (0..edges)
            .map(|edge| first(edge)..first(edge + 1))
            .collect()
    }

    /// Refuses attacks behind edges: an attack sees the updates of the whole cohort.
    pub(crate) fn fits_edges(&self) -> Result<(), Refusal> {
        let attacks = self.groups.iter().any(|group| group.attack.is_some());
        require(self.edges == 0 || !attacks, || {
            "edges: an attack changes updates, and the root sees only sums of them: leave `attack` or --edges out"
                .to_owned()
        })
    }
}
