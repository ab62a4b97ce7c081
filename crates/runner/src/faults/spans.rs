//! Freezes and cuts under way: faults that last.
//!
//! They end with their round at the latest, so that the next one finds every device as it would without
//! them: how long a fault lasted then decides nothing. Where a run lets time decide by choice, they last as
//! long as they were to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use zfl_aggregator::lock;
use zfl_experiment::Experiment;
use zfl_orchestrator::faults::Fault;

/// Faults that last, and their rules.
pub(super) struct Spans {
    ends_with_round: bool,
    round_deadline: Duration,
    held: Mutex<Held>,
    /// Held while one begins.
    beginning: Arc<RwLock<()>>,
}

/// Devices that are held up.
#[derive(Default)]
struct Held {
    /// The faults, with a number each by which a later one is told from it.
    by_client: BTreeMap<u32, (u64, Fault)>,
    count: u64,
}

/// A fault that lasts, and is about to begin.
pub(super) struct Span {
    pub for_ms: u64,
    number: u64,
    _beginning: OwnedRwLockReadGuard<()>,
}

impl Span {
    /// Its device is held up: the round may end from here on. Returns its number.
    pub fn has_begun(self) -> u64 {
        self.number
    }
}

impl Spans {
    /// None yet.
    pub fn new(experiment: &Experiment) -> Self {
        Self {
            ends_with_round: experiment.depends_on_time().is_empty(),
            round_deadline: Duration::from_secs_f64(experiment.round_deadline_s),
            held: Mutex::default(),
            beginning: Arc::default(),
        }
    }

    /// True if a device that is held up so long has no update in its round.
    pub fn outlasts_the_round(&self, held_up: Duration) -> bool {
        held_up >= self.round_deadline
    }

    /// Notes that a device is to be held up; `None` if the fault does not last, or its round is ending.
    pub fn begin(&self, client: u32, fault: Fault) -> Option<Span> {
        let (Fault::Freeze { for_ms } | Fault::Cut { for_ms }) = fault else {
            return None;
        };
        let beginning = self.beginning.clone().try_read_owned().ok()?;
        let mut held = lock(&self.held);
        held.count += 1;
        let number = held.count;
        held.by_client.insert(client, (number, fault));
        Some(Span {
            for_ms,
            number,
            _beginning: beginning,
        })
    }

    /// Notes the end of a fault; false if it was ended before.
    pub fn end(&self, client: u32, number: u64) -> bool {
        let mut held = lock(&self.held);
        let is_it = held
            .by_client
            .get(&client)
            .is_some_and(|(of, _)| *of == number);
        is_it && held.by_client.remove(&client).is_some()
    }

    /// Waits until those that are beginning have begun, and ends all that end with a round.
    pub async fn end_with_round(&self) -> BTreeMap<u32, Fault> {
        let _all_begun = self.beginning.write().await;
        if !self.ends_with_round {
            return BTreeMap::new();
        }
        let held = std::mem::take(&mut lock(&self.held).by_client);
        held.into_iter()
            .map(|(id, (_, fault))| (id, fault))
            .collect()
    }

    /// True while a device is held up.
    pub fn holds(&self, client: u32) -> bool {
        lock(&self.held).by_client.contains_key(&client)
    }
}
