//! What the fleet's owner tells; the table of words is in the [module above](super).

use super::{Model, State, bounded};
use serde_json::Value;

/// Lines of a serial log that a death may bring with it.
const MAX_LAST_LINES: usize = 100;

impl Model {
    pub(super) fn fleet(&mut self, client: Option<u32>, what: &str, detail: &Value) {
        let Some(client) = client else {
            // A fault of the whole network, say.
            if what == "fault" {
                self.add_fault(None, &kind(detail), &reason(detail, ""));
            }
            return;
        };
        match what {
            "device" => self.describe(client, detail),
            "booting" => self.set_state(client, State::Booting),
            "booted" | "running" => self.booted(client, detail),
            "away" => {
                self.set_state(client, State::Away);
                self.device_mut(client).reason = Some(reason(detail, "away"));
            }
            "back" => self.set_state(client, State::Joining),
            "died" => self.died(client, detail),
            "stopped" if !self.is_over() => {
                self.lost(client, &reason(detail, "stopped"), "stopped")
            }
            "fault" => self.add_fault(Some(client), &kind(detail), &reason(detail, "")),
            "log_lost" => {
                let error = text(detail, "error").unwrap_or_default();
                self.add_fault(Some(client), "log lost", error);
            }
            "usage" => self.usage(client, detail),
            _ => {}
        }
    }

    fn describe(&mut self, client: u32, detail: &Value) {
        let device = self.device_mut(client);
        for (field, key) in [(&mut device.board, "board"), (&mut device.link, "link")] {
            if let Some(value) = text(detail, key) {
                *field = Some(bounded(value));
            }
        }
    }

    fn booted(&mut self, client: u32, detail: &Value) {
        let device = self.device_mut(client);
        device.boot_ms = number(detail, "boot_ms").or(device.boot_ms);
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

    fn usage(&mut self, client: u32, detail: &Value) {
        let device = self.device_mut(client);
        let bytes = number(detail, "host_bytes").or_else(|| number(detail, "private_bytes"));
        device.host_bytes = bytes.or(device.host_bytes);
        device.cpu_s = detail.get("cpu_s").and_then(Value::as_f64).or(device.cpu_s);
    }
}

fn text<'a>(detail: &'a Value, key: &str) -> Option<&'a str> {
    detail.get(key)?.as_str()
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
    bounded(text(detail, "kind").unwrap_or("fault"))
}
