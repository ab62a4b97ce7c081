//! History of a resumed run, for its summary.
//!
//! It is read from `events.jsonl`. The rounds that were broken off are no longer in there, so each event
//! belongs to a round that counts, and counts once.

use crate::{Death, Event, FleetRecord, Record, Resumed, Tail};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Name of the fault of an edge that is lost, among those of devices.
pub const EDGE_LOST: &str = "edge-lost";

/// The parts of a run before this one; the default is that of a run that begins.
#[derive(Debug, Default)]
pub struct RunHistory {
    /// The last complete round at each time that the run was broken off, this one included.
    pub resumed_from: Vec<u32>,
    /// Time from their first events to their last, in seconds.
    pub wall_s: f64,
    /// Part of that time in interrupted rounds, in seconds.
    pub lost_s: f64,
    /// Planned faults that happened: round, client or edge, kind.
    faults: BTreeSet<(u32, u32, String)>,
    /// Number of actions of remote control, by action.
    by_hand: BTreeMap<String, u32>,
    /// Devices that died.
    pub deaths: Vec<Death>,
    /// Reasons for which the model depends on time.
    pub depends_on_time: Vec<String>,
    /// The boot of each part, if it is known, in seconds; one of which no round counts is none.
    boots_s: Vec<Option<f64>>,
    part: Part,
}

/// The part of a run that is being read.
#[derive(Debug, Default)]
struct Part {
    boot_s: Option<f64>,
    counts: bool,
}

impl RunHistory {
    /// Reads the history of a run that goes on from there; the interrupted round is gone from its
    /// directory.
    ///
    /// # Errors
    /// If its events cannot be read.
    pub fn of(run: &Path, resumed: &Resumed) -> Result<Self> {
        let mut history = Self::default();
        let read = Tail::new(run).poll(|record| history.take_in(record));
        read.with_context(|| format!("read the events of {}", run.display()))?;
        // The end of the last round is told anew.
        let before = history.resumed_from.last().copied().unwrap_or(0);
        history.part.counts |= resumed.round > before;
        history.end_part(resumed.round, resumed.lost_s);
        history.wall_s = resumed.elapsed_s + history.lost_s;
        Ok(history)
    }

    /// Number of planned faults of each kind, with those of this part.
    pub fn faults_with(&self, own: BTreeMap<&'static str, u32>) -> BTreeMap<String, u32> {
        let own = own
            .into_iter()
            .map(|(kind, count)| (kind.to_owned(), count));
        let mut counts: BTreeMap<String, u32> = own.collect();
        for (_, _, kind) in &self.faults {
            *counts.entry(kind.clone()).or_default() += 1;
        }
        counts
    }

    /// Number of actions of remote control, with those of this part.
    pub fn by_hand_with(&self, mut own: BTreeMap<String, u32>) -> BTreeMap<String, u32> {
        for (action, count) in &self.by_hand {
            *own.entry(action.clone()).or_default() += count;
        }
        own
    }

    /// Boot time of the fleet, with this part's own boot; `None` unless it is known of every part.
    pub fn boot_s_with(&self, own: Option<f64>) -> Option<f64> {
        self.boots_s.iter().copied().chain([own]).sum()
    }

    /// The first round of this part, if it is not the first of the run.
    pub fn since_round(&self) -> Option<u32> {
        self.resumed_from.last().map(|round| round + 1)
    }

    fn take_in(&mut self, record: Record) {
        match record.event {
            Event::RunResumed { round, lost_s } => self.end_part(round, lost_s),
            Event::RoundFinished { record } => self.part.counts |= record.round > 0,
            Event::Fleet { client, record } => self.fleet(client, record),
            Event::TimeDecided {
                client,
                round,
                reason,
            } => self
                .depends_on_time
                .push(time_decided(client, round, &reason)),
            _ => {}
        }
    }

    fn fleet(&mut self, client: Option<u32>, record: FleetRecord) {
        if let Some(hand) = record.hand() {
            *self.by_hand.entry(hand.action.clone()).or_default() += 1;
            return;
        }
        match (client, record) {
            (Some(client), FleetRecord::Fault(fault)) => {
                let planned = fault.round.map(|round| (round, client, fault.fault));
                self.faults.extend(planned);
            }
            (_, FleetRecord::EdgeLost { edge, round, .. }) => {
                self.faults.extend([(round, edge, EDGE_LOST.to_owned())]);
            }
            (
                Some(client),
                FleetRecord::Died { reason, last_lines }
                | FleetRecord::Watchdog { reason, last_lines },
            ) => self.deaths.push(Death {
                client,
                reason,
                last_lines,
            }),
            (_, FleetRecord::FleetBooted { boot_s, .. }) => self.part.boot_s = Some(boot_s),
            _ => {}
        }
    }

    fn end_part(&mut self, round: u32, lost_s: f64) {
        let part = std::mem::take(&mut self.part);
        if part.counts {
            self.boots_s.push(part.boot_s);
        }
        self.resumed_from.push(round);
        self.lost_s += lost_s;
    }
}

