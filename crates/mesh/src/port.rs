//! The port of a native leaf: its streams are whole messages of a radio.

use std::fmt;

use fl_client::storage::Storage;
use fl_client::{Port, PortError, Usage};
use fl_exchange::{Streams, Unready};

/// Streams of a leaf, its clock and its log.
pub(crate) struct RadioPort {
    pub streams: Streams,
    /// The leaf's own time: that of the air, which stands while an exchange is on its way, and while it trains.
    pub clock_us: u64,
    log: Box<dyn FnMut(&str) + Send>,
    storage: Option<Box<dyn Storage + Send>>,
}

impl RadioPort {
    pub fn new(log: Box<dyn FnMut(&str) + Send>, storage: Option<Box<dyn Storage + Send>>) -> Self {
        Self {
            streams: Streams::default(),
            clock_us: 0,
            log,
            storage,
        }
    }
}

fn obstacle(unready: Unready) -> PortError {
    match unready {
        Unready::WouldBlock => PortError::WouldBlock,
        Unready::Broken => PortError::Reset,
    }
}

impl Port for RadioPort {
    type Connection = u32;

    fn accept(&mut self) -> Option<u32> {
        self.streams.accept()
    }

    fn connect(&mut self) -> Result<u32, PortError> {
        Ok(self.streams.connect())
    }

    fn read(&mut self, connection: &mut u32, buffer: &mut [u8]) -> Result<usize, PortError> {
        self.streams.read(*connection, buffer).map_err(obstacle)
    }

    fn write(&mut self, connection: &mut u32, bytes: &[u8]) -> Result<usize, PortError> {
        self.streams.write(*connection, bytes).map_err(obstacle)
    }

    fn close(&mut self, connection: u32) {
        self.streams.close(connection);
    }

    fn now_us(&mut self) -> u64 {
        self.clock_us
    }

    fn random(&mut self) -> [u8; 16] {
        rand::random()
    }

    fn storage(&mut self) -> Option<&mut dyn Storage> {
        let storage = self.storage.as_mut();
        storage.map(|storage| &mut **storage as &mut dyn Storage)
    }

    fn usage(&mut self) -> Usage {
        Usage::default()
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        (self.log)(&line.to_string());
    }
}
