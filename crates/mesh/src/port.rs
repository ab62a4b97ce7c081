//! The port of a native leaf: its streams are whole messages of a radio.

use std::fmt;

use fl_client::storage::Storage;
use fl_client::{Port, PortError, Usage};
use fl_exchange::Streams;

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

impl Port for RadioPort {
    fl_exchange::port_of_streams!(PortError);

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
