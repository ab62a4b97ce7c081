//! Codecs: ways to write a section's numbers as octets.
//!
//! A codec is a file of this folder and a line of the list below. It works in pieces, so that neither
//! side needs room for a section twice.

use core::fmt;

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
}

/// Name of the codec that every device speaks.
pub const F32_NAME: &str = "f32";

/// Most octets that a codec may need at once to go on decoding.
pub const MAX_UNIT_OCTETS: usize = 16;

/// A way to write numbers as octets.
pub trait Codec: Sync {
    /// Name in control messages and on the command line.
    fn name(&self) -> &'static str;

    /// Code in the header of a section.
    fn code(&self) -> u8;

    /// Loss and length, in one line for people.
    fn doc(&self) -> &'static str;

    /// Octets of a section of `count` numbers.
    fn octets(&self, count: u32) -> u64;

    /// Writes the next numbers, as many whole units as fit; returns the octets written, 0 at the end.
    fn encode(&self, numbers: &[f32], cursor: &mut Cursor, octets: &mut [u8]) -> usize;

    /// Reads as many whole units as there are; returns the octets taken.
    ///
    /// `None`: the octets are none of this codec, or `numbers` has no room for them.
    fn decode(&self, octets: &[u8], cursor: &mut Cursor, numbers: &mut [f32]) -> Option<usize>;
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Numbers done.
    pub next: usize,
    /// The codec's own memory, 0 at the beginning: a scale's bits, say.
    pub state: u32,
}

/// The codec of a name.
pub fn by_name(name: &str) -> Option<&'static dyn Codec> {
    ALL.iter().copied().find(|codec| codec.name() == name)
}

/// The codec of a code.
pub fn by_code(code: u8) -> Option<&'static dyn Codec> {
    ALL.iter().copied().find(|codec| codec.code() == code)
}

/// The codec of a section: f32 if it is to go exactly as it is, else the one that the run has chosen.
pub fn of_section(exact: bool, chosen: &'static dyn Codec) -> &'static dyn Codec {
    if exact { &F32 } else { chosen }
}

/// Replaces numbers by those that arrive at the other side of a codec.
pub fn round(codec: &'static dyn Codec, numbers: &mut [f32]) {
    let mut octets = [0; 1024];
    let (mut encoder, mut decoder) = (Encoder::new(codec), Decoder::new(codec));
    loop {
        let filled = encoder.fill(numbers, &mut octets);
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
    pub fn fill(&mut self, numbers: &[f32], octets: &mut [u8]) -> usize {
        self.codec.encode(numbers, &mut self.cursor, octets)
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
        self.cursor.next == count && self.held == 0
    }
}
