//! Edges that are lost, as planned or by hand, and those whose devices go to another then.

use super::{FaultRunner, State};
use crate::observer::Observer;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use tokio::task::JoinSet;
use zfl_dashboard::Action;
use zfl_orchestrator::FleetEvent;
use zfl_run_dir::{ByHand, EDGE_LOST, FleetRecord};

/// Reason why an update is missing, in the tables.
const LOST: &str = "its edge was lost on purpose";

/// Reason why an update is missing whose edge was killed by hand.
const BY_HAND: &str = "its edge was killed by hand";
/// Reason why a device boots again behind a gateway that has done so.
const FORGOTTEN: &str = "its gateway boots again";

/// Reason why a device boots again behind another edge.
const GIVEN: &str = "it goes to another edge";

impl FaultRunner {
    /// Edges that are lost in a round, and the clients that are without one then.
    pub(super) fn losses(&self, round: u32) -> (BTreeMap<u32, bool>, BTreeSet<u32>) {
        let mut lost = self.plan.lost_edges(round);
        let mut without = BTreeSet::new();
        lost.retain(|&edge, _| {
            let cluster = self.edges.cluster(edge);
            without.extend(cluster.clone().unwrap_or_default());
            cluster.is_some()
        });
        (lost, without)
    }

    /// Loses the edges that are due, now that this client trains, or any.
    pub(super) fn begin_losses(
        self: &Arc<Self>,
        state: &mut State,
        acts: &mut JoinSet<()>,
        client: Option<u32>,
    ) {
        let is_due = |edge: u32| {
            let cluster = self.edges.cluster(edge).unwrap_or_default();
            client.is_none_or(|client| cluster.contains(&client))
        };
        let due: Vec<_> = state
            .lost_edges
            .iter()
            .filter(|(edge, _)| is_due(**edge))
            .collect();
        let due: Vec<(u32, bool)> = due.into_iter().map(|(edge, back)| (*edge, *back)).collect();
        for (edge, back) in due {
            state.lost_edges.remove(&edge);
            *state.counts.entry(EDGE_LOST).or_default() += 1;
            let (runner, round) = (Arc::clone(self), state.round);
            acts.spawn(async move {
                runner.lose(edge, round, LOST, back, None).await;
                if back {
                    runner.bring_edge_back(edge, None).await;
                }
            });
        }
    }

    /// Ends an edge; its devices are lost with it, unless it comes back or another takes them.
    pub(super) async fn lose(
        &self,
        edge: u32,
        round: u32,
        why: &str,
        back: bool,
        hand: Option<ByHand>,
    ) {
        let record = FleetRecord::EdgeLost {
            edge,
            round,
            reboot: back,
            hand,
        };
        self.aggregator.fleet_event(None, record);
        let is_given = !back && self.edges.hands_over();
        if is_given {
            self.state().given.insert(edge);
        }
        self.edges.kill(edge, why, back || is_given).await;
    }

    /// Tells if something happened to a gateway, which is no device. One that died is brought back; its cluster misses
    /// the round.
    pub fn is_of_a_gateway(self: &Arc<Self>, event: &FleetEvent, observer: &dyn Observer) -> bool {
        let machine = match event {
            FleetEvent::Booting { client, .. }
            | FleetEvent::Running { client, .. }
            | FleetEvent::Finished { client }
            | FleetEvent::Refused { client, .. }
            | FleetEvent::Stopped { client }
            | FleetEvent::LogLost { client, .. } => *client,
            FleetEvent::Died(death) => death.client,
            FleetEvent::OffAir { .. } => return false,
        };
        let Some(edge) = self.edges.gateway(machine) else {
            return false;
        };
        let warn = |what: &str, why: &str| {
            observer.on_warning(&format!("the gateway of edge {edge} {what}: {why}"));
        };
        match event {
            FleetEvent::Running { .. } => self.edges.gateway_runs(edge),
            FleetEvent::Refused { reason, .. } => warn("cannot join", reason),
            FleetEvent::LogLost { error, .. } => warn("has lost its log", error),
            FleetEvent::Died(death) => {
                warn("died", &death.reason);
                // One that has not booted would not the next time.
                if self.edges.runs(edge) == Some(true) {
                    self.replace_gateway(edge, death.reason.clone());
                }
            }
            _ => {}
        }
        true
    }

