//! Events of the fleet, which only the process that runs it knows.

use serde::{Deserialize, Deserializer, Serialize};

/// An event of the fleet; its word is `what` in `events.jsonl`, all else `detail`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", content = "detail", rename_all = "snake_case")]
pub enum FleetRecord {
    /// A device boots.
    Booting {
        /// The attempt, from 1.
        #[serde(default)]
        attempt: u32,
    },
    /// A device runs, and joins by itself.
    Running {
        /// Address at which it is reached.
        #[serde(default)]
        address: String,
        /// From the start of its machine to its prompt, in milliseconds.
        #[serde(default)]
        boot_ms: u64,
    },
    /// The client on a device ended by itself.
    Finished {},
    /// A device cannot join.
    Refused {
        /// Reason, in words.
        #[serde(default)]
        reason: String,
    },
    /// A device was stopped as asked.
    Stopped {},
    /// A device ended without being asked to.
    Died {
        /// Manner of the end, in words.
        #[serde(default)]
        reason: String,
        /// The last lines that it wrote, oldest first.
        #[serde(default)]
        last_lines: Vec<String>,
    },
    /// The watchdog ends a device that is stuck.
    Watchdog {
        /// Reason, in words.
        #[serde(default)]
        reason: String,
        /// The last lines that it wrote, oldest first.
        #[serde(default)]
        last_lines: Vec<String>,
    },
    /// A fault happens to a device, by the plan or by hand.
    Fault(FaultRecord),
    /// An edge is lost, by the plan or by hand.
    EdgeLost {
        /// Its number.
        #[serde(default)]
        edge: u32,
        /// The round.
        #[serde(default)]
        round: u32,
        /// True if it is started again.
        #[serde(default)]
        reboot: bool,
        /// The author, if it was done by hand.
        #[serde(flatten)]
        hand: Option<ByHand>,
    },
    /// A lost edge is there again.
    EdgeBack {
        /// Its number.
        #[serde(default)]
        edge: u32,
        /// The author, if it was done by hand.
        #[serde(flatten)]
        hand: Option<ByHand>,
    },
    /// The devices of a lost edge go to another.
    EdgeGiven {
        /// Its number.
        #[serde(default)]
        edge: u32,
        /// Number of the other.
        #[serde(default)]
        to: u32,
    },
    /// A fault that lasts is over.
    FaultOver {
        /// The fault.
        #[serde(default)]
        fault: String,
        /// The round in which it was ended by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        round: Option<u32>,
        /// The author, if it was done by hand.
        #[serde(flatten)]
        hand: Option<ByHand>,
    },
    /// A fault could not be carried out, or not be undone.
    FaultFailed {
        /// Reason, in words.
        #[serde(default)]
        error: String,
    },
    /// The log of a device is lost.
    LogLost {
        /// Reason, in words.
        #[serde(default)]
        error: String,
    },
    /// A device was asked by hand to boot.
    Boot {
        /// The round.
        #[serde(default)]
        round: u32,
        /// The author.
        #[serde(flatten)]
        hand: ByHand,
    },
    /// The run was asked by hand to end; of no device.
    Stop {
        /// The round.
        #[serde(default)]
        round: u32,
        /// The author.
        #[serde(flatten)]
        hand: ByHand,
    },
    /// The radios of the fleet stand in their places; of no device.
    Mesh(MeshRecord),
    /// The whole fleet has booted; of no device.
    FleetBooted {
        /// Devices that run.
        #[serde(default)]
        devices: usize,
        /// From the start of the first machine, in seconds.
        boot_s: f64,
    },
    /// A word of another version.
    #[serde(skip)]
    Unknown,
}

/// A fault of a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultRecord {
    /// The fault: `crash`, `cut` …
    pub fault: String,
    /// The round that it was planned for, or in which it was done by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
    /// Length in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// True if the device boots again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reboot: Option<bool>,
    /// Reason, if there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The author, if it was done by hand.
    #[serde(flatten)]
    pub hand: Option<ByHand>,
}

/// Places of a gateway, node 0, and its leaves: node `n + 1` is client `n`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MeshRecord {
    /// The radio, a file of `links/radio`.
    pub radio: String,
    /// Its range, in metres.
    pub range_m: f64,
    /// Place of each node, in metres.
    pub places: Vec<[f64; 2]>,
    /// Hops of each to the gateway on the shortest way.
    pub hops: Vec<u8>,
}

impl MeshRecord {
    /// Pairs of nodes that hear each other, the lower number first.
    pub fn links(&self) -> impl Iterator<Item = (usize, usize)> {
        let pairs =
            (0..self.places.len()).flat_map(|a| (a + 1..self.places.len()).map(move |b| (a, b)));
        pairs.filter(|&(a, b)| self.hears(a, b))
    }

