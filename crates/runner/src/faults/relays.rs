//! Leaves of a mesh whose every way to the gateway leads over a relay that is gone. They are lost with it, and start
//! anew when it does: as in the field a watchdog restarts a node that nobody answers.

use super::FaultRunner;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use zfl_orchestrator::Fleet;
use zfl_orchestrator::faults::Fault;
use zfl_run_dir::{FaultRecord, FleetRecord};

/// Name of the fault, in events and counts.
const CUT_OFF: &str = "cut-off";

/// A leaf that loses its way to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LostWay {
    /// Client whose crash takes it.
    with: u32,
    /// It has one again when all that boot again have booted.
    comes_back: bool,
}

impl FaultRunner {
    /// Leaves that lose their way by the crashes that are due. One that is lost so suffers nothing else.
    pub(super) fn losses_of_ways(&self, due: &mut BTreeMap<u32, Fault>) -> BTreeMap<u32, LostWay> {
        let Some(fleet) = self.fleet.upgrade() else {
            return BTreeMap::new();
        };
        let gone = self.aggregator.gone().into_keys().collect();
        let lost = lost_ways(due, gone, |down| fleet.cut_off(down));
        due.retain(|client, fault| *fault == Fault::DropOut || !lost.contains_key(client));
        lost
    }

    /// Makes leaves crash of their own that are to be lost with one that is not in the round.
    pub(super) fn keep_to_lost_ways(&self, due: &mut BTreeMap<u32, Fault>) {
        let state = self.state();
        for (&leaf, way) in &state.lost_ways {
            if !due.contains_key(&way.with) {
                let reboot = way.comes_back;
                due.insert(leaf, Fault::Crash { reboot });
            }
        }
    }

    /// Kills the gateway of a mesh of machines, which boots again by itself.
    pub fn restart_gateway_of_mesh(&self) {
        if let Some(fleet) = self.fleet.upgrade() {
            tokio::spawn(async move { fleet.restart_gateway().await });
        }
    }

    /// Ends the leaves that are lost with a client, or have no way without it. Those that come back boot after the
    /// client, and at once if it does not boot again.
    pub async fn lose_behind(&self, client: u32, reboots: bool) {
        let Some(fleet) = self.fleet.upgrade() else {
            return;
        };
        let behind = self.behind(&fleet, client, reboots);
        let reason = format!("no way to the gateway without client {client}");
        let ends = behind.iter().map(async |(&leaf, &comes_back)| {
            if self.end(leaf, &reason, comes_back).await {
                self.tell_cut_off(leaf, client, comes_back);
            }
        });
        join_all(ends).await;
        let back = behind.into_iter().filter(|(_, comes_back)| *comes_back);
        let back: Vec<u32> = back.map(|(leaf, _)| leaf).collect();
        if reboots {
            self.state().behind.insert(client, back);
        } else {
            join_all(back.into_iter().map(|leaf| self.bring_back(leaf))).await;
        }
    }

    /// Leaves behind a client, and whether they come back.
    fn behind(&self, fleet: &Fleet, client: u32, comes_back: bool) -> BTreeMap<u32, bool> {
        let mut down: BTreeSet<u32> = self.aggregator.gone().into_keys().collect();
        down.insert(client);
        let cut = fleet.cut_off(&down).into_iter();
        let mut behind: BTreeMap<u32, bool> = cut.map(|leaf| (leaf, comes_back)).collect();
        self.state().lost_ways.retain(|&leaf, way| {
            if way.with == client {
                behind.insert(leaf, way.comes_back);
            }
            way.with != client
        });
        behind
    }

    fn tell_cut_off(&self, leaf: u32, client: u32, reboot: bool) {
        let round = {
            let mut state = self.state();
            *state.counts.entry(CUT_OFF).or_default() += 1;
            state.round
        };
        let record = FaultRecord {
            fault: CUT_OFF.to_owned(),
            round: Some(round),
            reboot: Some(reboot),
            reason: Some(format!("its ways lead over client {client}, which is gone")),
            ..FaultRecord::default()
        };
        self.aggregator
            .fleet_event(Some(leaf), FleetRecord::Fault(record));
    }
}

/// Leaves that lose their way, where some are gone and these crashes are due.
fn lost_ways(
    due: &BTreeMap<u32, Fault>,
    gone: BTreeSet<u32>,
    cut_off: impl Fn(&BTreeSet<u32>) -> BTreeSet<u32>,
) -> BTreeMap<u32, LostWay> {
    let crash = |(&client, fault): (&u32, &Fault)| match *fault {
        Fault::Crash { reboot } => Some((client, reboot)),
        _ => None,
    };
    let mut crashes: BTreeMap<u32, bool> = due.iter().filter_map(crash).collect();
    // Whoever is behind others that crash never trains, and is lost with them.
    for client in crashes.keys().copied().collect::<Vec<_>>() {
        let others = crashes.keys().copied().filter(|other| *other != client);
        if cut_off(&gone.iter().copied().chain(others).collect()).contains(&client) {
            crashes.remove(&client);
        }
    }
    let for_good = crashes.iter().filter(|(_, reboot)| !**reboot);
    let for_good = for_good.map(|(client, _)| *client);
    let for_good = cut_off(&gone.iter().copied().chain(for_good).collect());
    let mut down = gone;
    let mut lost = BTreeMap::new();
    for with in crashes.into_keys() {
        down.insert(with);
        for leaf in cut_off(&down) {
            let comes_back = !for_good.contains(&leaf);
            lost.entry(leaf).or_insert(LostWay { with, comes_back });
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut off in a line of five, the gateway before client 0.
    fn line(down: &BTreeSet<u32>) -> BTreeSet<u32> {
        let first = down.first().copied().unwrap_or(5);
        (first..5).filter(|leaf| !down.contains(leaf)).collect()
    }

    fn lost(crashes: &[(u32, bool)], gone: &[u32]) -> Vec<(u32, u32, bool)> {
        let crash = |&(client, reboot): &(u32, bool)| (client, Fault::Crash { reboot });
        let due = crashes.iter().map(crash).collect();
        let lost = lost_ways(&due, gone.iter().copied().collect(), line);
        lost.iter()
            .map(|(leaf, way)| (*leaf, way.with, way.comes_back))
            .collect()
    }

    #[test]
    fn a_subtree_is_lost_with_its_relay_and_comes_back_with_it() {
        assert_eq!(lost(&[(3, true)], &[]), [(4, 3, true)]);
        assert_eq!(lost(&[(3, false)], &[]), [(4, 3, false)]);
        assert_eq!(lost(&[(4, true)], &[]), []);
    }

    #[test]
    fn whoever_crashes_behind_another_that_does_is_lost_with_it() {
        let behind_1 = [(2, 1, true), (3, 1, true), (4, 1, true)];
        assert_eq!(lost(&[(1, true), (3, false)], &[]), behind_1);
    }
}
