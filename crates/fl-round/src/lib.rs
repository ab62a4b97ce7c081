//! The rounds of federated learning as a state machine without input and output.
//!
//! A [`Machine`] is told what happened (a device joined, an update came, time passed) and answers with
//! [`Action`]s: whom to ask, whom to send a `/start`, which updates to aggregate, when to wake it. Its
//! caller owns the sockets, the clock and the payloads, and performs the actions in order:
//!
//! ```
//! # use fl_round::{Action, Machine, Policy};
//! fn drive(machine: &mut Machine, now_us: u64) {
//!     machine.begin(now_us);
//!     while let Some(action) = machine.next_action() {
//!         match action {
//!             Action::FindFaults { .. } => machine.faults(now_us, Default::default()),
//!             Action::Probe { .. } => machine.probed(now_us),
//!             _ => break,
//!         }
//!     }
//!     // Until an event comes, or the clock says so.
//!     let _wake_at_us = machine.deadline();
//! }
//! ```
//!
//! # Terms
//! A *client* takes part; the *cohort* is who was chosen for a round; an *assignment* is a client's
//! place in it, with the token that its update must bring. A *late* update came after its round; one
//! *in flight* is still awaited when its round has ended ([`Stragglers::Buffer`]).
//!
//! # Units
//! Times are microseconds of the caller's clock, from any start. A clock that goes back stands still.
//!
//! # Invariants
//! - No socket, no clock, no payload of an update: an update is a number that the caller gave it.
//! - Every round ends: no stage waits for a client without a deadline.
//! - A client counts once for a round, with the token of its assignment, and not at all if it is known
//!   to crash in the round.
//! - Who is in a cohort follows from the seed, the round, who was available when it was chosen, and the
//!   [`Facts`] of rounds before; no order of arrival changes it. Time decides about a [suspect](ClientState::Suspect) alone: it is
//!   available if it answers the one [`Action::Probe`] before the round, which does not wait for it
//!   beyond that. Only a deadline that was missed makes a suspect, and that is told
//!   ([`Note::TimeDecided`]): a run without that note has the same cohorts and updates each time, unless
//!   its policy lets the first updates count in the order of their arrival ([`Order::Arrival`]).
//! - A client that is busy or out of reach when its round begins is asked again until the deadline.
//! - The evaluation of a new model by clients ([`Policy::evaluation`](Policy)) decides about no later round.
//! - An update that counts and comes again is [`Refused::Twice`], also after its round.
//! - An event costs O(log n) in the number of clients; a round costs O(n).

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod action;
mod client;
mod delivery;
mod evaluation;
mod machine;
mod memory;
mod policy;
mod round;
pub mod selection;
mod stages;
mod starts;

pub use action::{Action, Arrival, Closed, EvaluatedRound, Failure, Note, Phase, Start, Times};
pub use client::ClientState;
pub use delivery::{Delivery, Placed, Refused};
pub use machine::{Faults, Machine, TokenSource};
pub use memory::Memory;
pub use policy::{EvaluationPolicy, Order, Policy, StartPolicy, Stragglers};
pub use round::Taken;
pub use selection::{Facts, Measured, Pick, Selection, Selector};
pub use starts::StartAnswer;
