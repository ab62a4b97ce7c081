//! A port that counts what passes through it.

use crate::port::{Port, PortError};

/// HTTP bytes since boot, heads included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub received: u64,
    pub sent: u64,
}

/// A [`Port`] at work: the moment, and the counters that reads and writes add to.
pub(crate) struct Metered<'a, P: Port> {
    pub port: &'a mut P,
    pub traffic: &'a mut Traffic,
    pub now_us: u64,
}

impl<P: Port> Metered<'_, P> {
    pub fn read(
        &mut self,
        connection: &mut P::Connection,
        buffer: &mut [u8],
    ) -> Result<usize, PortError> {
        let n = self.port.read(connection, buffer)?;
        self.traffic.received += n as u64;
        Ok(n)
    }

    pub fn write(
        &mut self,
        connection: &mut P::Connection,
        bytes: &[u8],
    ) -> Result<usize, PortError> {
        let n = self.port.write(connection, bytes)?;
        self.traffic.sent += n as u64;
        Ok(n)
    }
}
