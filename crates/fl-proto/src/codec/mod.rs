//! Codecs: ways to write a section's numbers as octets.
//!
//! A codec is a file of this folder and a line of the list below. It works in pieces, so that neither
//! side needs room for a section twice. An [`Encoding`] is a codec with the values of its parameters, as a run has
//! chosen it for one direction.

mod bits;
mod blocks;
mod encoding;

pub use encoding::{Encoding, MAX_ARGS, Plan};

use bits::Bits;
use blocks::Block;
use core::fmt;
use core::ops::RangeInclusive;
use fl_param::ParamSpec;
use fl_rng::Pcg32;
use top_k::Sparse;

/// Declares the files of the codecs, and their list.
macro_rules! codecs {
    ($($file:ident::$codec:ident),* $(,)?) => {
        $(
            mod $file;
            pub use $file::$codec;
        )*

        /// Every codec that this build speaks.
        pub static ALL: &[&dyn Codec] = &[$(&$codec),*];
    };
}

codecs! {
    single::F32,
    half::F16,
    int8::Int8,
    qsgd::Qsgd,
    top_k::TopK,
    sign::Sign,
}

/// Name of the codec that every device speaks.
pub const F32_NAME: &str = "f32";

/// Most octets that a codec may need at once to go on decoding.
pub const MAX_UNIT_OCTETS: usize = 16;

/// Octets that a payload may have beyond those of f32: the heads of blocks.
const MOST_HEADS: u64 = 256;

/// Most octets of a section of `count` numbers, whatever the codec.
pub fn most_octets(count: u32) -> u64 {
    4 * u64::from(count) + MOST_HEADS
}

/// Meaning of the numbers of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encodes {
    /// The parameters themselves.
    Parameters,
    /// Their changes since the model of the round. On the way down it is the parameters.
    Changes,
    /// As [`Encodes::Changes`]; the device adds what an update lost to its next one. It cannot go down.
    ChangesWithFeedback,
}

/// A way to write numbers as octets.
pub trait Codec: Sync {
    /// Name in control messages and on the command line.
    fn name(&self) -> &'static str;

    /// Code in the header of a section.
    fn code(&self) -> u8;

    /// Loss and length, in one line for people.
    fn doc(&self) -> &'static str;

    /// Parameters of the writer, up to [`MAX_ARGS`]; a reader has no need of them.
    fn params(&self) -> &'static [ParamSpec] {
        &[]
    }

    /// Meaning of the numbers of an update.
    fn encodes(&self) -> Encodes {
        Encodes::Parameters
    }

    /// True if nothing of so many numbers would be left out, so that they may as well go as they are.
    fn keeps_all(&self, plan: &Plan<'_>, count: u32) -> bool {
        let _ = (plan, count);
        false
    }

    /// Octets of a section of `count` numbers.
    fn octets(&self, plan: &Plan<'_>, count: u32) -> u64;

    /// Octets that a reader takes for a section of `count` numbers.
    fn lengths(&self, count: u32) -> RangeInclusive<u64> {
        match self.encodes() {
            Encodes::Parameters => {
                let octets = self.octets(&Plan::default(), count);
                octets..=octets
            }
            _ => 0..=most_octets(count),
        }
    }

    /// Writes the next numbers, as many whole units as fit; returns the octets written, 0 at the end.
    fn encode(
        &self,
        plan: &Plan<'_>,
        numbers: &[f32],
        cursor: &mut Cursor,
        octets: &mut [u8],
    ) -> usize;

    /// Reads as many whole units as there are; returns the octets taken.
    ///
    /// `None`: the octets are none of this codec, or `numbers` has no room for them.
    fn decode(&self, octets: &[u8], cursor: &mut Cursor, numbers: &mut [f32]) -> Option<usize>;

    /// True if no octet is missing behind the last of `count` numbers.
    fn is_over(&self, cursor: &Cursor, count: usize) -> bool {
        let _ = (cursor, count);
        true
    }
}

