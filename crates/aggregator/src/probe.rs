//! Questions to devices: `/ready`, at all times, beside the rounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fl_proto::DeviceState::{Failed, Ready};
use fl_round::ClientState;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use zfl_clock::Instant;
use zfl_run_dir::Event;

use crate::device::{DeviceError, Devices};
use crate::patience::{Answer, Key, Questions};
use crate::shared::{Shared, State};

/// Devices asked at once: more only makes all of them slower.
const AT_ONCE: usize = 12;

/// Clients that are looked at before the asking of a few: of a hundred thousand not all each time.
const LOOKED_AT: usize = 4096;

/// Number of training devices asked at once: fewer, since each answer costs training.
const TRAINING_AT_ONCE: usize = 4;

/// Longest wait for an answer.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Longest wait before a round for a device that failed before.
const SUSPECT_WITHIN: Duration = Duration::from_secs(1);

/// Intervals at which devices that have their data, and those that have failed, are asked.
const READY_INTERVAL: Duration = Duration::from_millis(50);
const SUSPECT_INTERVAL: Duration = Duration::from_secs(2);

/// Longest pause for a device that has its data and answers nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Asks devices that have their data whether they are ready, for ever.
pub(crate) async fn fetched(shared: Arc<Shared>, devices: Devices) {
    let questions = Questions::new(READY_INTERVAL, LONGEST_PAUSE);
    keep_asking(
        shared,
        devices,
        ClientState::Fetched,
        questions,
        READY_INTERVAL,
    )
    .await;
}

/// Asks devices that have failed whether they are there, for ever.
pub(crate) async fn suspects(shared: Arc<Shared>, devices: Devices) {
    let questions = Questions::new(SUSPECT_INTERVAL, SUSPECT_INTERVAL);
    keep_asking(
        shared,
        devices,
        ClientState::Suspect,
        questions,
        SUSPECT_INTERVAL,
    )
    .await;
}

/// Asks the devices of a state, each when its time has come: one that answers late keeps no other waiting.
async fn keep_asking(
    shared: Arc<Shared>,
    devices: Devices,
    of: ClientState,
    mut questions: Questions,
    look: Duration,
) {
    let mut asks = FuturesUnordered::new();
    let (mut from, mut looked) = (0, Instant::now());
    loop {
        if looked.elapsed() >= look {
            looked = Instant::now();
            shared.look(|state| questions.forget(|key| is_asked(state, of, key)));
        }
        let most = AT_ONCE - asks.len();
        // The next look goes on behind the last, and in the end comes back to those before.
        let mut last = (most == 0).then_some(from);
        let due = shared.look(|state| {
            let those = asked(state, of, from).take(LOOKED_AT);
            let those = those.inspect(|(id, _)| last = Some(id.saturating_add(1)));
            questions.due(those, most)
        });
        from = last.unwrap_or(0);
        let ask = async |key: (u32, SocketAddr)| {
            let answer = ask_if_ready(&shared, &devices, key, READY_WITHIN).await;
            (key, answer)
        };
        asks.extend(due.into_iter().map(ask));
        tokio::select! {
            Some((key, answer)) = asks.next() => if questions.answered(key, answer) {
                give_up(&shared, key);
            },
            () = zfl_clock::sleep(look) => {}
        }
    }
}

/// Gives up whoever does not answer as a device, until it joins again.
fn give_up(shared: &Shared, (id, address): (u32, SocketAddr)) {
    let why = format!("what listens at {address} does not answer as a device: it is asked no more");
    shared.with(|state, now_us| state.machine.lost(now_us, id, &why));
}

/// Asks devices that have failed, before a round: those that are there shall count in it.
pub(crate) async fn before_round(shared: &Shared, devices: &Devices, clients: &[u32]) {
    let those = shared.look(|state| located(state, clients.iter().copied()).collect());
    ask_all(shared, devices, those, SUSPECT_WITHIN).await;
}

/// Clients of a state that can be reached, and their addresses: those from one on, then those before it.
fn asked(state: &State, of: ClientState, from: u32) -> impl Iterator<Item = Key> + '_ {
    located(state, state.machine.reachable_from(of, from))
}

/// True if a client is still to be asked at that address.
fn is_asked(state: &State, of: ClientState, (id, address): &Key) -> bool {
    let at = || state.roster.get(*id)?.address;
    state.machine.state(*id) == Some(of) && at() == Some(*address)
}

fn located(state: &State, clients: impl Iterator<Item = u32>) -> impl Iterator<Item = Key> {
    clients.filter_map(|id| Some((id, state.roster.get(id)?.address?)))
}

/// Asks them whether they are ready; those that are count from then on.
async fn ask_all(
    shared: &Shared,
    devices: &Devices,
    those: Vec<(u32, SocketAddr)>,
    within: Duration,
) {
    let asks = those
        .into_iter()
        .map(|key| ask_if_ready(shared, devices, key, within).map(drop).boxed());
    futures::stream::iter(asks.collect::<Vec<_>>())
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

/// Asks a device whether it is ready; if so, it counts from then on.
async fn ask_if_ready(
    shared: &Shared,
    devices: &Devices,
    (id, address): (u32, SocketAddr),
    within: Duration,
) -> Answer {
    match ask(shared, devices, id, address, within).await {
        Ok(ready) if ready.id == id => {
            if matches!(ready.state, Ready | Failed) {
                shared.is_ready(id);
            }
            Answer::Device
        }
        Err(DeviceError::Connection(_) | DeviceError::TimedOut(_)) => Answer::Silence,
        Err(DeviceError::Refused { status, .. }) if status.is_server_error() => Answer::Silence,
        Ok(_) | Err(_) => Answer::Strange,
    }
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
            let machine = &state.machine;
            let those = machine.at_work().chain(machine.evaluating());
            those
                .filter_map(|(id, round)| Some((id, round, state.roster.get(id)?.address?)))
                .collect()
        });
        let asks = at_work.into_iter().map(|(id, round, address)| {
            ask_at_work(&shared, &devices, id, round, address)
                .map(drop)
                .boxed()
        });
        futures::stream::iter(asks.collect::<Vec<_>>())
            .buffer_unordered(TRAINING_AT_ONCE)
            .collect::<()>()
            .await;
    }
}

/// Progress of a client with its part of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has trained on so many examples; none if it is not at that round.
    Done(u32),
    /// It does not answer.
    Silent,
    /// It has no part in a round, or has done it.
    NoPart,
}

/// Asks one client that is at work.
pub(crate) async fn progress_of(shared: &Shared, devices: &Devices, client: u32) -> Progress {
    let at_work = shared.look(|state| {
        let machine = &state.machine;
        let mut those = machine.at_work().chain(machine.evaluating());
        let (_, round) = those.find(|(id, _)| *id == client)?;
        Some((round, state.roster.get(client)?.address?))
    });
    let Some((round, address)) = at_work else {
        return Progress::NoPart;
    };
    match ask_at_work(shared, devices, client, round, address).await {
        Some(ready) if ready.round == round => Progress::Done(ready.done_examples),
        Some(_) => Progress::Done(0),
        None => Progress::Silent,
    }
}

async fn ask_at_work(
    shared: &Shared,
    devices: &Devices,
    id: u32,
    round: u32,
    address: SocketAddr,
) -> Option<fl_proto::Ready> {
    let ready = ask(shared, devices, id, address, READY_WITHIN).await.ok()?;
    if ready.round != round {
        return Some(ready);
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
    Some(ready)
}
