//! A run on more than one machine: a root, and on each node an edge with its part of the fleet.
//!
//! Whatever starts the nodes (Slurm, MPI, Kubernetes, `--local`) tells each its rank, their number and where the root is:
//! [`World`]. A node connects to the root's `hub`, shows the token, and gets the experiment and the examples of its
//! cluster. It checks that this machine can carry its devices, waits for all others, and then runs them behind its edge
//! in namespaces of its own. The connection stays open: when it ends before the run does, the node is lost. Everything of
//! learning passes between edge and root as [`zfl_aggregator::Edge`] has it.

mod grant;
mod hub;
mod node;
mod part;
mod root;
mod wire;
mod world;

use zfl_aggregator::EdgeSetup;
use zfl_orchestrator::Word;

/// A secret for the nodes of a launch.
pub fn new_token() -> Word {
    EdgeSetup::secret()
}

pub use node::Node;
pub use root::Nodes;
pub use wire::{FromNode, FromRoot, WireError, receive, send};
pub use world::{World, WorldError};
