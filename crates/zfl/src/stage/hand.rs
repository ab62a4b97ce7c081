//! What is done to devices by hand, from the dashboard, and told to be so.
//!
//! Nothing of it is planned, so the aggregator hears of it when it happens, as of a death. What a hand
//! holds stays held: the plan's own thawing and healing leave it alone.

use super::Stage;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use zfl_dashboard::Action;
use zfl_orchestrator::{Death, FleetEvent};

/// Who did it, in events.
const BY: &str = "dashboard";

/// Why a client has no update, in the tables.
const KILLED: &str = "killed by hand";

/// What hands have to know and did.
#[derive(Default)]
pub struct Hands {
    /// The devices that boot, and those that run: `true`.
    up: BTreeMap<u32, bool>,
    /// Devices that something is being done to.
    busy: BTreeSet<u32>,
    /// Devices that stand still.
    frozen: BTreeSet<u32>,
    /// Devices whose links are cut.
    cut: BTreeSet<u32>,
    /// How often what was done.
    counts: BTreeMap<String, u32>,
}

impl Hands {
    /// Whether a device stands still by hand.
    pub fn freezes(&self, client: u32) -> bool {
        self.frozen.contains(&client)
    }

    /// Whether the link of a device is cut by hand.
    pub fn cuts(&self, client: u32) -> bool {
        self.cut.contains(&client)
    }

    /// Follows what happens in the fleet.
    pub fn hear(&mut self, event: &FleetEvent) {
        match *event {
            FleetEvent::Booting { client, .. } => _ = self.up.insert(client, false),
            FleetEvent::Running { client, .. } => _ = self.up.insert(client, true),
            FleetEvent::Died(Death { client, .. })
            | FleetEvent::Finished { client }
            | FleetEvent::Stopped { client } => {
                self.up.remove(&client);
                self.frozen.remove(&client);
            }
            FleetEvent::Refused { .. } | FleetEvent::LogLost { .. } => {}
        }
    }

    /// Whether this makes sense for a device as it is; if not, why.
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

impl Stage {
    /// How often a hand did what.
    pub fn by_hand(&self) -> BTreeMap<String, u32> {
        self.state().hands.counts.clone()
    }

    /// Follows what happens in the fleet.
    pub fn hear(&self, event: &FleetEvent) {
        self.state().hands.hear(event);
    }

    /// Ends the run.
    pub fn stop_by_hand(&self) -> String {
        self.note(None, "stop", "stop", json!({}));
        self.aggregator.cancel("ended by hand, from the dashboard");
        "the run is stopping".to_owned()
    }

    /// Does something to a device, except that it does not bring it back: that can take long.
    ///
    /// # Errors
    /// Why it did not.
    pub async fn touch(&self, client: u32, action: Action) -> Result<String, String> {
        if !self.state().hands.busy.insert(client) {
            return Err(format!("device {client} is being seen to: try again"));
        }
        let done = self.act(client, action).await;
        self.state().hands.busy.remove(&client);
        done
    }

    async fn act(&self, client: u32, action: Action) -> Result<String, String> {
        self.state().hands.check(client, action)?;
        let fleet = self.fleet.upgrade().ok_or("the run is over")?;
        let said = |done: &str| format!("device {client} {done}");
        match action {
            Action::Kill => {
                self.kill_by_hand(client, action).await;
                Ok(said("is killed"))
            }
            Action::Reboot if self.state().hands.up.contains_key(&client) => {
                self.kill_by_hand(client, action).await;
                Ok(said("is killed and boots again"))
            }
            Action::Reboot => {
                self.note(Some(client), "boot", action.name(), json!({}));
                self.aggregator.client_expected(client);
                Ok(said("boots again"))
            }
            Action::Freeze => {
                fleet.freeze(client).await.map_err(|e| e.to_string())?;
                self.state().hands.frozen.insert(client);
                self.held(client, "fault", action, "freeze");
                Ok(said("is frozen"))
            }
            Action::Thaw => {
                fleet.thaw(client).await.map_err(|e| e.to_string())?;
                self.state().hands.frozen.remove(&client);
                self.held(client, "fault_over", action, "freeze");
                Ok(said("goes on"))
            }
            Action::Cut => {
                fleet.cut(client).await.map_err(|e| e.to_string())?;
                self.state().hands.cut.insert(client);
                self.held(client, "fault", action, "cut");
                Ok(said("has its link cut"))
            }
            Action::Heal => {
                // Who is away in this round comes back with the next, as planned.
                if !self.state().away.contains(&client) {
                    fleet.heal(client).await.map_err(|e| e.to_string())?;
                }
                self.state().hands.cut.remove(&client);
                self.held(client, "fault_over", action, "cut");
                Ok(said("has its link healed"))
            }
        }
    }

    async fn kill_by_hand(&self, client: u32, action: Action) {
        let reboot = action == Action::Reboot;
        let detail = json!({"fault": "crash", "reboot": reboot, "reason": KILLED});
        self.note(Some(client), "fault", action.name(), detail);
        self.end(client, KILLED, reboot).await;
    }

    fn held(&self, client: u32, what: &str, action: Action, fault: &str) {
        self.note(Some(client), what, action.name(), json!({ "fault": fault }));
    }

    /// Counts what a hand did, and puts it among the events.
    fn note(&self, client: Option<u32>, what: &str, action: &str, mut detail: Value) {
        let round = {
            let mut state = self.state();
            *state.hands.counts.entry(action.to_owned()).or_default() += 1;
            state.round
        };
        detail["by"] = BY.into();
        detail["action"] = action.into();
        detail["round"] = round.into();
        self.aggregator.fleet_event(client, what, detail);
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
        let mut hands = Hands::default();
        let refused = |hands: &Hands, action| hands.check(3, action).unwrap_err();
        for action in [Kill, Freeze, Thaw] {
            assert_eq!(refused(&hands, action), "device 3 does not run");
        }
        assert_eq!(hands.check(3, Reboot), Ok(()));
        hands.hear(&FleetEvent::Booting {
            client: 3,
            attempt: 1,
        });
        assert_eq!(hands.check(3, Kill), Ok(()), "a boot can be cut short");
        assert_eq!(refused(&hands, Freeze), "device 3 does not run");
        hands.hear(&running(3));
        assert_eq!(refused(&hands, Thaw), "device 3 was not frozen by hand");
        assert_eq!(
            refused(&hands, Heal),
            "device 3 had its link not cut by hand"
        );
        hands.frozen.insert(3);
        hands.cut.insert(3);
        assert_eq!(refused(&hands, Freeze), "device 3 is frozen already");
        assert_eq!(refused(&hands, Cut), "device 3 has its link cut already");
        assert_eq!(
            (hands.check(3, Thaw), hands.check(3, Heal)),
            (Ok(()), Ok(()))
        );
    }

    #[test]
    fn a_link_stays_cut_over_a_reboot_and_a_machine_does_not_stay_frozen() {
        let mut hands = Hands::default();
        hands.hear(&running(3));
        hands.frozen.insert(3);
        hands.cut.insert(3);
        hands.hear(&FleetEvent::Stopped { client: 3 });
        hands.hear(&running(3));
        assert_eq!((hands.freezes(3), hands.cuts(3)), (false, true));
        assert!(!hands.freezes(4) && !hands.cuts(4));
    }
}