impl fmt::Debug for dyn Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for dyn Codec {
    fn eq(&self, other: &Self) -> bool {
        self.code() == other.code()
    }
}

/// Position of a codec in a section.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cursor {
    /// Numbers done.
    pub next: usize,
    bits: Bits,
    block: Block,
    sparse: Sparse,
    /// Random numbers of a writer that rounds.
    draws: Option<Pcg32>,
}

/// The codec of a name.
pub fn by_name(name: &str) -> Option<&'static dyn Codec> {
    ALL.iter().copied().find(|codec| codec.name() == name)
}

/// The codec of a code.
pub fn by_code(code: u8) -> Option<&'static dyn Codec> {
    ALL.iter().copied().find(|codec| codec.code() == code)
}

/// Replaces numbers by those that arrive at the other side of a codec.
pub fn round(codec: &'static dyn Codec, plan: &Plan<'_>, numbers: &mut [f32]) {
    let mut octets = [0; 1024];
    let (mut encoder, mut decoder) = (Encoder::new(codec), Decoder::new(codec));
    loop {
        let filled = encoder.fill(plan, numbers, &mut octets);
        // Never malformed: the encoder has just written them.
        if filled == 0 || !decoder.push(&octets[..filled], numbers) {
            return;
        }
    }
}

/// Encoding of one section, a buffer at a time.
#[derive(Clone, Debug)]
pub struct Encoder {
    codec: &'static dyn Codec,
    cursor: Cursor,
}

impl Encoder {
    /// Starts at number 0.
    pub fn new(codec: &'static dyn Codec) -> Self {
        let cursor = Cursor::default();
        Self { codec, cursor }
    }

    /// Fills `octets` with the next whole units, returns the octets written; 0 at the end.
    pub fn fill(&mut self, plan: &Plan<'_>, numbers: &[f32], octets: &mut [u8]) -> usize {
        self.codec.encode(plan, numbers, &mut self.cursor, octets)
    }
}

/// Decoding of one section, from pieces of any length.
#[derive(Clone, Debug)]
pub struct Decoder {
    codec: &'static dyn Codec,
    cursor: Cursor,
    /// The beginning of a unit whose rest has not come.
    part: [u8; MAX_UNIT_OCTETS],
    held: usize,
}

impl Decoder {
    /// Starts at number 0.
    pub fn new(codec: &'static dyn Codec) -> Self {
        Self {
            codec,
            cursor: Cursor::default(),
            part: [0; MAX_UNIT_OCTETS],
            held: 0,
        }
    }

    /// Numbers decoded so far.
    pub fn decoded(&self) -> usize {
        self.cursor.next
    }

    /// Decodes the octets behind those that came before; `false` if they are malformed or `numbers`
    /// has no room for them.
    #[must_use]
    pub fn push(&mut self, mut octets: &[u8], numbers: &mut [f32]) -> bool {
        while self.held > 0 {
            let Some((&octet, rest)) = octets.split_first() else {
                return true;
            };
            octets = rest;
            let Some(slot) = self.part.get_mut(self.held) else {
                return false;
            };
            *slot = octet;
            self.held += 1;
            let part = &self.part[..self.held];
            match self.codec.decode(part, &mut self.cursor, numbers) {
                None => return false,
                Some(0) => {}
                Some(_) => self.held = 0,
            }
        }
        let Some(taken) = self.codec.decode(octets, &mut self.cursor, numbers) else {
            return false;
        };
        let tail = octets.get(taken..).unwrap_or(&[]);
        let Some(part) = self.part.get_mut(..tail.len()) else {
            return false;
        };
        part.copy_from_slice(tail);
        self.held = tail.len();
        true
    }

    /// True if exactly `count` numbers and no stray octet came.
    pub fn is_complete(&self, count: usize) -> bool {
        self.cursor.next == count && self.held == 0 && self.codec.is_over(&self.cursor, count)
    }
}
