//! The port of a device in a pool: streams of this process.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use fl_client::storage::Storage;
use fl_client::{Examples, Port, PortError};
use zfl_clock::Instant;
use zfl_pipe::{Line, Lines};

use super::examples::ListedExamples;
use crate::log::{DeviceLog, SharedLog, lock};
use crate::storage::RestingStorage;

/// Streams to a device that wait to be taken.
const WAITING: usize = 16;

/// Possessions of a device that it has whether it runs or not.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) client: u32,
    pub(super) log: SharedLog,
    storage: Mutex<Option<RestingStorage>>,
    incoming: Mutex<VecDeque<Line>>,
}

impl Home {
    pub(super) fn new(client: u32, log: DeviceLog, storage: Option<RestingStorage>) -> Self {
        Self {
            client,
            log: Arc::new(Mutex::new(log)),
            storage: Mutex::new(storage),
            incoming: Mutex::default(),
        }
    }

    /// Takes a stream in; false if too many wait.
    pub(super) fn called(&self, line: Line) -> bool {
        let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = incoming.len() < WAITING;
        if has_room {
            incoming.push_back(line);
        }
        has_room
    }

    /// Drops the streams that nobody took: the device has ended.
    pub(super) fn hang_up(&self) {
        let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut *incoming);
        drop(incoming);
        drop(lines);
    }
}

/// Streams of this process, the host's clock, and the device's log.
#[derive(Debug)]
pub(super) struct PoolPort {
    home: Arc<Home>,
    lines: Lines,
    started: Instant,
    /// The set that its examples are in; none if they are to be fetched.
    examples: Option<Arc<ListedExamples>>,
    storage: Option<RestingStorage>,
    /// Tasks that wait for what was written.
    untold: Vec<Waker>,
}

impl PoolPort {
    /// A port, until it is dropped.
    pub(super) fn new(
        home: Arc<Home>,
        lines: Lines,
        started: Instant,
        examples: Option<Arc<ListedExamples>>,
    ) -> Self {
        let storage = home.storage.lock();
        let storage = storage.unwrap_or_else(PoisonError::into_inner).take();
        Self {
            storage,
            home,
            lines,
            started,
            examples,
            untold: Vec::new(),
        }
    }
}

impl PoolPort {
    /// Tells those who wait for what was written: once for a message and not for each piece of it.
    pub(super) fn tell(&mut self) {
        self.untold.drain(..).for_each(Waker::wake);
    }

    /// Closes what is open while the device waits.
    pub(super) fn rest(&mut self) {
        if let Some(storage) = &mut self.storage {
            storage.close();
        }
    }
}

impl Drop for PoolPort {
    fn drop(&mut self) {
        self.tell();
        let mut storage = self
            .home
            .storage
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *storage = self.storage.take();
    }
}

impl Port for PoolPort {
    type Connection = Line;

    fn accept(&mut self) -> Option<Line> {
        let incoming = self.home.incoming.lock();
        incoming.unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn connect(&mut self) -> Result<Line, PortError> {
        self.lines.call(self.home.client).ok_or(PortError::Refused)
    }

    fn read(&mut self, line: &mut Line, buffer: &mut [u8]) -> Result<usize, PortError> {
        line.read(buffer).ok_or(PortError::WouldBlock)
    }

    fn write(&mut self, line: &mut Line, bytes: &[u8]) -> Result<usize, PortError> {
        let (written, waker) = line.write_silently(bytes);
        self.untold.extend(waker);
        let written = written.map_err(|_| PortError::Reset)?;
        written.ok_or(PortError::WouldBlock)
    }

    fn close(&mut self, line: Line) {
        drop(line);
    }

    fn now_us(&mut self) -> u64 {
        let us = self.started.elapsed().as_micros();
        us.try_into().unwrap_or(u64::MAX)
    }

    fn random(&mut self) -> [u8; 16] {
        rand::random()
    }

    fn storage(&mut self) -> Option<&mut dyn Storage> {
        let storage = self.storage.as_mut();
        storage.map(|storage| storage as &mut dyn Storage)
    }

    fn has_examples(&mut self) -> bool {
        self.examples.is_some()
    }

    fn examples(&mut self, client: u32, holdout: u32) -> Option<Arc<dyn Examples>> {
        let view = self.examples.as_ref()?.of(client, holdout > 0);
        Some(Arc::new(view))
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        lock(&self.home.log).line(&line.to_string());
    }
}
