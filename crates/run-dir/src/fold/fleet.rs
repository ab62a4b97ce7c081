//! The events of the fleet, folded.

use super::{Fault, Fold, State, bounded};
use crate::fleet::{ByHand, FaultRecord, FleetRecord};
use crate::metric::Id;

/// Lines of a serial log that a death may bring with it.
const MAX_LAST_LINES: usize = 100;

const BOOT_MS: Id = Id::of("boot_ms");

impl Fold {
    pub(super) fn fleet(&mut self, client: Option<u32>, record: &FleetRecord) {
        if let Some(hand) = record.hand() {
            *self.by_hand.entry(bounded(&hand.action)).or_default() += 1;
            self.changes.run = true;
        }
        match record {
            FleetRecord::EdgeLost { edge, .. } => _ = self.lost_edges.insert(*edge),
            FleetRecord::EdgeBack { edge, .. } => _ = self.lost_edges.remove(edge),
            FleetRecord::Mesh(mesh) => self.mesh = Some(mesh.clone()),
            _ => {}
        }
        self.changes.run |= matches!(
            record,
            FleetRecord::EdgeLost { .. } | FleetRecord::EdgeBack { .. } | FleetRecord::Mesh(_)
        );
        if let Some(client) = client {
            self.of_device(client, record);
        }
    }

    fn of_device(&mut self, client: u32, record: &FleetRecord) {
        match record {
            FleetRecord::Booting { .. } => self.set_state(client, State::Booting),
            FleetRecord::Running { boot_ms, .. } => self.running(client, *boot_ms),
            FleetRecord::Died { reason, last_lines } => {
                self.lost(client, or(reason, "died"), "died");
                let lines = last_lines.iter().take(MAX_LAST_LINES);
                self.device_mut(client).last_lines = lines.map(|line| bounded(line)).collect();
            }
            FleetRecord::Stopped {} if !self.is_over() => self.lost(client, "stopped", "stopped"),
            FleetRecord::Fault(fault) => self.injected(client, fault),
            FleetRecord::FaultOver { fault, hand, .. } => {
                self.fault_over(client, fault, hand.as_ref());
            }
            FleetRecord::FaultFailed { error } => {
                self.add_fault(Some(client), "fault failed", error)
            }
            FleetRecord::Watchdog { reason, .. } => {
                self.add_fault(Some(client), "watchdog", or(reason, "it was reset"));
            }
            FleetRecord::LogLost { error } => self.add_fault(Some(client), "log lost", error),
            FleetRecord::Stopped {}
            | FleetRecord::Finished {}
            | FleetRecord::Refused { .. }
            | FleetRecord::Boot { .. }
            | FleetRecord::Stop { .. }
            | FleetRecord::EdgeLost { .. }
            | FleetRecord::EdgeBack { .. }
            | FleetRecord::EdgeGiven { .. }
            | FleetRecord::Mesh(_)
            | FleetRecord::FleetBooted { .. }
            | FleetRecord::Unknown => {}
        }
    }

    fn running(&mut self, client: u32, boot_ms: u64) {
        let device = self.device_mut(client);
        device.totals.note(BOOT_MS, boot_ms as f64);
        // It may have joined before this was told.
        if matches!(
            device.state,
            State::Joining | State::Booting | State::Dead | State::Away
        ) {
            self.set_state(client, State::Joining);
        }
    }

    /// Notes a fault that lasts by hand, or its end.
    fn hold(&mut self, client: u32, fault: &str, holds: bool) {
        match fault {
            "freeze" => self.device_mut(client).frozen = holds,
            "cut" => self.device_mut(client).link_cut = holds,
            _ => {}
        }
    }

    /// A fault that the experiment or a hand asked for.
    fn injected(&mut self, client: u32, fault: &FaultRecord) {
        let hand = fault.hand.as_ref();
        if hand.is_some() {
            self.hold(client, &fault.fault, true);
        }
        let reason = fault.reason.clone().unwrap_or_else(|| more(fault));
        self.note(Fault {
            // A hand does it now; the plan may be told a little before its round.
            round: fault.round.filter(|_| hand.is_none()).unwrap_or(0),
            client: Some(client),
            kind: kind(&fault.fault, hand),
            injected: hand.is_none(),
            by: hand.map(|hand| bounded(&hand.by)),
            reason: bounded(&reason),
            ..Fault::default()
        });
    }

    fn fault_over(&mut self, client: u32, fault: &str, hand: Option<&ByHand>) {
        if hand.is_some() {
            self.hold(client, fault, false);
        }
        let now_s = self.time_ms() as f64 / 1e3;
        let ended = self.faults.over(client, &kind(fault, hand), now_s);
        self.changes.faults.extend(ended);
    }
}

fn or<'a>(reason: &'a str, otherwise: &'a str) -> &'a str {
    if reason.is_empty() { otherwise } else { reason }
}

fn kind(fault: &str, hand: Option<&ByHand>) -> String {
    let kind = bounded(or(fault, "fault"));
    match hand {
        Some(_) => format!("{kind} by hand"),
        None => kind,
    }
}

/// The rest of a fault in words: `for 600 ms`.
fn more(fault: &FaultRecord) -> String {
    let for_ms = fault.for_ms.map(|ms| format!("for {ms} ms"));
    let reboot = fault.reboot.map(|reboot| format!("reboot {reboot}"));
    let words: Vec<String> = for_ms.into_iter().chain(reboot).collect();
    words.join(", ")
}
