//! Remote control of devices, from the dashboard, and told to be so.
//!
//! Nothing of it is planned, so the aggregator hears of it when it happens, as of a death. What was frozen
//! or cut remotely stays so: the plan's own thawing and healing leave it alone.

use super::FaultRunner;
use std::collections::{BTreeMap, BTreeSet};
use zfl_dashboard::Action;
use zfl_orchestrator::{Death, FleetEvent};
use zfl_run_dir::{ByHand, FaultRecord, FleetRecord};

/// Origin of remote control in events.
const BY: &str = "dashboard";

/// The reason for a missing update, in the tables.
const KILLED: &str = "killed by hand";

/// Devices under remote control.
#[derive(Default)]
pub struct RemoteState {
    /// The devices that boot, and those that run: `true`.
    up: BTreeMap<u32, bool>,
    /// Devices that something is being done to.
    busy: BTreeSet<u32>,
    /// Devices that stand still.
    frozen: BTreeSet<u32>,
    /// Devices whose links are cut.
    cut: BTreeSet<u32>,
    /// Actions, counted by name.
    counts: BTreeMap<String, u32>,
}

impl RemoteState {
    /// Tells whether a device was frozen remotely.
    pub fn freezes(&self, client: u32) -> bool {
        self.frozen.contains(&client)
    }

    /// Tells whether the link of a device was cut remotely.
    pub fn cuts(&self, client: u32) -> bool {
        self.cut.contains(&client)
    }

    /// Follows what happens in the fleet.
    pub fn on_event(&mut self, event: &FleetEvent) {
        match *event {
            FleetEvent::Booting { client, .. } => _ = self.up.insert(client, false),
            FleetEvent::Running { client, .. } => _ = self.up.insert(client, true),
            FleetEvent::Died(Death { client, .. })
            | FleetEvent::Finished { client }
            | FleetEvent::Stopped { client } => {
                self.up.remove(&client);
                self.frozen.remove(&client);
            }
            FleetEvent::Refused { .. } | FleetEvent::LogLost { .. } | FleetEvent::OffAir { .. } => {
            }
        }
    }

    /// Checks that an action makes sense for a device as it is.
    fn check(&self, client: u32, action: Action) -> Result<(), String> {
        let runs = self.up.get(&client);
        let problem = match action {
            Action::Kill if runs.is_none() => "does not run",
            Action::Freeze | Action::Thaw if runs != Some(&true) => "does not run",
            Action::Freeze if self.freezes(client) => "is frozen already",
            Action::Thaw if !self.freezes(client) => "was not frozen by hand",
            Action::Cut if self.cuts(client) => "has its link cut already",
            Action::Heal if !self.cuts(client) => "had its link not cut by hand",
            _ => return Ok(()),
        };
        Err(format!("device {client} {problem}"))
    }
}

impl FaultRunner {
    /// Remote actions, counted by name.
    pub fn remote_actions(&self) -> BTreeMap<String, u32> {
        self.state().remote.counts.clone()
    }

    /// Follows what happens in the fleet.
    pub fn on_event(&self, event: &FleetEvent) {
        self.state().remote.on_event(event);
    }

    /// Ends the run.
    pub fn stop_remotely(&self) -> String {
        let (round, hand) = self.count("stop");
        let record = FleetRecord::Stop { round, hand };
        self.aggregator.fleet_event(None, record);
        self.aggregator.cancel("ended by hand, from the dashboard");
        "the run is stopping".to_owned()
    }

    /// Does something to a device, except that it does not bring it back: that can take long.
    ///
    /// # Errors
    /// The reason why nothing was done.
    pub async fn control(&self, client: u32, action: Action) -> Result<String, String> {
        if !self.state().remote.busy.insert(client) {
            return Err(format!("device {client} is being seen to: try again"));
        }
        let done = self.act(client, action).await;
        self.state().remote.busy.remove(&client);
        done
    }

