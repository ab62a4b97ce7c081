//! Trouble on purpose: which device suffers what in which round.
//!
//! This module only decides, from one seed; the fleet carries it out. A fault comes by probability,
//! by schedule or by an availability trace. Every decision is drawn from a stream of its own,
//! `(seed, client, round, kind)`, so the same seed gives the same faults in the same rounds, whatever
//! else the configuration holds and however the run went before.
//!
//! A device has at most one fault a round. Where several are drawn, a scheduled one goes first, then
//! the trace, then the order of [`Fault`]'s variants.

mod config;
mod trace;

pub use config::{Crash, FaultConfig, FaultError, LostEdge, Scheduled, Span};
pub use trace::{Trace, TraceUnit};

use fl_rng::{Decision, fraction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One device's trouble in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Away for the whole round: its link is cut before the cohort is chosen.
    DropOut,
    /// Killed while it trains, and booted again afterwards if `reboot` says so.
    Crash {
        /// True if it comes back for the next round.
        #[serde(default)]
        reboot: bool,
    },
    /// Its memory runs out when training starts: it refuses the round.
    OutOfMemory,
    /// Sends an update damaged on the way.
    Corrupt,
    /// Stops (SIGSTOP) while it trains and goes on after a while.
    Freeze {
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// Its link is cut while it trains and healed after a while.
    Cut {
        /// For how long, in milliseconds.
        for_ms: u64,
    },
}

impl Fault {
    /// The fault's name in logs and files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DropOut => "drop-out",
            Self::Crash { .. } => "crash",
            Self::OutOfMemory => "out-of-memory",
            Self::Corrupt => "corrupt",
            Self::Freeze { .. } => "freeze",
            Self::Cut { .. } => "cut",
        }
    }
}

/// The faults of a whole run.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    config: FaultConfig,
    trace: Option<Trace>,
    seed: u64,
    clients: u32,
}

impl FaultPlan {
    /// A plan for clients `0..clients`.
    ///
    /// # Errors
    /// [`FaultError`] if the configuration makes no sense for this fleet.
    pub fn new(
        config: FaultConfig,
        trace: Option<Trace>,
        seed: u64,
        clients: u32,
    ) -> Result<Self, FaultError> {
        config.validate(clients)?;
        if let Some(trace) = &trace {
            trace.validate(clients)?;
        }
        Ok(Self {
            config,
            trace,
            seed,
            clients,
        })
    }

    /// Tells if nothing ever happens.
    pub fn is_empty(&self) -> bool {
        self.trace.is_none() && self.config.is_empty()
    }

    /// Tells if links are cut in the middle of a round.
    pub fn cuts_links(&self) -> bool {
        let scheduled = |fault: &Fault| matches!(fault, Fault::Cut { .. });
        self.config.cut.probability > 0.0 || self.schedules(scheduled)
    }

    /// Tells if the time of a run decides who is there.
    pub fn follows_the_clock(&self) -> bool {
        let trace = self.trace.as_ref();
        trace.is_some_and(|trace| trace.unit() == TraceUnit::Seconds)
    }

    /// Tells if devices run out of memory.
    pub fn takes_memory(&self) -> bool {
        self.config.out_of_memory > 0.0 || self.schedules(|fault| *fault == Fault::OutOfMemory)
    }

    /// The longest that a device is frozen or its link cut in the middle of a round, in milliseconds.
    pub fn longest_ms(&self) -> u64 {
        let FaultConfig { freeze, cut, .. } = &self.config;
        let drawn = [freeze, cut].map(|span| {
            if span.probability > 0.0 {
                span.for_ms
            } else {
                0
            }
        });
        let scheduled = self.config.schedule.iter().map(|entry| match entry.fault {
            Fault::Freeze { for_ms } | Fault::Cut { for_ms } => for_ms,
            _ => 0,
        });
        scheduled.chain(drawn).max().unwrap_or(0)
    }

    fn schedules(&self, what: impl Fn(&Fault) -> bool) -> bool {
        self.config.schedule.iter().any(|entry| what(&entry.fault))
    }

