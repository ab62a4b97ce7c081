//! HTTP bytes of each client, counted at the streams: what was read and written, heads and all. A stream in process
//! carries the same bytes as a socket, and they count the same.
//!
//! A connection that the aggregator makes is for a client from the start. One that it takes is
//! nobody's until its request has named a client, which then gets what came before, too; bytes of
//! strangers are in no count.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zfl_run_dir::{ClientRecord, Traffic};

use crate::log::lock;
use crate::roster::Roster;
use crate::shared::{Shared, State};

/// The bytes of one connection, and whose they are.
#[derive(Debug)]
pub(crate) struct Tally {
    shared: Arc<Shared>,
    whose: Mutex<Whose>,
}

#[derive(Debug, Default)]
struct Whose {
    client: Option<u32>,
    /// Bytes that came before it was known whose they are.
    up: u64,
    down: u64,
    /// True while the answer to an update is on its way.
    answers: bool,
}

impl Tally {
    /// Tally of a connection to a client.
    pub fn of(shared: Arc<Shared>, client: u32) -> Arc<Self> {
        let tally = Self::of_nobody(shared);
        tally.belongs_to(client);
        tally
    }

    /// Tally of a connection of which nothing is known yet.
    pub fn of_nobody(shared: Arc<Shared>) -> Arc<Self> {
        let whose = Mutex::default();
        Arc::new(Self { shared, whose })
    }

    /// Gives a client what was counted and what will be. The first one stays: a connection has one
    /// exchange.
    pub fn belongs_to(&self, client: u32) {
        let mut whose = lock(&self.whose);
        if whose.client.is_none() {
            whose.client = Some(client);
            self.shared.count(client, whose.up, whose.down);
        }
    }

    /// Marks the connection of an update: its round is not counted before this connection is over.
    pub fn answers(&self) {
        lock(&self.whose).answers = true;
        self.shared.answering.send_modify(|count| *count += 1);
    }

    fn count(&self, up: u64, down: u64) {
        let mut whose = lock(&self.whose);
        match whose.client {
            Some(client) => self.shared.count(client, up, down),
            None => {
                whose.up += up;
                whose.down += down;
            }
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if lock(&self.whose).answers {
            self.shared.answering.send_modify(|count| *count -= 1);
        }
    }
}

/// Longest wait for answers to be out: as long as a connection to this machine can take.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

impl Shared {
    /// Waits until the answers to updates are out.
    pub(crate) async fn answered(&self) {
        let mut answering = self.answering.subscribe();
        let none = answering.wait_for(|count| *count == 0);
        let _ = zfl_clock::timeout(ANSWERS_WITHIN, none).await;
    }
}

/// Gives the clients of a round that is over their bytes since it was chosen.
pub(crate) fn fill(records: &mut [ClientRecord], state: &State) {
    for record in records {
        let before = state.chosen.get(&record.client);
        if let (Some(before), Some(now)) = (before, state.roster.bytes(record.client)) {
            (record.bytes_up, record.bytes_down) = (now.0 - before.0, now.1 - before.1);
        }
    }
}

/// Each client's bytes that came after the last call, as rows of `round`.
pub(crate) fn next(round: u32, roster: &mut Roster) -> Vec<Traffic> {
    let row = |(client, (bytes_up, bytes_down))| Traffic {
        round,
        client,
        bytes_up,
        bytes_down,
    };
    roster.take_untold().map(row).collect()
}

/// A stream that counts: what is read is up, what is written is down.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    stream: S,
    tally: Arc<Tally>,
}

impl<S> Counted<S> {
    pub fn new(stream: S, tally: Arc<Tally>) -> Self {
        Self { stream, tally }
    }

    /// Counts what a write took.
    fn written(&self, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = &write {
            self.tally.count(0, *n as u64);
        }
        write
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.tally.count((buf.filled().len() - before) as u64, 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::{Config, Weighting};
    use crate::log::Log;
    use fl_data::Dataset;
    use fl_nn::{Activation, Model, Shape};
    use std::collections::BTreeMap;

    fn shared() -> Arc<Shared> {
        let train = Dataset {
            inputs: vec![0],
            labels: vec![0],
            num_inputs: 1,
            num_classes: 2,
        };
        shared_with(train)
    }

    /// State of a run whose only client has all of these examples.
    pub(crate) fn shared_with(train: Dataset) -> Arc<Shared> {
        let config = Config {
            clients: 1,
            rounds: 1,
            first_round: 1,
            elapsed_before: Duration::ZERO,
            clients_per_round: 1,
            over_commit: 0,
            quorum: 1,
            stragglers: fl_round::Stragglers::Refuse,
            order: Default::default(),
            selection: Default::default(),
            budgets_j: Default::default(),
            wait_for: 1,
            ready_deadline: Duration::ZERO,
            round_deadline: Duration::ZERO,
            progress_interval: None,
            local_epochs: 1,
            batch_size: 1,
            learning_rate: 0.5,
            schedule: Default::default(),
            partial_work: Default::default(),
            privacy: None,
            optimizer: Default::default(),
            arithmetic: fl_proto::Arithmetic::Fixed,
            weighting: Weighting::NumExamples,
            attackers: Default::default(),
            algorithm: Default::default(),
            model: Model::new(Shape::new(&[1, 2]).unwrap(), Activation::Relu),
            seed: 7,
            overrides: BTreeMap::new(),
            encoding_up: fl_proto::codec::Encoding::default(),
            encoding_down: fl_proto::codec::Encoding::default(),
            evaluation: None,
            clusters: Default::default(),
            edge_rounds: 1,
        };
        let partition = fl_data::iid(train.len(), &[train.len()], 7).unwrap();
        let events = zfl_run_dir::EventLog::new(tempfile::tempfile().unwrap()).unwrap();
        let log = Log::new(events, Duration::ZERO).unwrap();
        Arc::new(Shared::new(config, train, partition, log, Default::default()).0)
    }

    #[tokio::test]
    async fn bytes_before_the_client_is_known_are_its_own() {
        let shared = shared();
        let tally = Tally::of_nobody(shared.clone());
        let bytes = || shared.look(|state| state.roster.get(0).map(|c| (c.bytes_up, c.bytes_down)));
        tally.count(5, 7);
        assert_eq!(bytes(), Some((0, 0)));
        tally.belongs_to(0);
        tally.belongs_to(0);
        tally.count(10, 10);
        assert_eq!(bytes(), Some((15, 17)));
    }
}