/// Words for a client about which time decided.
pub fn time_decided(client: u32, round: u32, reason: &str) -> String {
    format!("round {round}: client {client}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn before(events: &[Value], resumed: &Resumed) -> RunHistory {
        let run = tempfile::tempdir().unwrap();
        let line = |event: &Value| {
            let mut event = event.clone();
            (event["time_ms"], event["at"]) = (0.into(), "".into());
            event.to_string() + "\n"
        };
        let text: String = events.iter().map(line).collect();
        std::fs::write(run.path().join("events.jsonl"), text).unwrap();
        RunHistory::of(run.path(), resumed).unwrap()
    }

    fn fleet(client: impl Into<Value>, what: &str, detail: Value) -> Value {
        json!({"event": "fleet", "client": client.into(), "what": what, "detail": detail})
    }

    fn finished(round: u32) -> Value {
        let mut event = serde_json::to_value(crate::RoundRecord {
            round,
            ..Default::default()
        })
        .unwrap();
        event["event"] = "round_finished".into();
        event
    }

    fn booted(boot_s: f64) -> Value {
        fleet(Value::Null, "fleet_booted", json!({"boot_s": boot_s}))
    }

    #[test]
    fn what_a_hand_did_was_not_planned() {
        let hand = |action: &str| json!({"fault": "crash", "round": 1, "by": "dashboard", "action": action});
        let planned = json!({"fault": "crash", "round": 1});
        let events = [
            fleet(1, "fault", hand("kill")),
            fleet(2, "fault", planned),
            fleet(Value::Null, "stop", hand("stop")),
        ];
        let before = before(&events, &Resumed::default());
        assert_eq!(before.faults_with(BTreeMap::new())["crash"], 1);
        let own = [("kill".to_owned(), 2), ("thaw".to_owned(), 1)];
        let both = before.by_hand_with(own.into());
        let expected = [("kill", 3), ("stop", 1), ("thaw", 1)];
        let expected = expected.map(|(action, count)| (action.to_owned(), count));
        assert_eq!(both, expected.into());
    }

    fn resumed(round: u32, lost_s: f64) -> Value {
        json!({"event": "run_resumed", "round": round, "lost_s": lost_s})
    }

    #[test]
    fn what_happened_is_counted_once_over_all_parts() {
        let crash = |round: u32| fleet(3, "fault", json!({"fault": "crash", "round": round}));
        let died = json!({"reason": "page fault", "last_lines": ["oops"]});
        let events = [
            crash(1),
            crash(1),
            fleet(4, "fault", json!({"fault": "crash", "round": 1})),
            fleet(4, "fault", json!({"fault": "cut", "round": 2, "for_ms": 9})),
            fleet(5, "died", died),
            resumed(2, 1.5),
            crash(3),
            fleet(6, "watchdog", json!({"reason": "stuck"})),
            fleet(Value::Null, "fault", json!(7)),
            fleet(7, "fault", json!({"round": "?"})),
        ];
        let at = Resumed {
            round: 4,
            elapsed_s: 10.0,
            lost_s: 0.5,
            ..Resumed::default()
        };
        let before = before(&events, &at);
        let counts = before.faults_with([("crash", 1), ("freeze", 2)].into());
        let expected = [("crash", 4), ("cut", 1), ("freeze", 2)];
        assert_eq!(
            counts,
            expected.map(|(kind, n)| (kind.to_owned(), n)).into()
        );
        assert_eq!(before.resumed_from, [2, 4]);
        assert_eq!(before.since_round(), Some(5));
        assert_eq!((before.lost_s, before.wall_s), (2.0, 12.0));
        let deaths: Vec<_> = before
            .deaths
            .iter()
            .map(|d| (d.client, &*d.reason))
            .collect();
        assert_eq!(deaths, [(5, "page fault"), (6, "stuck")]);
        assert_eq!(before.deaths[0].last_lines, ["oops"]);
    }

    #[test]
    fn boots_add_up_where_all_are_known() {
        let boot_s = |events: &[Value], own| before(events, &Resumed::default()).boot_s_with(own);
        let (one, two) = (finished(1), finished(2));
        let whole = [
            booted(1.0),
            finished(0),
            one.clone(),
            resumed(1, 0.0),
            booted(2.0),
            two.clone(),
        ];
        assert_eq!(boot_s(&whole, Some(4.0)), Some(7.0));
        assert_eq!(boot_s(&whole, None), None);
        // The second part was ended before it had booted, and left nothing.
        let idle = [booted(1.0), one.clone(), resumed(1, 0.0)];
        assert_eq!(boot_s(&idle, Some(4.0)), Some(5.0));
        assert_eq!(boot_s(&[finished(0)], Some(4.0)), Some(4.0));
        // Its rounds did not wait for all devices.
        assert_eq!(boot_s(&[one, two], Some(4.0)), None);
        assert_eq!(RunHistory::default().boot_s_with(Some(4.0)), Some(4.0));
        assert_eq!(RunHistory::default().since_round(), None);
    }
}
