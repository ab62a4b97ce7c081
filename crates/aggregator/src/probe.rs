//! Asking devices for what they are doing: `/ready`, at all times, beside the rounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fl_proto::DeviceState::{Failed, Ready};
use futures::{FutureExt, StreamExt};
use zfl_run_dir::Event;

use crate::device::{DeviceError, Devices};
use crate::roster::{Client, ClientState};
use crate::shared::Shared;

/// Devices asked at once: more only makes all of them slower.
const AT_ONCE: usize = 12;

/// Of those that train as many fewer, since each answer costs training.
const TRAINING_AT_ONCE: usize = 4;

/// Longest wait for an answer.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Longest wait before a round for a device that failed before.
const SUSPECT_WITHIN: Duration = Duration::from_secs(1);

/// Rounds wait no more for a device that has been silent for so long; it may still come back.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// How often devices that have their data, and those that have failed, are asked.
const READY_INTERVAL: Duration = Duration::from_millis(50);
const SUSPECT_INTERVAL: Duration = Duration::from_secs(2);

/// Asks devices that have their data whether they are ready, for ever.
pub(crate) async fn fetched(shared: Arc<Shared>, devices: Devices) {
    loop {
        let those = asked(&shared, |client| client.state == ClientState::Fetched);
        ask_all(&shared, &devices, those, READY_WITHIN).await;
        tokio::time::sleep(READY_INTERVAL).await;
    }
}

/// Asks devices that have failed whether they are there, for ever.
pub(crate) async fn suspects(shared: Arc<Shared>, devices: Devices) {
    loop {
        let those = asked(&shared, |client| client.state == ClientState::Suspect);
        ask_all(&shared, &devices, those, READY_WITHIN).await;
        tokio::time::sleep(SUSPECT_INTERVAL).await;
    }
}

/// Asks devices that have failed, before a round: those that are there shall count in it.
pub(crate) async fn before_round(shared: &Shared, devices: &Devices) {
    let those = asked(shared, |client| {
        let gone = client
            .silent_since
            .is_some_and(|since| since.elapsed() > GONE_AFTER);
        client.state == ClientState::Suspect && !gone
    });
    ask_all(shared, devices, those, SUSPECT_WITHIN).await;
}

/// Clients that fit and can be reached, and where.
fn asked(shared: &Shared, fits: impl Fn(&Client) -> bool) -> Vec<(u32, SocketAddr)> {
    shared.look(|state| {
        let clients = state.roster.iter();
        let those = clients.filter(|(id, client)| fits(client) && !state.away.contains(id));
        those
            .filter_map(|(id, client)| Some((id, client.address?)))
            .collect()
    })
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

/// Asks the devices of the round how far they are, until the round is over. A device that says that
/// it gave up has failed the round.
pub(crate) async fn progress(
    shared: Arc<Shared>,
    devices: Devices,
    round: u32,
    interval: Duration,
) {
    loop {
        tokio::time::sleep(interval).await;
        let asked: Vec<(u32, SocketAddr)> = shared.look(|state| {
            let open = state.open.iter().flat_map(|open| &open.assignments);
            let waiting = open.filter(|(_, assignment)| assignment.outcome.is_none());
            waiting
                .filter_map(|(id, _)| Some((*id, state.roster.get(*id)?.address?)))
                .collect()
        });
        let asks = asked.into_iter().map(|(id, address)| {
            let (shared, devices) = (&shared, &devices);
            async move {
                let Ok(ready) = ask(shared, devices, id, address, READY_WITHIN).await else {
                    return;
                };
                if ready.round != round {
                    return;
                }
                if ready.state == Failed {
                    let why = ready.error.as_deref().unwrap_or("no reason given");
                    let why = zfl_text::plain(why);
                    shared.failed_there(id, &format!("the device gave up: {why}"));
                }
                shared.in_round(id, || Event::ClientProgress {
                    client: id,
                    round,
                    done_examples: ready.done_examples,
                    total_examples: ready.total_examples,
                });
            }
        });
        futures::stream::iter(asks)
            .buffer_unordered(TRAINING_AT_ONCE)
            .collect::<()>()
            .await;
    }
}
