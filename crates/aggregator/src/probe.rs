//! Questions to devices: `/ready`, at all times, beside the rounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fl_proto::DeviceState::{Failed, Ready};
use fl_round::ClientState;
use futures::{FutureExt, StreamExt};
use zfl_run_dir::Event;

use crate::device::{DeviceError, Devices};
use crate::shared::{Shared, State};

/// Devices asked at once: more only makes all of them slower.
const AT_ONCE: usize = 12;

/// Number of training devices asked at once: fewer, since each answer costs training.
const TRAINING_AT_ONCE: usize = 4;

/// Longest wait for an answer.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Longest wait before a round for a device that failed before.
const SUSPECT_WITHIN: Duration = Duration::from_secs(1);

/// Intervals at which devices that have their data, and those that have failed, are asked.
const READY_INTERVAL: Duration = Duration::from_millis(50);
const SUSPECT_INTERVAL: Duration = Duration::from_secs(2);

/// Asks devices that have their data whether they are ready, for ever.
pub(crate) async fn fetched(shared: Arc<Shared>, devices: Devices) {
    loop {
        let those = asked(&shared, ClientState::Fetched);
        ask_all(&shared, &devices, those, READY_WITHIN).await;
        zfl_clock::sleep(READY_INTERVAL).await;
    }
}

/// Asks devices that have failed whether they are there, for ever.
pub(crate) async fn suspects(shared: Arc<Shared>, devices: Devices) {
    loop {
        let those = asked(&shared, ClientState::Suspect);
        ask_all(&shared, &devices, those, READY_WITHIN).await;
        zfl_clock::sleep(SUSPECT_INTERVAL).await;
    }
}

/// Asks devices that have failed, before a round: those that are there shall count in it.
pub(crate) async fn before_round(shared: &Shared, devices: &Devices, clients: &[u32]) {
    let those = shared.look(|state| located(state, clients.iter().copied()));
    ask_all(shared, devices, those, SUSPECT_WITHIN).await;
}

/// Clients of a state that can be reached, and their addresses.
fn asked(shared: &Shared, of: ClientState) -> Vec<(u32, SocketAddr)> {
    shared.look(|state| located(state, state.machine.reachable(of)))
}

fn located(state: &State, clients: impl Iterator<Item = u32>) -> Vec<(u32, SocketAddr)> {
    clients
        .filter_map(|id| Some((id, state.roster.get(id)?.address?)))
        .collect()
}

/// Asks them whether they are ready; those that are count from then on.
async fn ask_all(
    shared: &Shared,
    devices: &Devices,
    those: Vec<(u32, SocketAddr)>,
    within: Duration,
) {
    let asks = those.into_iter().map(|(id, address)| {
        async move {
            let answer = ask(shared, devices, id, address, within).await;
            if answer.is_ok_and(|ready| ready.id == id && matches!(ready.state, Ready | Failed)) {
                shared.is_ready(id);
            }
        }
        .boxed()
    });
    futures::stream::iter(asks.collect::<Vec<_>>())
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

/// Asks one device, and notes whether it is there.
async fn ask(
    shared: &Shared,
    devices: &Devices,
    id: u32,
    address: SocketAddr,
    within: Duration,
) -> Result<fl_proto::Ready, DeviceError> {
    let answer = devices.ready(id, address, within).await;
    match answer {
        Err(DeviceError::TimedOut(_) | DeviceError::Connection(_)) => shared.unheard(id),
        _ => shared.heard(id),
    }
    answer
}

/// Asks the devices that are at work for their progress, for ever. A device that says that it gave up
/// has failed its round.
pub(crate) async fn progress(shared: Arc<Shared>, devices: Devices, interval: Duration) {
    loop {
        zfl_clock::sleep(interval).await;
        let at_work: Vec<(u32, u32, SocketAddr)> = shared.look(|state| {
            let those = state.machine.at_work();
            those
                .filter_map(|(id, round)| Some((id, round, state.roster.get(id)?.address?)))
                .collect()
        });
        let asks = at_work
            .into_iter()
            .map(|(id, round, address)| ask_at_work(&shared, &devices, id, round, address).boxed());
        futures::stream::iter(asks.collect::<Vec<_>>())
            .buffer_unordered(TRAINING_AT_ONCE)
            .collect::<()>()
            .await;
    }
}

async fn ask_at_work(shared: &Shared, devices: &Devices, id: u32, round: u32, address: SocketAddr) {
    let Ok(ready) = ask(shared, devices, id, address, READY_WITHIN).await else {
        return;
    };
    if ready.round != round {
        return;
    }
    if ready.state == Failed {
        let why = ready.error.as_deref().unwrap_or("no reason given");
        let why = zfl_text::plain(why);
        shared.failed_there(id, round, &format!("the device gave up: {why}"));
    }
    shared.in_round(id, round, || Event::ClientProgress {
        client: id,
        round,
        done_examples: ready.done_examples,
        total_examples: ready.total_examples,
    });
}
