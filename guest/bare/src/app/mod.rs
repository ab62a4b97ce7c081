//! The device on its machine, whatever that is.

pub mod device;
mod net;
mod port;
pub mod shell;
