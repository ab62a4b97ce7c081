//! Events of the fleet's owner; the table of words is in the [module above](super).

use super::{Fault, Fold, State, bounded};
use crate::metric::Id;
use serde_json::Value;

/// Lines of a serial log that a death may bring with it.
const MAX_LAST_LINES: usize = 100;

const BOOT_MS: Id = Id::of("boot_ms");

impl Fold {
    pub(super) fn fleet(&mut self, client: Option<u32>, what: &str, detail: &Value) {
        self.count_hand(what, detail);
        let Some(client) = client else {
            // A fault of the whole network, say.
            if what == "fault" {
                self.injected(None, detail);
            }
            return;
        };
        match what {
            "booting" => self.set_state(client, State::Booting),
            "running" => self.booted(client, detail),
            "died" => self.died(client, detail),
            "stopped" if !self.is_over() => {
                self.lost(client, &reason(detail, "stopped"), "stopped")
            }
            "fault" => self.injected(Some(client), detail),
            "fault_over" => self.over(client, detail),
            "fault_failed" => {
                let error = text(detail, "error").unwrap_or_default();
                self.add_fault(Some(client), "fault failed", error);
            }
            "watchdog" => {
                self.add_fault(Some(client), "watchdog", &reason(detail, "it was reset"));
            }
            "log_lost" => {
                let error = text(detail, "error").unwrap_or_default();
                self.add_fault(Some(client), "log lost", error);
            }
            _ => {}
        }
    }

    fn booted(&mut self, client: u32, detail: &Value) {
        let device = self.device_mut(client);
        if let Some(boot_ms) = number(detail, "boot_ms") {
            device.totals.note(BOOT_MS, boot_ms as f64);
        }
        // It may have joined before this was told.
        if matches!(
            device.state,
            State::Joining | State::Booting | State::Dead | State::Away
        ) {
            self.set_state(client, State::Joining);
        }
    }

    fn died(&mut self, client: u32, detail: &Value) {
        self.lost(client, &reason(detail, "died"), "died");
        let lines = detail.get("last_lines").and_then(Value::as_array);
        let lines = lines.into_iter().flatten().filter_map(Value::as_str);
        let lines: Vec<String> = lines.take(MAX_LAST_LINES).map(bounded).collect();
        self.device_mut(client).last_lines = lines;
    }

    /// Counts what was done by hand.
    fn count_hand(&mut self, what: &str, detail: &Value) {
        if by(detail).is_some() && ["fault", "fault_over", "boot", "stop"].contains(&what) {
            let action = bounded(text(detail, "action").unwrap_or(what));
            *self.by_hand.entry(action).or_default() += 1;
            self.changes.run = true;
        }
    }

    /// Notes what a hand makes last, or ends.
    fn hold(&mut self, client: u32, detail: &Value, holds: bool) {
        if by(detail).is_none() {
            return;
        }
        match text(detail, "fault") {
            Some("freeze") => self.device_mut(client).frozen = holds,
            Some("cut") => self.device_mut(client).link_cut = holds,
            _ => {}
        }
    }

    /// A fault that the experiment or a hand asked for.
    fn injected(&mut self, client: Option<u32>, detail: &Value) {
        client.inspect(|&client| self.hold(client, detail, true));
        // A hand does it now; the plan may be told a little before its round.
        let planned = by(detail).is_none();
        let round = number(detail, "round").filter(|_| planned);
        let round = round.and_then(|round| round.try_into().ok());
        self.note(Fault {
            round: round.unwrap_or(0),
            client,
            kind: kind(detail),
            injected: planned,
            by: by(detail).map(bounded),
            reason: reason(detail, &more(detail)),
            ..Fault::default()
        });
    }

    fn over(&mut self, client: u32, detail: &Value) {
        self.hold(client, detail, false);
        let now_s = self.time_ms() as f64 / 1e3;
        let ended = self.faults.over(client, &kind(detail), now_s);
        self.changes.faults.extend(ended);
    }
}

fn text<'a>(detail: &'a Value, key: &str) -> Option<&'a str> {
    detail.get(key)?.as_str()
}

/// Who did it, if a hand did.
fn by(detail: &Value) -> Option<&str> {
    text(detail, "by")
}

fn number(detail: &Value, key: &str) -> Option<u64> {
    detail.get(key)?.as_u64()
}

fn reason(detail: &Value, otherwise: &str) -> String {
    let told = detail.as_str().or_else(|| text(detail, "reason"));
    bounded(
        told.filter(|reason| !reason.is_empty())
            .unwrap_or(otherwise),
    )
}

fn kind(detail: &Value) -> String {
    let kind = text(detail, "fault").or_else(|| text(detail, "kind"));
    let kind = bounded(kind.unwrap_or("fault"));
    match by(detail) {
        Some(_) => format!("{kind} by hand"),
        None => kind,
    }
}

/// What else is told of a fault, as `name value`, and `for 600 ms`.
fn more(detail: &Value) -> String {
    let known = ["fault", "kind", "round", "reason", "client", "by", "action"];
    let fields = detail.as_object().into_iter().flatten();
    let others = fields.filter(|(name, value)| {
        !known.contains(&name.as_str()) && !value.is_null() && !value.is_object()
    });
    let words = others.map(
        |(name, value)| match (value.as_str(), name.strip_suffix("_ms")) {
            (Some(text), _) => format!("{name} {text}"),
            (None, Some(name)) => format!("{name} {value} ms"),
            (None, None) => format!("{name} {value}"),
        },
    );
    words.collect::<Vec<_>>().join(", ")
}
