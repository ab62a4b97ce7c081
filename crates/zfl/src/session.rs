//! An aggregator at work: what happens goes to the terminal, and signals end it.

use crate::terminal::{Terminal, display};
use anyhow::{Context, Result};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use zfl_aggregator::Server;
use zfl_run_dir::{Event, Record, TrainingSummary};

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// As users know it.
    pub name: &'static str,
    /// The exit status that tells of it: 128 and the signal's number.
    pub status: u8,
}

/// The signals that ask for the end.
#[derive(Debug)]
pub struct Interrupts {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Interrupts {
    /// From now on these signals no longer end the process by themselves.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new() -> Result<Self> {
        let new = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            int: new(SignalKind::interrupt())?,
            term: new(SignalKind::terminate())?,
            hup: new(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.int.recv() => Interrupt { name: "SIGINT", status: 130 },
            _ = self.term.recv() => Interrupt { name: "SIGTERM", status: 143 },
            _ = self.hup.recv() => Interrupt { name: "SIGHUP", status: 129 },
        }
    }
}

/// Runs an aggregator to its end. A signal ends it cleanly, a second one at once.
///
/// # Errors
/// If it cannot serve, or signals cannot be listened for.
pub async fn aggregate(
    server: Server,
    listener: TcpListener,
    terminal: &Arc<Terminal>,
) -> Result<(TrainingSummary, Option<Interrupt>)> {
    let mut interrupts = Interrupts::new()?;
    let handle = server.handle();
    let shown = tokio::spawn(show(handle.subscribe(), Arc::clone(terminal)));
    let running = server.run(listener);
    tokio::pin!(running);
    let mut interrupt: Option<Interrupt> = None;
    let summary = loop {
        tokio::select! {
            summary = &mut running => break summary?,
            signal = interrupts.next() => {
                if interrupt.is_some() {
                    display::abandon();
                    std::process::exit(i32::from(signal.status));
                }
                terminal.line(&format!("{}: stopping; once more to stop at once", signal.name));
                handle.cancel(&format!("interrupted by {}", signal.name));
                interrupt = Some(signal);
            }
        }
    };
    // It ends with the last event, which has been told.
    shown.await.context("the display failed")?;
    Ok((summary, interrupt))
}

async fn show(mut events: Receiver<Record>, terminal: Arc<Terminal>) {
    loop {
        match events.recv().await {
            Ok(Record {
                event: Event::RunFinished { .. },
                ..
            })
            | Err(RecvError::Closed) => break,
            Ok(record) => terminal.show(&record.event),
            Err(RecvError::Lagged(missed)) => {
                terminal.warn(&format!(
                    "{missed} events were too fast to show; all are in events.jsonl"
                ));
            }
        }
    }
    terminal.finish();
}
