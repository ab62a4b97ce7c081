//! The body of `POST /start` and `POST /results`: head, control message, sections.
//!
//! ```text
//! 0   4  magic          "zflw"
//! 4   1  version        2
//! 5   1  kind           0 = start, 1 = results
//! 6   1  sections       sections behind the control message
//! 7   1  reserved       0
//! 8   2  control_len    octets of JSON behind the head
//! 10  2  reserved       0
//! 12  4  crc            CRC-32/ISO-HDLC of octets 0..12 and of the control message
//! 16     control        JSON
//! ```
//!
//! and then each section:
//!
//! ```text
//! 0   16 name           of a-z 0-9 _, padded with zeros
//! 16  1  codec          see `codec`
//! 17  3  reserved       0
//! 20  4  count          numbers
//! 24  4  octets         of the payload
//! 28  4  crc            CRC-32/ISO-HDLC of the header's octets 0..28 and of the payload
//! 32     payload
//! ```
//!
//! All integers are little endian. A control message is one client's own; sections are the same octets
//! for a whole cohort, so that they are encoded once a round.
//!
//! A device reads by [`Receiver`] and writes by [`Sender`], both in pieces. A host reads a body at once
//! by [`Message`]. None gives out a part as right whose checksum is wrong.

mod error;
mod head;
mod receiver;
mod section;
mod sender;
mod whole;

pub use error::MessageError;
pub use head::{HEAD_LEN, Head, Kind};
pub use receiver::{Receiver, Sink};
pub use section::{SECTION_HEADER_LEN, SectionHeader, SectionName, section_name};
pub use sender::{Outgoing, Sender};
pub use whole::{Message, Section};
#[cfg(feature = "alloc")]
pub use whole::{encode, encode_head, encode_section};

/// Section of the model's parameters, both ways.
pub const MODEL: &str = "model";

/// Section of an evaluation: the confusion of the global model, see [`confusion_len`].
pub const CONFUSION: &str = "confusion";

/// Section of an evaluation: the confusion of the personal model.
pub const CONFUSION_OWN: &str = "confusion_own";

/// Most classes of which an evaluation tells what each was taken for.
pub const MAX_CONFUSED: usize = 32;

/// Numbers of a confusion section: a row for each class with the times that its examples were taken for each
/// class; with more than [`MAX_CONFUSED`] classes only the times that each was recognised.
pub fn confusion_len(classes: usize) -> usize {
    if classes <= MAX_CONFUSED {
        classes * classes
    } else {
        classes
    }
}

/// Place in a confusion section of an example; none if it is not told there.
pub fn confusion_at(classes: usize, label: usize, prediction: usize) -> Option<usize> {
    match classes <= MAX_CONFUSED {
        true => Some(label * classes + prediction),
        false => (label == prediction).then_some(label),
    }
}

/// Most sections of a message.
pub const MAX_SECTIONS: usize = 8;

/// Version of the layout.
const VERSION: u8 = 2;

use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};

/// Tables of the checksum: a host and a PC spend 16 KiB to take sixteen octets at once, other devices one table of 1 KiB.
#[cfg(any(feature = "std", all(target_arch = "x86", not(feature = "one-table"))))]
type Tables = Table<16>;
#[cfg(not(any(feature = "std", all(target_arch = "x86", not(feature = "one-table")))))]
type Tables = Table<1>;

static CRC: Crc<u32, Tables> = Crc::<u32, Tables>::new(&CRC_32_ISO_HDLC);

/// A running CRC-32.
#[derive(Clone)]
pub struct Checksum(Digest<'static, u32, Tables>);

impl Default for Checksum {
    fn default() -> Self {
        Self(CRC.digest())
    }
}

impl Checksum {
    fn of(octets: &[u8]) -> Self {
        let mut checksum = Self::default();
        checksum.update(octets);
        checksum
    }

    /// Takes in what comes next.
    pub fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// The checksum of all that was taken in.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }

    /// Compares with the checksum that a header gives.
    fn check(self, expected: u32) -> Result<(), MessageError> {
        let actual = self.finish();
        if actual == expected {
            return Ok(());
        }
        Err(MessageError::Checksum { expected, actual })
    }
}