    /// Tells if two nodes hear each other; one that is not there hears nobody.
    pub fn hears(&self, a: usize, b: usize) -> bool {
        let place = |node: usize| self.places.get(node);
        let (Some([ax, ay]), Some([bx, by])) = (place(a), place(b)) else {
            return false;
        };
        let (x, y) = (ax - bx, ay - by);
        a != b && x * x + y * y <= self.range_m * self.range_m
    }
}

/// The author of an act by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByHand {
    /// Origin of remote control: `dashboard`.
    pub by: String,
    /// Action of remote control: `kill`, `thaw` …
    #[serde(default)]
    pub action: String,
}

impl FleetRecord {
    /// The author, if it was done by hand.
    pub fn hand(&self) -> Option<&ByHand> {
        match self {
            Self::Fault(fault) => fault.hand.as_ref(),
            Self::FaultOver { hand, .. }
            | Self::EdgeLost { hand, .. }
            | Self::EdgeBack { hand, .. } => hand.as_ref(),
            Self::Boot { hand, .. } | Self::Stop { hand, .. } => Some(hand),
            _ => None,
        }
    }
}

/// Reads an event, and takes one that is of another version for [`FleetRecord::Unknown`].
pub(crate) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FleetRecord, D::Error> {
    let event = serde_json::Value::deserialize(deserializer)?;
    Ok(FleetRecord::deserialize(event).unwrap_or(FleetRecord::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;
    use serde_json::{Value, json};

    fn read(event: Value) -> FleetRecord {
        match serde_json::from_value(event).unwrap() {
            Event::Fleet { record, .. } => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_are_written_as_they_always_were() {
        let hand = || ByHand {
            by: "dashboard".into(),
            action: "kill".into(),
        };
        let crash = FaultRecord {
            fault: "crash".into(),
            round: Some(2),
            reboot: Some(true),
            hand: Some(hand()),
            ..FaultRecord::default()
        };
        for (client, record, what, detail) in [
            (
                Some(3),
                FleetRecord::Booting { attempt: 1 },
                "booting",
                json!({"attempt": 1}),
            ),
            (Some(3), FleetRecord::Stopped {}, "stopped", json!({})),
            (
                Some(3),
                FleetRecord::Fault(crash),
                "fault",
                json!({"fault": "crash", "round": 2, "reboot": true, "by": "dashboard", "action": "kill"}),
            ),
            (
                Some(3),
                FleetRecord::FaultOver {
                    fault: "cut".into(),
                    round: None,
                    hand: None,
                },
                "fault_over",
                json!({"fault": "cut"}),
            ),
            (
                None,
                FleetRecord::Stop {
                    round: 2,
                    hand: hand(),
                },
                "stop",
                json!({"round": 2, "by": "dashboard", "action": "kill"}),
            ),
            (
                None,
                FleetRecord::FleetBooted {
                    devices: 4,
                    boot_s: 1.5,
                },
                "fleet_booted",
                json!({"devices": 4, "boot_s": 1.5}),
            ),
            (
                None,
                FleetRecord::Mesh(MeshRecord {
                    radio: "hc-12".into(),
                    range_m: 10.0,
                    places: vec![[0.0, 0.0], [6.0, 8.0]],
                    hops: vec![0, 1],
                }),
                "mesh",
                json!({"radio": "hc-12", "range_m": 10.0, "places": [[0.0, 0.0], [6.0, 8.0]], "hops": [0, 1]}),
            ),
        ] {
            let written =
                json!({"event": "fleet", "client": client, "what": what, "detail": detail});
            let event = Event::Fleet {
                client,
                record: record.clone(),
            };
            assert_eq!(serde_json::to_value(event).unwrap(), written);
            assert_eq!(read(written), record);
        }
    }

    #[test]
    fn nodes_of_a_mesh_hear_each_other_within_the_range() {
        let mesh = MeshRecord {
            range_m: 10.0,
            places: vec![[0.0, 0.0], [6.0, 8.0], [12.0, 0.0]],
            ..MeshRecord::default()
        };
        assert_eq!(mesh.links().collect::<Vec<_>>(), [(0, 1), (1, 2)]);
        assert!(!mesh.hears(1, 1) && !mesh.hears(0, 3));
    }

    #[test]
    fn what_is_not_known_is_no_error() {
        for (what, detail) in [
            ("usage", json!({"host_bytes": 7})),
            ("died", Value::Null),
            ("stopped", json!("a text")),
            ("boot", json!({})),
            ("?", json!([])),
        ] {
            let event = json!({"event": "fleet", "client": 1, "what": what, "detail": detail});
            assert_eq!(read(event), FleetRecord::Unknown, "{what}");
        }
        let record = read(json!({"event": "fleet", "client": 1, "what": "died", "detail": {}}));
        assert!(matches!(record, FleetRecord::Died { reason, .. } if reason.is_empty()));
        let by = read(json!({
            "event": "fleet", "client": 1, "what": "fault", "detail": {"fault": "cut", "by": 5},
        }));
        assert_eq!(by.hand(), None);
    }
}
