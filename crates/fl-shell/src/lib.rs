//! The command line of the guests.
//!
//! [`command`] turns a line of text into a checked value, [`mod@line`] turns the bytes of a serial line into
//! lines. Every guest takes its commands from here, so all of them understand and refuse the same words.
//!
//! # Left out on purpose
//! The commands themselves, and the console: a guest has both.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod command;
pub mod line;
