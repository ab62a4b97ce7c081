//! The `[faults]` table of an experiment file.

use super::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Faults by probability (per device and round) and by schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultConfig {
    /// Probability of [`Fault::DropOut`].
    pub drop_out: f64,
    /// [`Fault::Crash`].
    pub crash: Crash,
    /// Probability of [`Fault::OutOfMemory`].
    pub out_of_memory: f64,
    /// Probability of [`Fault::Corrupt`].
    pub corrupt: f64,
    /// [`Fault::Freeze`].
    pub freeze: Span,
    /// [`Fault::Cut`].
    pub cut: Span,
    /// An availability trace, JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
    /// Single faults at known places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Scheduled>,
    /// Edges that are lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<LostEdge>,
}

/// Probability of crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// Per device and round.
    pub probability: f64,
    /// True if a crashed device boots again and rejoins.
    #[serde(default)]
    pub reboot: bool,
}

/// Probability and length of a fault that lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Per device and round.
    pub probability: f64,
    /// Length in milliseconds.
    pub for_ms: u64,
}

/// One fault at a known place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scheduled {
    /// The round, from 1.
    pub round: u32,
    /// The client.
    pub client: u32,
    /// The fault.
    #[serde(flatten)]
    pub fault: Fault,
}

/// An edge killed while its devices train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LostEdge {
    /// The round, from 1.
    pub round: u32,
    /// Its number.
    pub edge: u32,
    /// True if it comes back for the next round.
    #[serde(default)]
    pub reboot: bool,
}

/// Reason for which a fault configuration is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// Not in 0..=1.
    #[error("faults: {name} = {value} is no probability, give 0 to 1")]
    Probability {
        /// The field.
        name: &'static str,
        /// The value as given.
        value: f64,
    },
    /// A span without a length.
    #[error("faults: {0} needs for_ms, how long it lasts")]
    NoLength(&'static str),
    /// No such client.
    #[error("faults: client {client} is scheduled or traced, the fleet has 0 to {last}")]
    Client {
        /// The client named.
        client: u32,
        /// The last of the fleet.
        last: u32,
    },
    /// Rounds count from 1.
    #[error("faults: round 0 is scheduled, rounds count from 1")]
    Round,
    /// A device has at most one fault a round.
    #[error("faults: round {round} has two scheduled faults of client {client}, leave one out")]
    Twice {
        /// The round.
        round: u32,
        /// The client.
        client: u32,
    },
    /// No such edge.
    #[error("faults: edge {edge} is to be lost, and the run has {edges}, numbered from 0")]
    Edge {
        /// The edge named.
        edge: u32,
        /// Edges of the run.
        edges: u32,
    },
    /// Not a trace.
    #[error("faults: the trace is not as documented: {0}")]
    Trace(String),
}

impl FaultConfig {
    /// True if there are no faults.
    pub fn is_empty(&self) -> bool {
        self.trace.is_none()
            && self.schedule.is_empty()
            && self.edges.is_empty()
            && self.probabilities().all(|(_, p)| p == 0.0)
    }

    fn probabilities(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        [
            ("drop_out", self.drop_out),
            ("crash", self.crash.probability),
            ("out_of_memory", self.out_of_memory),
            ("corrupt", self.corrupt),
            ("freeze", self.freeze.probability),
            ("cut", self.cut.probability),
        ]
        .into_iter()
    }

    /// Refuses what makes no sense for a fleet of `clients`.
    ///
    /// # Errors
    /// The first [`FaultError`] found.
    pub fn validate(&self, clients: u32) -> Result<(), FaultError> {
        if let Some((name, value)) = self.probabilities().find(|(_, p)| !(0.0..=1.0).contains(p)) {
            return Err(FaultError::Probability { name, value });
        }
        for (name, span) in [("freeze", &self.freeze), ("cut", &self.cut)] {
            if span.probability > 0.0 && span.for_ms == 0 {
                return Err(FaultError::NoLength(name));
            }
        }
        let mut seen = BTreeSet::new();
        for &Scheduled {
            round,
            client,
            fault,
        } in &self.schedule
        {
            check_client(client, clients)?;
            if round == 0 {
                return Err(FaultError::Round);
            }
            if !seen.insert((round, client)) {
                return Err(FaultError::Twice { round, client });
            }
            if let Fault::Freeze { for_ms: 0 } | Fault::Cut { for_ms: 0 } = fault {
                return Err(FaultError::NoLength(fault.name()));
            }
        }
        Ok(())
    }
}

