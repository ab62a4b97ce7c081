//! Clusters of clients behind the edges of an aggregator, and the numbers of edges in a tree of them.

use std::ops::Range;

use zfl_run_dir::Levels;

use crate::config::Config;
use crate::log::lock;
use crate::shared::Shared;

/// Clusters of clients, each behind an edge of this aggregator; none if all devices join here.
///
/// An edge has a number in the whole run, whatever its depth: its ID follows those of all clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clusters {
    /// Number of the edge of the first cluster; those of the others follow.
    pub first: u32,
    /// Edges of the whole run.
    pub edges: u32,
    /// Edges of each level of the run, from those of the root down.
    pub levels: Vec<u32>,
    /// Their clients, in order.
    pub ranges: Vec<Range<u32>>,
}

impl From<Vec<Range<u32>>> for Clusters {
    /// Clusters of a run whose edges are all of this aggregator.
    fn from(ranges: Vec<Range<u32>>) -> Self {
        Self {
            first: 0,
            edges: ranges.len() as u32,
            levels: (!ranges.is_empty())
                .then_some(ranges.len() as u32)
                .into_iter()
                .collect(),
            ranges,
        }
    }
}

impl Clusters {
    /// True if devices join here.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Number of the edge of a client; none if it joins here.
    fn edge_of(&self, client: u32) -> Option<u32> {
        let at = self.ranges.iter().position(|one| one.contains(&client))?;
        Some(self.first + at as u32)
    }

    /// Place of an edge among those of this aggregator.
    fn at(&self, edge: u32) -> Option<usize> {
        let at = edge.checked_sub(self.first)? as usize;
        (at < self.ranges.len()).then_some(at)
    }
}

impl Config {
    /// Levels of aggregators of the run.
    pub(crate) fn levels(&self) -> Levels {
        Levels {
            edges: self.clusters.levels.clone(),
            clients: self.clients,
            rounds: self.edge_rounds,
        }
    }
}

impl Shared {
    /// ID of the edge of a client; none if it joins here.
    pub(crate) fn edge_of(&self, client: u32) -> Option<u32> {
        let edge = lock(&self.clusters).edge_of(client)?;
        Some(self.config.clients + edge)
    }

    /// Clients of the edge with this ID, if it is one of this aggregator.
    pub(crate) fn cluster(&self, id: u32) -> Option<Range<u32>> {
        let edge = id.checked_sub(self.config.clients)?;
        let clusters = lock(&self.clusters);
        clusters.ranges.get(clusters.at(edge)?).cloned()
    }

    /// Deals the clients out to the edges of this aggregator anew.
    pub(crate) fn deal(&self, ranges: Vec<Range<u32>>) {
        let mut clusters = lock(&self.clusters);
        if ranges.len() == clusters.ranges.len() {
            clusters.ranges = ranges;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_an_inner_aggregator_have_the_numbers_of_the_whole_run() {
        let clusters = Clusters {
            first: 3,
            edges: 9,
            levels: vec![3, 6],
            ranges: vec![4..6, 6..6, 6..9],
        };
        let edges: Vec<_> = (3..10).map(|client| clusters.edge_of(client)).collect();
        assert_eq!(
            edges,
            [None, Some(3), Some(3), Some(5), Some(5), Some(5), None]
        );
        let places: Vec<_> = (2..7).map(|edge| clusters.at(edge)).collect();
        assert_eq!(places, [None, Some(0), Some(1), Some(2), None]);
    }
}
