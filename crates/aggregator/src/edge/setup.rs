//! Place and manner of an edge, and the experiment as it runs it.

use std::ops::Range;

use fl_proto::Word;

use crate::clusters::Clusters;
use crate::config::Config;

/// The part of a round's deadline that a cluster has: the rest is for the way up.
const PART: u32 = 10;

/// Place and manner of an edge.
#[derive(Clone, Debug)]
pub struct EdgeSetup {
    /// Its number among the edges of the whole run, from 0.
    pub number: u32,
    /// Edges between it and the root, and itself: 1 for one of the root.
    pub level: u32,
    /// Its clients.
    pub cluster: Range<u32>,
    /// Clusters behind edges of its own.
    pub clusters: Clusters,
    /// Address of the aggregator above.
    pub upstream: std::net::SocketAddr,
    /// Secret that it shows there when it joins.
    pub secret: Option<Word>,
    /// Sends rounded means instead of exact sums.
    pub rounded: bool,
    /// Rounds of the cluster for one of the aggregator above.
    pub rounds: u32,
}

impl EdgeSetup {
    /// A secret that nobody can guess.
    pub fn secret() -> Word {
        Word::random(rand::random())
    }
}

/// The experiment as an edge runs it: on every cohort that it is given, as far as it comes.
pub(crate) fn of_edge(config: Config, setup: &EdgeSetup) -> Config {
    let mut each = config.round_deadline / setup.rounds.max(1);
    for _ in 1..setup.level {
        each -= each / PART;
    }
    Config {
        first_round: 1,
        rounds: u32::MAX - 1,
        clients_per_round: config.clients,
        over_commit: 0,
        quorum: 0,
        wait_for: config.clients,
        ready_deadline: each / 4,
        round_deadline: each - each / PART,
        selection: Default::default(),
        order: Default::default(),
        attackers: config.attackers,
        clusters: setup.clusters.clone(),
        ..config
    }
}
