//! HTTP over TCP for listeners that strangers reach: whatever they do, there is a place for everyone else.
//!
//! [`serve()`] answers one exchange a connection, and always accepts the next: where no place is left, a
//! connection goes that has least right to its own. Terms:
//!
//! - A *place* is a connection that is open. [`Limits::places`] bounds them all.
//! - A *source* is the address that a connection comes from; in IPv6 its network of 64 bits.
//! - The *owner* of a place is whom its request is of: [`Place::belongs_to`]. An owner has
//!   [`Limits::each`] places; its next one takes that of its oldest.
//!
//! Who goes when all places are taken: of the source with most places that have no owner, beyond what its
//! owners may have; of these from the larger half, those that have asked or those that have not; and of
//! these the oldest. So idle connections never push out a request, slow requests never push out a head
//! that is on its way, and neither of them a device at another address.
//!
//! Time: a head has [`Limits::head`]; a body moves at the [`Pace`] or the connection ends, in both
//! directions. Only time in which the peer is waited for counts.
//!
//! Left out on purpose: TLS, HTTP/2, connections that are kept for a next request.

#![forbid(unsafe_code)]

mod body;
mod limits;
pub mod open_files;
mod pace;
mod places;
mod serve;
mod stream;
mod timer;

pub use limits::Limits;
pub use pace::{Pace, TooSlow};
pub use places::{Place, Source, source};
pub use serve::serve;
