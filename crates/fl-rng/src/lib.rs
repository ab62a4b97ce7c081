//! Every seeded random stream of a run.
//!
//! A draw is a function of the run's seed, a purpose, and where it applies a client and a round. The
//! purposes are listed in one file (`purpose.rs`), so no two parts of zfl can draw from one stream by
//! accident.
//!
//! | generator | draws |
//! |---|---|
//! | [`Pcg32`] | initial weights, orders of examples, partitions, cohorts |
//! | [`Normal`] | noise of differential privacy |
//! | [`Decision`] | whether a fault happens to one client in one round |
//! | [`Lane`] | the fate of the n-th frame of a link |
//! | [`Xorshift32`] | jitter of waiting times, which never touches a result |
//!
//! # Invariants
//! - The same arguments give the same bits on every target and in every version of zfl: models and
//!   fault plans are pinned by hash. The algorithms are a few lines each with published test vectors,
//!   and they stand here so that no dependency can change them.
//! - Nothing here is unguessable. A token comes from the operating system.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod normal;
mod pcg;
mod purpose;
mod split_mix;
mod xorshift;

pub use normal::Normal;
pub use pcg::Pcg32;
pub use purpose::{Decision, Purpose, link_lane, radio_lane};
pub use split_mix::{Lane, derive_seed, fraction};
pub use xorshift::Xorshift32;
