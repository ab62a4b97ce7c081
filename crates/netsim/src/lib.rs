//! A network emulator in one process: links by name, a layer-2 switch that makes frames suffer them, and the
//! air that radios share.
//!
//! [`Link`] says what a link does to frames, [`profile`] names links in files, [`Switch`] carries the
//! frames of a fleet, and [`Link::transfer_time`] computes how long a transfer takes at least. It knows
//! clients by number and address; machines, fleets and runs are for the crates above.

#[cfg(not(target_os = "linux"))]
compile_error!("the switch runs on Linux: it is made of epoll, timerfd and datagram sockets");

mod link;
pub mod profile;
pub mod radio;
mod switch;
mod transfer;

pub use link::{Direction, Impairment, Link, Loss, MAX_FRAME_BYTES, Queue, Rate};
pub use switch::{
    ClientStats, HostHook, LATE, LaneStats, Mac, PortStats, Punctuality, Switch, SwitchBuilder,
    SwitchError, SwitchHandle, SwitchStats,
};
pub use transfer::ROUND_TRIPS_PER_EXCHANGE;
