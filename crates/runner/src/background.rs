//! Tasks beside the rounds: planned faults, the watchdog, remote control, the fleet's events.

use crate::control::{self, ControlRequest};
use crate::faults::FaultRunner;
use crate::observer::Observer;
use crate::watchdog::{Deaths, Watchdog, watch};
use anyhow::{Context, Result};
use futures::future::join_all;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zfl_aggregator::Handle;
use zfl_experiment::Experiment;
use zfl_orchestrator::{Fleet, FleetEvent};
use zfl_run_dir::Death;

/// Interval between looks at the fleet's other holders.
const LET_GO: Duration = Duration::from_millis(2);

/// The tasks of one run.
pub(crate) struct Background {
    tasks: Vec<JoinHandle<()>>,
    watching: JoinHandle<()>,
    deaths: Deaths,
}

impl Background {
    pub fn start(
        aggregator: &Handle,
        faults: &Arc<FaultRunner>,
        observer: &Arc<dyn Observer>,
        experiment: &Experiment,
        told: mpsc::UnboundedReceiver<FleetEvent>,
        requests: mpsc::Receiver<ControlRequest>,
    ) -> Self {
        let deaths = Deaths::default();
        // A leaf is silent while it waits for its turn in the air, and its gateway answers for it; the mesh itself
        // looks after machines that do nothing.
        let patience = match experiment.radio {
            Some(_) => Duration::MAX,
            None => Duration::from_secs_f64(experiment.watchdog_s),
        };
        let watchdog = Watchdog {
            faults: Arc::clone(faults),
            aggregator: aggregator.clone(),
            observer: Arc::clone(observer),
            deaths: Arc::clone(&deaths),
            run: experiment.out.clone(),
            patience,
        };
        let debugged = Arc::clone(faults);
        let debuggers = zfl_clock::stand_still_while(move || debugged.is_debugged());
        let watching = watch(
            told,
            aggregator.clone(),
            Arc::clone(faults),
            Arc::clone(observer),
            Arc::clone(&deaths),
        );
        Self {
            tasks: vec![
                tokio::spawn(debuggers),
                tokio::spawn(Arc::clone(faults).perform(aggregator.subscribe())),
                tokio::spawn(watchdog.watch(aggregator.subscribe())),
                tokio::spawn(control::serve(
                    requests,
                    Arc::clone(faults),
                    Arc::clone(observer),
                )),
            ],
            watching: tokio::spawn(watching),
            deaths,
        }
    }

    /// Ends the fleet, and waits for all of it; returns the devices that died.
    pub async fn end(self, fleet: Arc<Fleet>) -> Result<Vec<Death>> {
        for task in &self.tasks {
            task.abort();
        }
        // What they were doing to the fleet is over when they are.
        join_all(self.tasks).await;
        unwrap_when_unique(fleet).await.stop().await;
        self.watching.await.context("the fleet's watch failed")?;
        let mut deaths = self.deaths.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *deaths))
    }
}

/// Waits until nobody else holds a value: whoever was told to end lets go of it a little later.
async fn unwrap_when_unique<T>(mut shared: Arc<T>) -> T {
    loop {
        shared = match Arc::try_unwrap(shared) {
            Ok(alone) => return alone,
            Err(shared) => shared,
        };
        zfl_clock::sleep(LET_GO).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_lets_go_late_is_waited_for() {
        let fleet = Arc::new(7);
        let held = Arc::clone(&fleet);
        let act = tokio::spawn(async move {
            zfl_clock::sleep(Duration::from_millis(50)).await;
            drop(held);
        });
        assert_eq!(unwrap_when_unique(fleet).await, 7);
        act.await.unwrap();
    }
}
