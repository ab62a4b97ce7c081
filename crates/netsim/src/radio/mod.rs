//! Radios: by name in files, where they stand, and the air that they share.
//!
//! [`RadioProfile`] says what a radio is, [`Topology`] who hears whom, [`Medium`] what becomes of a frame, and
//! [`Mesh`] runs a gateway and its leaves over it, in simulated time: every event follows from the seed and
//! from the messages that its user gives it.

mod air;
mod medium;
mod mesh;
mod modem;
mod profile;
mod topology;
mod wakes;

pub use air::Air;
pub use fl_radio::{FRAME_BYTES, MESSAGE_BYTES};
pub use medium::{AirStats, Conditions, Heard, Medium};
pub use mesh::{Mesh, MeshConfig, NodeStats, epoch};
pub use profile::{RadioPower, RadioProfile, known_radios};
pub use topology::{Topology, TopologyError, TopologyKind};