impl FaultConfig {
    /// Refuses what makes no sense for so many edges.
    ///
    /// # Errors
    /// The first [`FaultError`] found.
    pub fn validate_edges(&self, edges: u32) -> Result<(), FaultError> {
        for &LostEdge { round, edge, .. } in &self.edges {
            if edge >= edges {
                return Err(FaultError::Edge { edge, edges });
            }
            if round == 0 {
                return Err(FaultError::Round);
            }
        }
        Ok(())
    }
}

pub(super) fn check_client(client: u32, clients: u32) -> Result<(), FaultError> {
    if client < clients {
        Ok(())
    } else {
        Err(FaultError::Client {
            client,
            last: clients.saturating_sub(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let config: FaultConfig = toml::from_str(text).unwrap();
        config.validate(10).unwrap_err().to_string()
    }

    #[test]
    fn nonsense_is_refused_with_what_to_do() {
        assert_eq!(
            refused("drop_out = 1.5"),
            "faults: drop_out = 1.5 is no probability, give 0 to 1"
        );
        assert_eq!(
            refused("corrupt = nan"),
            "faults: corrupt = NaN is no probability, give 0 to 1"
        );
        assert_eq!(
            refused("freeze = { probability = 0.1, for_ms = 0 }"),
            "faults: freeze needs for_ms, how long it lasts"
        );
        assert_eq!(
            refused("[[schedule]]\nround = 1\nclient = 10\nfault = \"drop-out\""),
            "faults: client 10 is scheduled or traced, the fleet has 0 to 9"
        );
        assert_eq!(
            refused("[[schedule]]\nround = 0\nclient = 1\nfault = \"drop-out\""),
            "faults: round 0 is scheduled, rounds count from 1"
        );
        let twice = "[[schedule]]\nround = 1\nclient = 1\nfault = \"crash\"\n";
        assert_eq!(
            refused(&twice.repeat(2)),
            "faults: round 1 has two scheduled faults of client 1, leave one out"
        );
        assert_eq!(
            refused("[[schedule]]\nround = 1\nclient = 1\nfault = \"cut\"\nfor_ms = 0"),
            "faults: cut needs for_ms, how long it lasts"
        );
        assert!(toml::from_str::<FaultConfig>("dropout = 0.1").is_err());
        assert!(
            toml::from_str::<FaultConfig>("[[schedule]]\nround = 1\nclient = 1\nfault = \"fire\"")
                .is_err()
        );
    }

    #[test]
    fn an_edge_that_there_is_not_cannot_be_lost() {
        let refused = |text: &str| {
            let config: FaultConfig = toml::from_str(text).unwrap();
            assert!(!config.is_empty());
            config.validate_edges(3).err()
        };
        assert_eq!(refused("[[edges]]\nround = 1\nedge = 2"), None);
        let far = FaultError::Edge { edge: 3, edges: 3 };
        assert_eq!(refused("[[edges]]\nround = 1\nedge = 3"), Some(far));
        let early = refused("[[edges]]\nround = 0\nedge = 0");
        assert_eq!(early, Some(FaultError::Round));
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        let text = "drop_out = 0.3\ntrace = \"phones.json\"\n[[schedule]]\nround = 2\nclient = 1\nfault = \"crash\"\nreboot = true\n";
        let config: FaultConfig = toml::from_str(text).unwrap();
        assert_eq!(config.schedule[0].fault, Fault::Crash { reboot: true });
        let again = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(config, again);
    }
}
