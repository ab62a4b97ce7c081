//! The gateway: fl-edge's state machine on the client's thread.

use crate::HTTP_PORT;
use crate::port::ZephyrPort;
use crate::tcp::Errno;
use alloc::boxed::Box;
use fl_client::Activity;
use fl_edge::{Config, Edge};
use fl_shell::command::Run;

/// Runs the gateway until the run is over.
///
/// # Errors
/// If it cannot listen.
pub fn run(args: &Run) -> Result<(), Errno> {
    let mut port = ZephyrPort::new(args.server, HTTP_PORT, false)?;
    let mut edge = Box::new(Edge::new(Config {
        // Without an ID it is nobody's edge, and the aggregator says so.
        id: args.client.unwrap_or(u32::MAX),
        http_port: HTTP_PORT,
        server: args.server,
        secret: args.secret,
    }));
    loop {
        match edge.poll(&mut port) {
            Activity::Busy => {}
            Activity::Idle { wake_at_us } => port.wait(wake_at_us),
            Activity::Stopped => return Ok(()),
        }
    }
}
