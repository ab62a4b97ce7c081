//! Carries out what a [`FaultPlan`] decides: freezes, kills and reboots devices of the fleet, and tells
//! the aggregator what cannot work before each round, so that two runs of one seed lose the same
//! updates whatever the host's load.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use serde_json::json;
use tokio::sync::RwLock;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use zfl_aggregator::{Conditions, Event, Handle, Outlook};
use zfl_orchestrator::Fleet;
use zfl_orchestrator::faults::{Fault, FaultPlan};

/// The fleet, until it is stopped.
pub type SharedFleet = Arc<RwLock<Option<Fleet>>>;

/// What a killed device is typed to use up its heap: a command of every guest's shell.
const EXHAUST_HEAP: &str = "crash heap";

/// Makes trouble, as planned.
pub struct Trouble {
    plan: FaultPlan,
    fleet: SharedFleet,
    server: SocketAddr,
    aggregator: Handle,
    round: Mutex<Round>,
    /// Devices on their way back.
    reboots: tokio::sync::Mutex<JoinSet<()>>,
}

/// The round under way.
#[derive(Default)]
struct Round {
    faults: BTreeMap<u32, Fault>,
    /// Devices frozen because they are away.
    away: BTreeSet<u32>,
}

impl Trouble {
    /// Nothing happens before the first round.
    pub fn new(plan: FaultPlan, fleet: SharedFleet, server: SocketAddr, aggregator: Handle) -> Self {
        let (round, reboots) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { plan, fleet, server, aggregator, round, reboots }
    }

    /// Strikes devices as they start to train, until the run is over.
    pub async fn strike(self: Arc<Self>) {
        let mut events = self.aggregator.subscribe();
        loop {
            match events.recv().await {
                Ok(record) => match record.event {
                    Event::ClientStarted { client, .. } => {
                        let fault = self.with_round(|round| round.faults.remove(&client));
                        if let Some(fault) = fault {
                            Arc::clone(&self).hit(client, fault).await;
                        }
                    }
                    Event::RunFinished { .. } => break,
                    _ => {}
                },
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            }
        }
    }

    fn with_round<T>(&self, change: impl FnOnce(&mut Round) -> T) -> T {
        change(&mut self.round.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One device that trains, hit by its fault.
    async fn hit(self: Arc<Self>, client: u32, fault: Fault) {
        match fault {
            Fault::Crash { reboot } => {
                self.aggregator.client_lost(client, "crashed, as planned");
                self.kill(client).await;
                if reboot {
                    self.reboot(client).await;
                }
            }
            Fault::OutOfMemory => {
                self.aggregator.client_lost(client, "out of memory, as planned");
                if let Some(fleet) = &*self.fleet.read().await
                    && fleet.type_line(client, EXHAUST_HEAP).await.is_err()
                {
                    // A native device has no shell, and no heap of its own to use up.
                    let _ = fleet.kill(client).await;
                }
            }
            Fault::Freeze { for_ms } | Fault::Cut { for_ms } => self.pause(client, fault, for_ms).await,
            Fault::DropOut | Fault::Corrupt => {}
        }
    }

    async fn kill(&self, client: u32) {
        if let Some(fleet) = &*self.fleet.read().await {
            // A device that is gone already is as good as killed.
            let _ = fleet.kill(client).await;
        }
    }

    /// Boots a device again in the background; the next round waits for it.
    async fn reboot(self: &Arc<Self>, client: u32) {
        self.aggregator.client_expected(client);
        let this = Arc::clone(self);
        self.reboots.lock().await.spawn(async move {
            let fleet = this.fleet.read().await;
            let Some(fleet) = &*fleet else { return };
            let booted = fleet.boot_one(client, this.server).await;
            if !matches!(booted, Ok(Ok(_))) {
                this.aggregator.client_lost(client, "did not come back after its crash");
            }
        });
    }

    async fn pause(self: Arc<Self>, client: u32, fault: Fault, for_ms: u64) {
        let cut = matches!(fault, Fault::Cut { .. });
        if let Some(fleet) = &*self.fleet.read().await {
            let _ = if cut { fleet.cut(client).await } else { fleet.freeze(client).await };
        }
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            if let Some(fleet) = &*self.fleet.read().await {
                let _ = if cut { fleet.heal(client).await } else { fleet.thaw(client).await };
            }
        });
    }

    async fn prepare(&self, round: u32, elapsed_s: f64) -> Conditions {
        let mut reboots = std::mem::take(&mut *self.reboots.lock().await);
        while reboots.join_next().await.is_some() {}

        let faults = self.plan.round(round, elapsed_s);
        let away: BTreeSet<u32> =
            faults.iter().filter(|(_, fault)| **fault == Fault::DropOut).map(|(client, _)| *client).collect();
        let before = self.with_round(|now| {
            now.faults.clone_from(&faults);
            std::mem::replace(&mut now.away, away.clone())
        });
        if let Some(fleet) = &*self.fleet.read().await {
            join_all(before.difference(&away).map(|&client| fleet.thaw(client))).await;
            join_all(away.difference(&before).map(|&client| fleet.freeze(client))).await;
        }
        let mut conditions = Conditions { away, ..Conditions::default() };
        for (client, fault) in faults {
            self.aggregator.fleet_event(Some(client), "fault", json!({"kind": fault.name(), "round": round}));
            match fault {
                Fault::Corrupt => drop(conditions.corrupt.insert(client)),
                fault if fault.loses_update() && fault != Fault::DropOut => {
                    conditions.doomed.insert(client, format!("{}, as planned", fault.name()));
                }
                _ => {}
            }
        }
        conditions
    }
}

impl Outlook for Trouble {
    fn before_round(&self, round: u32, elapsed_s: f64) -> BoxFuture<'_, Conditions> {
        self.prepare(round, elapsed_s).boxed()
    }
}
