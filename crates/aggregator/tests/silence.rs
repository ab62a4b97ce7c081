//! Devices that are waited for in vain: no round waits for them twice, and whoever can reset them is told.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use support::{Device, LONG, Reply, Run, config, get};
use tokio::net::TcpListener;
use zfl_aggregator::{Event, Handle, RoundFaults, RoundHooks};

/// Waits until `read` gives something.
async fn soon<T>(what: &str, read: impl Fn() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = read() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, search).await.expect(what)
}

/// Time since a client fell silent.
async fn silent(handle: &Handle, client: u32) -> Duration {
    let long = || handle.silent().iter().find(|one| one.0 == client)?.1.into();
    soon("it is told to be silent", long).await
}

/// Two devices in round 1: one has its order, the other has failed and answers nothing.
async fn with_one_silent() -> (Run, Vec<Device>) {
    let run = Run::start(config(2, 2)).await;
    let devices = run.devices(2).await;
    devices[1].answer_next([Reply::Vanish]);
    (run, devices)
}

#[tokio::test]
async fn a_device_that_failed_is_silent_until_it_answers() {
    let (run, mut devices) = with_one_silent().await;
    silent(&run.handle, 1).await;
    assert_eq!(run.handle.silent().len(), 1, "the other has work to do");
    devices[1].come_back();
    // Not by its event: that of its first readiness may come after the round has started.
    soon("the silence is over", || {
        run.handle.silent().is_empty().then_some(())
    })
    .await;
    devices[0].serve().await;
    for device in devices {
        device.obey_always();
    }
    let finished = run.finish().await;
    assert_eq!(finished.cohorts(), [[0, 1], [0, 1]], "it counts again");
}

#[tokio::test]
async fn an_update_on_its_way_breaks_the_silence() {
    let (run, devices) = with_one_silent().await;
    let long = |handle: &Handle| {
        handle
            .silent()
            .iter()
            .find(|one| one.0 == 1)
            .map(|one| one.1)
    };
    silent(&run.handle, 1).await;
    run.handle.skip(LONG / 2);
    let before = long(&run.handle).expect("it is still silent");
    assert!(before >= LONG / 2);
    let mut upload = TcpStream::connect(run.address).unwrap();
    write!(
        upload,
        "POST /results?id=1 HTTP/1.1\r\nHost: aggregator\r\n{}Content-Length: 100\r\n\r\nZFL",
        support::word_line()
    )
    .unwrap();
    // It goes on to answer nothing, so that a new silence begins.
    soon("the silence is broken", || {
        long(&run.handle)
            .is_none_or(|long| long < before)
            .then_some(())
    })
    .await;
    drop(devices);
}

#[tokio::test]
async fn a_device_that_is_gone_is_not_silent() {
    let (run, _devices) = with_one_silent().await;
    silent(&run.handle, 1).await;
    run.handle.client_lost(1, "killed");
    assert!(run.handle.silent().is_empty());
    run.handle.client_expected(1);
    assert!(run.handle.silent().is_empty(), "it is booting");
}

/// Takes client 1 away in round 2.
struct Away;

impl RoundHooks for Away {
    fn before_round(
        &self,
        round: u32,
        _elapsed_s: f64,
    ) -> futures::future::BoxFuture<'_, RoundFaults> {
        let away = (round == 2)
            .then_some(1)
            .into_iter()
            .collect::<BTreeSet<_>>();
        Box::pin(std::future::ready(RoundFaults {
            away,
            ..RoundFaults::default()
        }))
    }
}

#[tokio::test]
async fn a_device_that_is_away_on_purpose_is_not_silent() {
    let mut run = Run::with_hooks(config(2, 2), Arc::new(Away)).await;
    let mut devices = run.devices(2).await;
    devices[1].answer_next([Reply::Vanish]);
    silent(&run.handle, 1).await;
    devices[0].serve().await;
    run.until(|event| matches!(event, Event::RoundStarted { round: 2, .. }).then_some(()))
        .await;
    assert!(run.handle.silent().is_empty());
    devices[0].serve().await;
    assert_eq!(run.finish().await.cohorts(), [vec![0, 1], vec![0]]);
}

#[tokio::test]
async fn those_that_did_not_come_are_waited_for_once() {
    let mut run = Run::start(config(3, 50)).await;
    // Client 1 joins, goes no further and refuses connections; client 2 never joins.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let answer = get(run.address, &format!("/id?client=1&address={address}")).await;
    assert_eq!(answer.status, 200);
    Device::join(run.address, 0).await.obey_always();
    run.until_ready(0).await;
    // A second wait would last longer than any test waits.
    run.pass_deadline().await;
    let finished = run.finish().await;
    assert_eq!(finished.summary.rounds_completed, 50);
    let lost = finished.events.iter().filter_map(|event| match event {
        Event::ClientLost { client, reason, .. } => Some((*client, reason.as_str())),
        _ => None,
    });
    assert_eq!(
        lost.collect::<Vec<_>>(),
        [(2, "did not join within 60s")],
        "whoever has joined may only be slow"
    );
}

#[tokio::test]
async fn those_that_come_late_are_welcome() {
    let mut run = Run::start(config(3, 2)).await;
    let mut first = Device::join(run.address, 0).await;
    run.until_ready(0).await;
    run.pass_deadline().await;
    let order = first.order().await;
    let second = Device::join(run.address, 1).await;
    // One that has no wish gets the place that nobody has had.
    let third = Device::join_without_wish(run.address).await;
    assert_eq!(third.id, 2);
    let mut ready = BTreeSet::new();
    while ready.len() < 2 {
        ready.insert(
            run.until(|event| match event {
                Event::ClientReady { client } if *client > 0 => Some(*client),
                _ => None,
            })
            .await,
        );
    }
    assert_eq!(first.post(&first.update(&order)).await.status, 200);
    for device in [first, second, third] {
        device.obey_always();
    }
    assert_eq!(run.finish().await.cohorts(), [vec![0], vec![0, 1, 2]]);
}

#[tokio::test]
async fn a_device_that_is_lost_before_its_answer_is_read_has_not_begun() {
    let run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    devices[1].answer_next([Reply::Hold]);
    devices[1].order().await;
    run.handle.client_lost(1, "killed");
    devices[1].let_go();
    devices[0].serve().await;
    let finished = run.finish().await;
    assert_eq!(finished.failures(), [(1, 1, "killed")]);
    let began = finished.events.iter().filter_map(|event| match event {
        Event::ClientStarted { client, .. } => Some(*client),
        _ => None,
    });
    assert_eq!(began.collect::<Vec<_>>(), [0]);
}
