//! An aggregator at work: what happens goes to the observer, and signals end it.

use crate::observer::Observer;
use anyhow::{Context, Result};
use std::future::pending;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use zfl_aggregator::{Entrance, Server};
use zfl_orchestrator::BLOCKING_THREADS;
use zfl_run_dir::{Event, Record, TrainingSummary};
use zfl_sandbox::signals;

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Name that users know.
    pub name: &'static str,
    /// The exit status that tells of it: 128 and the signal's number.
    pub status: u8,
}

impl Interrupt {
    const ALL: [Self; 3] = [
        Self::new("SIGINT", 130),
        Self::new("SIGTERM", 143),
        Self::new("SIGHUP", 129),
    ];

    const fn new(name: &'static str, status: u8) -> Self {
        Self { name, status }
    }

    /// The signal of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name == name)
    }
}

/// The signals that ask for the end, but those that were ignored when zfl was started.
#[derive(Debug)]
pub struct Interrupts([Option<Signal>; 3]);

impl Interrupts {
    /// Takes these signals over: they no longer end the process by themselves.
    ///
    /// # Errors
    /// If the system refuses, or there is no runtime.
    pub fn new() -> Result<Self> {
        let new = |number: i32| {
            let ignored = signals::is_ignored(number.try_into()?);
            let signal = (!ignored).then(|| signal(SignalKind::from_raw(number)));
            signal.transpose().context("cannot listen for signals")
        };
        let numbers = Interrupt::ALL.map(|one| i32::from(one.status) - 128);
        let [int, term, hup] = numbers.map(new);
        Ok(Self([int?, term?, hup?]))
    }

    /// The next one.
    pub async fn next(&mut self) -> Interrupt {
        let [int, term, hup] = &mut self.0;
        let at = tokio::select! {
            () = comes(int) => 0,
            () = comes(term) => 1,
            () = comes(hup) => 2,
        };
        Interrupt::ALL[at]
    }
}

async fn comes(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => pending().await,
    }
}

/// Runs a future on a runtime of its own.
///
/// # Errors
/// Its own, or that there can be no runtime.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    runtime
        .context("cannot start the runtime")?
        .block_on(zfl_clock::heartbeat(future))
}

/// Runs an aggregator to its end. If `signals` count, the first ends it cleanly; a second is the
/// observer's.
///
/// # Errors
/// If it cannot serve, or signals cannot be listened for.
pub(crate) async fn aggregate(
    server: Server,
    entrance: Entrance,
    observer: &Arc<dyn Observer>,
    signals: bool,
) -> Result<(TrainingSummary, Option<Interrupt>)> {
    let mut interrupts = signals.then(Interrupts::new).transpose()?;
    let handle = server.handle();
    let told = tokio::spawn(tell(handle.subscribe(), Arc::clone(observer)));
    let running = server.run(entrance);
    tokio::pin!(running);
    let mut interrupt: Option<Interrupt> = None;
    let summary = loop {
        let signal = async {
            match &mut interrupts {
                Some(interrupts) => interrupts.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            summary = &mut running => break summary?,
            signal = signal => {
                if interrupt.is_some() {
                    observer.on_second_signal(signal);
                    continue;
                }
                observer.on_note(&format!("{}: stopping; once more to stop at once", signal.name));
                handle.cancel(&format!("interrupted by {}", signal.name));
                interrupt = Some(signal);
            }
        }
    };
    // It ends with the last event, which has been told.
    told.await.context("the observer failed")?;
    Ok((summary, interrupt))
}

/// Tells the observer of every event, the last included.
async fn tell(mut events: Receiver<Record>, observer: Arc<dyn Observer>) {
    loop {
        match events.recv().await {
            Ok(record) => {
                observer.on_event(&record.event);
                if let Event::RunFinished { .. } = record.event {
                    return;
                }
            }
            Err(RecvError::Closed) => return,
            Err(RecvError::Lagged(missed)) => observer.on_warning(&format!(
                "{missed} events were too fast to show; all are in events.jsonl"
            )),
        }
    }
}