    /// Boots a gateway again that died. It ends with the run: a fleet that is gone boots nothing more.
    fn replace_gateway(self: &Arc<Self>, edge: u32, why: String) {
        let (runner, round) = (Arc::clone(self), self.state().round);
        tokio::spawn(async move {
            runner.lose(edge, round, &why, true, None).await;
            runner.bring_edge_back(edge, None).await;
        });
    }

    /// Starts a lost edge again, and its devices behind a gateway.
    pub async fn bring_edge_back(&self, edge: u32, hand: Option<ByHand>) {
        // What went wrong has been told.
        let _ = self.start_edge(edge, hand).await;
        self.boot_cluster(edge).await;
    }

    /// Starts a lost edge again, and tells how that went.
    async fn start_edge(&self, edge: u32, hand: Option<ByHand>) -> Result<(), String> {
        let started = self.edges.bring_back(edge).await;
        let started = started.map_err(|error| format!("edge {edge}: {error:#}"));
        let record = match &started {
            Ok(()) => FleetRecord::EdgeBack { edge, hand },
            Err(error) => FleetRecord::FaultFailed {
                error: error.clone(),
            },
        };
        self.aggregator.fleet_event(None, record);
        started
    }

    /// Boots the devices of a gateway that has started again: it has forgotten where they are, and they wait to be asked.
    pub async fn boot_cluster(&self, edge: u32) {
        if let Some(cluster) = self.edges.cluster_of_gateway(edge) {
            self.boot_again(cluster, FORGOTTEN).await;
        }
    }

    /// Kills an edge by hand, or starts it again, but for the devices of a gateway: that can take long
    /// ([`FaultRunner::boot_cluster`]).
    ///
    /// # Errors
    /// The reason why nothing was done.
    pub async fn control_edge(&self, edge: u32, action: Action) -> Result<String, String> {
        if !self.state().edges_by_hand.insert(edge) {
            return Err(format!("edge {edge} is being seen to: try again"));
        }
        let done = match self.edges.runs(edge) {
            Some(runs) => self.act_on_edge(edge, action, runs).await,
            None => Err(format!("there is no edge {edge}")),
        };
        self.state().edges_by_hand.remove(&edge);
        done
    }

    async fn act_on_edge(&self, edge: u32, action: Action, runs: bool) -> Result<String, String> {
        let back = action == Action::Reboot;
        if !runs && !back {
            return Err(format!("edge {edge} does not run"));
        }
        if !runs && self.edges.cluster_of(edge).is_empty() {
            return Err(format!("edge {edge} has no devices: they went to another"));
        }
        let (round, hand) = self.count(action.name());
        if runs {
            self.lose(edge, round, BY_HAND, back, Some(hand.clone()))
                .await;
        } else {
            self.state().given.remove(&edge);
            self.edges.expect(edge, BY_HAND);
        }
        if back {
            self.start_edge(edge, (!runs).then_some(hand)).await?;
        }
        Ok(match (runs, back) {
            (true, true) => format!("edge {edge} is killed and starts again"),
            (true, false) => format!("edge {edge} is killed"),
            (false, _) => format!("edge {edge} starts again"),
        })
    }

    /// Gives the devices of lost edges to others, behind which they boot again.
    pub(super) async fn give_away(&self) {
        let given = std::mem::take(&mut self.state().given);
        for edge in given {
            let Some((to, clients)) = self.edges.hand_over(edge) else {
                let clients = self.edges.cluster_of(edge);
                clients.for_each(|client| self.aggregator.client_lost(client, LOST));
                continue;
            };
            let record = FleetRecord::EdgeGiven { edge, to };
            self.aggregator.fleet_event(None, record);
            self.boot_again(clients, GIVEN).await;
        }
    }

    /// Boots those of these devices again that are there.
    async fn boot_again(&self, clients: Range<u32>, why: &str) {
        let gone = self.aggregator.gone();
        let there = clients.filter(|client| !gone.contains_key(client));
        join_all(there.map(|client| self.kill(client, why, true))).await;
    }
}