    async fn act(&self, client: u32, action: Action) -> Result<String, String> {
        self.state().remote.check(client, action)?;
        let fleet = self.fleet.upgrade().ok_or("the run is over")?;
        let said = |done: &str| format!("device {client} {done}");
        match action {
            Action::Kill => {
                self.kill_remotely(client, action).await;
                Ok(said("is killed"))
            }
            Action::Reboot if self.state().remote.up.contains_key(&client) => {
                self.kill_remotely(client, action).await;
                Ok(said("is killed and boots again"))
            }
            Action::Reboot => {
                let (round, hand) = self.count(action.name());
                let record = FleetRecord::Boot { round, hand };
                self.aggregator.fleet_event(Some(client), record);
                self.aggregator.client_expected(client);
                Ok(said("boots again"))
            }
            Action::Freeze => {
                fleet.freeze(client).await.map_err(|e| e.to_string())?;
                self.state().remote.frozen.insert(client);
                self.inflicted(client, action, "freeze");
                Ok(said("is frozen"))
            }
            Action::Thaw => {
                fleet.thaw(client).await.map_err(|e| e.to_string())?;
                self.state().remote.frozen.remove(&client);
                self.ended(client, action, "freeze");
                Ok(said("goes on"))
            }
            Action::Cut => {
                fleet.cut(client).await.map_err(|e| e.to_string())?;
                self.state().remote.cut.insert(client);
                self.inflicted(client, action, "cut");
                Ok(said("has its link cut"))
            }
            Action::Heal => {
                // Who is away in this round comes back with the next, as planned.
                if !self.state().away.contains(&client) {
                    fleet.heal(client).await.map_err(|e| e.to_string())?;
                }
                self.state().remote.cut.remove(&client);
                self.ended(client, action, "cut");
                Ok(said("has its link healed"))
            }
        }
    }

    async fn kill_remotely(&self, client: u32, action: Action) {
        let reboot = action == Action::Reboot;
        let (round, hand) = self.count(action.name());
        let crash = FaultRecord {
            fault: "crash".to_owned(),
            round: Some(round),
            reboot: Some(reboot),
            reason: Some(KILLED.to_owned()),
            hand: Some(hand),
            ..FaultRecord::default()
        };
        let record = FleetRecord::Fault(crash);
        self.aggregator.fleet_event(Some(client), record);
        self.end(client, KILLED, reboot).await;
        self.lose_behind(client, reboot).await;
    }

    /// Tells of a fault that lasts until it is ended remotely, too.
    fn inflicted(&self, client: u32, action: Action, fault: &str) {
        let (round, hand) = self.count(action.name());
        let record = FleetRecord::Fault(FaultRecord {
            fault: fault.to_owned(),
            round: Some(round),
            hand: Some(hand),
            ..FaultRecord::default()
        });
        self.aggregator.fleet_event(Some(client), record);
    }

    fn ended(&self, client: u32, action: Action, fault: &str) {
        let (round, hand) = self.count(action.name());
        let record = FleetRecord::FaultOver {
            fault: fault.to_owned(),
            round: Some(round),
            hand: Some(hand),
        };
        self.aggregator.fleet_event(Some(client), record);
    }

    /// Counts a remote action; returns its round and author.
    pub(super) fn count(&self, action: &str) -> (u32, ByHand) {
        let mut state = self.state();
        *state.remote.counts.entry(action.to_owned()).or_default() += 1;
        let hand = ByHand {
            by: BY.to_owned(),
            action: action.to_owned(),
        };
        (state.round, hand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Cut, Freeze, Heal, Kill, Reboot, Thaw};

    fn running(client: u32) -> FleetEvent {
        FleetEvent::Running {
            client,
            address: "127.0.0.1:1".parse().unwrap(),
            boot_ms: 1,
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        let mut state = RemoteState::default();
        let refused = |state: &RemoteState, action| state.check(3, action).unwrap_err();
        for action in [Kill, Freeze, Thaw] {
            assert_eq!(refused(&state, action), "device 3 does not run");
        }
        assert_eq!(state.check(3, Reboot), Ok(()));
        state.on_event(&FleetEvent::Booting {
            client: 3,
            attempt: 1,
        });
        assert_eq!(state.check(3, Kill), Ok(()), "a boot can be cut short");
        assert_eq!(refused(&state, Freeze), "device 3 does not run");
        state.on_event(&running(3));
        assert_eq!(refused(&state, Thaw), "device 3 was not frozen by hand");
        assert_eq!(
            refused(&state, Heal),
            "device 3 had its link not cut by hand"
        );
        state.frozen.insert(3);
        state.cut.insert(3);
        assert_eq!(refused(&state, Freeze), "device 3 is frozen already");
        assert_eq!(refused(&state, Cut), "device 3 has its link cut already");
        assert_eq!(
            (state.check(3, Thaw), state.check(3, Heal)),
            (Ok(()), Ok(()))
        );
    }

    #[test]
    fn a_link_stays_cut_over_a_reboot_and_a_machine_does_not_stay_frozen() {
        let mut state = RemoteState::default();
        state.on_event(&running(3));
        state.frozen.insert(3);
        state.cut.insert(3);
        state.on_event(&FleetEvent::Stopped { client: 3 });
        state.on_event(&running(3));
        assert_eq!((state.freezes(3), state.cuts(3)), (false, true));
        assert!(!state.freezes(4) && !state.cuts(4));
    }
}