    /// The faults of a round, by client. `elapsed_s` is the time of the run at the round's start, for
    /// a trace in seconds.
    pub fn round(&self, round: u32, elapsed_s: f64) -> BTreeMap<u32, Fault> {
        (0..self.clients)
            .filter_map(|client| Some((client, self.fault(client, round, elapsed_s)?)))
            .collect()
    }

    /// Edges that are lost in a round: true for those that come back for the next.
    pub fn lost_edges(&self, round: u32) -> BTreeMap<u32, bool> {
        let those = self.config.edges.iter().filter(|one| one.round == round);
        those.map(|one| (one.edge, one.reboot)).collect()
    }

    fn fault(&self, client: u32, round: u32, elapsed_s: f64) -> Option<Fault> {
        let scheduled = self.config.schedule.iter();
        if let Some(entry) = scheduled
            .into_iter()
            .find(|s| s.client == client && s.round == round)
        {
            return Some(entry.fault);
        }
        let trace = self.trace.as_ref();
        if trace.is_some_and(|trace| !trace.is_on(client, round, elapsed_s)) {
            return Some(Fault::DropOut);
        }
        let drawn = |decision: Decision, probability: f64| {
            fraction(decision.word(self.seed, client, round)) < probability
        };
        let FaultConfig {
            drop_out,
            crash,
            out_of_memory,
            corrupt,
            freeze,
            cut,
            ..
        } = &self.config;
        let for_ms = |span: &Span| span.for_ms;
        [
            drawn(Decision::DropOut, *drop_out).then_some(Fault::DropOut),
            drawn(Decision::Crash, crash.probability).then_some(Fault::Crash {
                reboot: crash.reboot,
            }),
            drawn(Decision::OutOfMemory, *out_of_memory).then_some(Fault::OutOfMemory),
            drawn(Decision::Corrupt, *corrupt).then_some(Fault::Corrupt),
            drawn(Decision::Freeze, freeze.probability).then_some(Fault::Freeze {
                for_ms: for_ms(freeze),
            }),
            drawn(Decision::Cut, cut.probability).then_some(Fault::Cut {
                for_ms: for_ms(cut),
            }),
        ]
        .into_iter()
        .flatten()
        .next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(toml: &str, seed: u64) -> FaultPlan {
        FaultPlan::new(toml::from_str(toml).unwrap(), None, seed, 50).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let text = "drop_out = 0.3\ncrash = { probability = 0.05, reboot = true }";
        let (one, two, other) = (plan(text, 7), plan(text, 7), plan(text, 8));
        for round in 1..=20 {
            assert_eq!(one.round(round, 0.0), two.round(round, 99.0));
        }
        assert_ne!(one.round(1, 0.0), other.round(1, 0.0));
        // What one kind does is not moved by another that is added.
        let drop_outs = |plan: &FaultPlan| {
            let faults = plan.round(3, 0.0).into_iter();
            faults
                .filter(|(_, f)| *f == Fault::DropOut)
                .collect::<Vec<_>>()
        };
        assert_eq!(drop_outs(&one), drop_outs(&plan("drop_out = 0.3", 7)));
    }

    #[test]
    fn faults_come_as_often_as_asked() {
        let plan = plan("drop_out = 0.3\ncrash = { probability = 0.05 }", 1);
        let all: Vec<Fault> = (1..=400)
            .flat_map(|r| plan.round(r, 0.0).into_values())
            .collect();
        let count = |fault: Fault| all.iter().filter(|f| **f == fault).count() as f64 / 20_000.0;
        assert!((count(Fault::DropOut) - 0.3).abs() < 0.01);
        // A crash shows only where no drop-out goes before it.
        assert!((count(Fault::Crash { reboot: false }) - 0.7 * 0.05).abs() < 0.005);
    }

    #[test]
    fn a_schedule_goes_first() {
        let text =
            "drop_out = 1.0\n[[schedule]]\nround = 3\nclient = 7\nfault = \"freeze\"\nfor_ms = 250";
        let faults = plan(text, 1).round(3, 0.0);
        assert_eq!(faults[&7], Fault::Freeze { for_ms: 250 });
        assert_eq!(
            faults.values().filter(|f| **f == Fault::DropOut).count(),
            49
        );
    }

    #[test]
    fn a_trace_takes_devices_away() {
        let trace = Trace::parse(
            r#"{"unit":"rounds","devices":[{"client":2,"on":[[1,3],[5,9]]},{"client":4,"on":[]}]}"#,
        );
        let plan = FaultPlan::new(FaultConfig::default(), Some(trace.unwrap()), 1, 50).unwrap();
        let away = |round| plan.round(round, 0.0).into_keys().collect::<Vec<_>>();
        assert_eq!(
            [away(1), away(3), away(4), away(5)],
            [vec![4], vec![2, 4], vec![2, 4], vec![4]]
        );
    }

    #[test]
    fn nothing_configured_is_nothing_that_happens() {
        let plan = plan("", 1);
        assert!(plan.is_empty() && plan.round(1, 0.0).is_empty());
        assert!(!plan.cuts_links() && !plan.takes_memory());
        assert_eq!(plan.longest_ms(), 0);
    }

    #[test]
    fn a_fault_of_any_kind_is_something_that_happens() {
        for text in [
            "drop_out = 0.1",
            "crash = { probability = 0.1 }",
            "out_of_memory = 0.1",
            "corrupt = 0.1",
            "freeze = { probability = 0.1, for_ms = 5 }",
            "cut = { probability = 0.1, for_ms = 5 }",
            "trace = \"phones.json\"",
            "[[schedule]]\nround = 1\nclient = 1\nfault = \"crash\"",
        ] {
            assert!(!plan(text, 1).is_empty(), "{text}");
        }
        let trace = Trace::parse(r#"{"unit":"rounds","devices":[]}"#).unwrap();
        let plan = FaultPlan::new(FaultConfig::default(), Some(trace), 1, 50).unwrap();
        assert!(!plan.is_empty());
    }

    #[test]
    fn a_plan_says_what_the_fleet_has_to_prepare() {
        let scheduled =
            |fault: &str| format!("[[schedule]]\nround = 1\nclient = 1\nfault = \"{fault}\"");
        let lasting = |fault: &str| scheduled(fault) + "\nfor_ms = 70";
        for (text, cuts, memory, longest) in [
            (
                "cut = { probability = 0.1, for_ms = 50 }".to_owned(),
                true,
                false,
                50,
            ),
            (
                "freeze = { probability = 0.1, for_ms = 60 }".to_owned(),
                false,
                false,
                60,
            ),
            // What never happens takes no time.
            (
                "freeze = { probability = 0.0, for_ms = 60 }".to_owned(),
                false,
                false,
                0,
            ),
            ("out_of_memory = 0.1".to_owned(), false, true, 0),
            (lasting("cut"), true, false, 70),
            (lasting("freeze"), false, false, 70),
            (scheduled("out-of-memory"), false, true, 0),
            (scheduled("corrupt"), false, false, 0),
        ] {
            let plan = plan(&text, 1);
            let found = (plan.cuts_links(), plan.takes_memory(), plan.longest_ms());
            assert_eq!(found, (cuts, memory, longest), "{text}");
        }
    }

    #[test]
    fn faults_have_the_names_of_their_files() {
        for name in ["drop-out", "crash", "out-of-memory", "corrupt"] {
            let fault: Fault = toml::from_str(&format!("fault = \"{name}\"")).unwrap();
            assert_eq!(fault.name(), name);
        }
        for name in ["freeze", "cut"] {
            let fault: Fault = toml::from_str(&format!("fault = \"{name}\"\nfor_ms = 1")).unwrap();
            assert_eq!(fault.name(), name);
        }
    }

    #[test]
    fn a_trace_of_clients_that_there_are_not_is_refused() {
        let trace = Trace::parse(r#"{"unit":"rounds","devices":[{"client":50,"on":[]}]}"#).unwrap();
        let refused = FaultPlan::new(FaultConfig::default(), Some(trace), 1, 50).unwrap_err();
        assert_eq!(
            refused,
            FaultError::Client {
                client: 50,
                last: 49
            }
        );
    }
}
