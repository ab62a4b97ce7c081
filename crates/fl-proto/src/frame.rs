//! The binary frame: header, control message, parameters.
//!
//! ```text
//! 0   4  magic          "zflw"
//! 4   1  version        1
//! 5   1  encoding       0 = f32
//! 6   1  kind           0 = weights, 1 = delta (local minus global weights)
//! 7   1  reserved       0
//! 8   2  control_len    bytes of JSON behind the header
//! 10  2  reserved       0
//! 12  4  round
//! 16  4  count          parameters behind the control message
//! 20  4  crc            CRC-32/ISO-HDLC of bytes 0..20, the control message and the parameters
//! ```
//!
//! All numbers are little endian. The body's length is `24 + control_len + 4 * count` exactly.
//!
//! Two ways to read one: piece by piece with [`Header::parse`], [`Checksum`] and
//! [`ParamDecoder`](crate::ParamDecoder), where the whole does not fit into memory twice; or at once
//! with [`Frame::parse`]. Neither gives out a frame whose checksum does not fit. That the control
//! message names the same round as the header is for the caller to check, who knows the message.

use crate::{MAX_CONTROL_BYTES, MAX_PARAMS};
use core::fmt;
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 24;

const MAGIC: [u8; 4] = *b"zflw";
const VERSION: u8 = 1;
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// What the parameters mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The model itself.
    Weights,
    /// Local minus global weights.
    Delta,
}

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the parameters mean.
    pub kind: Kind,
    /// Bytes of the control message.
    pub control_len: u16,
    /// The round, the same as in the control message.
    pub round: u32,
    /// Number of parameters.
    pub count: u32,
    /// The checksum; see [`Checksum`].
    pub crc: u32,
}

/// Why a frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The first four bytes are not `zflw`.
    Magic,
    /// Not a version that this side speaks.
    Version(u8),
    /// Not an encoding that this side speaks.
    Encoding(u8),
    /// Neither weights nor delta.
    Kind(u8),
    /// A reserved byte is not 0.
    Reserved,
    /// The control message is longer than [`MAX_CONTROL_BYTES`].
    ControlTooLong(u16),
    /// More parameters than [`MAX_PARAMS`].
    TooManyParams(u32),
    /// The body ends within the header.
    Truncated(usize),
    /// The body is not as long as its header says.
    Length {
        /// [`Header::body_len`].
        expected: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// The checksum does not fit: the body was damaged on the way.
    Checksum {
        /// [`Header::crc`].
        expected: u32,
        /// What the bytes give.
        actual: u32,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => write!(f, "not a zfl frame: the magic bytes are missing"),
            Self::Version(v) => write!(f, "frame version {v}, this side speaks {VERSION}"),
            Self::Encoding(e) => write!(
                f,
                "unknown parameter encoding {e}, this side speaks 0 (f32)"
            ),
            Self::Kind(k) => write!(f, "unknown update kind {k}"),
            Self::Reserved => write!(f, "a reserved byte of the frame header is not 0"),
            Self::ControlTooLong(n) => {
                write!(
                    f,
                    "control message of {n} bytes, at most {MAX_CONTROL_BYTES} are taken"
                )
            }
            Self::TooManyParams(n) => write!(f, "{n} parameters, at most {MAX_PARAMS} are taken"),
            Self::Truncated(n) => write!(f, "{n} bytes are less than a header of {HEADER_LEN}"),
            Self::Length { expected, actual } => {
                write!(
                    f,
                    "a body of {actual} bytes, its header asks for {expected}"
                )
            }
            Self::Checksum { expected, actual } => {
                write!(
                    f,
                    "damaged on the way: CRC-32 {actual:08x}, its header says {expected:08x}"
                )
            }
        }
    }
}

impl core::error::Error for FrameError {}

impl Header {
    /// The header of a frame of `control` and `params`, its checksum included.
    ///
    /// # Errors
    /// [`FrameError::ControlTooLong`] and [`FrameError::TooManyParams`].
    pub fn new(kind: Kind, round: u32, control: &[u8], params: &[f32]) -> Result<Self, FrameError> {
        let control_len = u16::try_from(control.len()).unwrap_or(u16::MAX);
        let count = u32::try_from(params.len()).unwrap_or(u32::MAX);
        let mut header = Self {
            kind,
            control_len,
            round,
            count,
            crc: 0,
        }
        .within_bounds()?;
        let mut checksum = header.checksum();
        checksum.update(control);
        for param in params {
            checksum.update(&param.to_le_bytes());
        }
        header.crc = checksum.finish();
        Ok(header)
    }

    fn within_bounds(self) -> Result<Self, FrameError> {
        if usize::from(self.control_len) > MAX_CONTROL_BYTES {
            return Err(FrameError::ControlTooLong(self.control_len));
        }
        if self.count > MAX_PARAMS {
            return Err(FrameError::TooManyParams(self.count));
        }
        Ok(self)
    }

    /// Reads and checks a header; the checksum is checked at the end by [`Checksum`].
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [
            m0,
            m1,
            m2,
            m3,
            version,
            encoding,
            kind,
            zero,
            c0,
            c1,
            z0,
            z1,
            rest @ ..,
        ] = *bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(FrameError::Magic);
        }
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if encoding != 0 {
            return Err(FrameError::Encoding(encoding));
        }
        let kind = match kind {
            0 => Kind::Weights,
            1 => Kind::Delta,
            other => return Err(FrameError::Kind(other)),
        };
        if [zero, z0, z1] != [0; 3] {
            return Err(FrameError::Reserved);
        }
        let [r0, r1, r2, r3, n0, n1, n2, n3, k0, k1, k2, k3] = rest;
        let header = Self {
            kind,
            control_len: u16::from_le_bytes([c0, c1]),
            round: u32::from_le_bytes([r0, r1, r2, r3]),
            count: u32::from_le_bytes([n0, n1, n2, n3]),
            crc: u32::from_le_bytes([k0, k1, k2, k3]),
        };
        header.within_bounds()
    }

    /// The header's bytes.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[6] = match self.kind {
            Kind::Weights => 0,
            Kind::Delta => 1,
        };
        bytes[8..10].copy_from_slice(&self.control_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.round.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    /// Length of the whole body in bytes.
    pub fn body_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.control_len) + 4 * u64::from(self.count)
    }

    /// A checksum that has seen this header and waits for the control message and the parameters.
    pub fn checksum(&self) -> Checksum {
        let mut digest = CRC.digest();
        digest.update(&self.emit()[..20]);
        Checksum(digest)
    }
}

/// A whole frame in memory, every length and the checksum verified.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The checked header.
    pub header: Header,
    /// The control message, JSON; as yet unread.
    pub control: &'a [u8],
    words: &'a [[u8; 4]],
}

impl<'a> Frame<'a> {
    /// Reads a body, all of it.
    ///
    /// # Errors
    /// Every [`FrameError`]: a frame comes out only if its length is exact and its checksum fits.
    pub fn parse(body: &'a [u8]) -> Result<Self, FrameError> {
        let Some((head, rest)) = body.split_first_chunk() else {
            return Err(FrameError::Truncated(body.len()));
        };
        let header = Header::parse(head)?;
        let (expected, actual) = (header.body_len(), body.len() as u64);
        let wrong_length = FrameError::Length { expected, actual };
        if actual != expected {
            return Err(wrong_length);
        }
        let mut checksum = header.checksum();
        checksum.update(rest);
        let actual = checksum.finish();
        if actual != header.crc {
            return Err(FrameError::Checksum {
                expected: header.crc,
                actual,
            });
        }
        let Some((control, params)) = rest.split_at_checked(header.control_len.into()) else {
            return Err(wrong_length);
        };
        Ok(Self {
            header,
            control,
            words: params.as_chunks().0,
        })
    }

    /// The parameters, [`Header::count`] of them.
    pub fn params(&self) -> impl ExactSizeIterator<Item = f32> + use<'a> {
        self.words.iter().map(|word| f32::from_le_bytes(*word))
    }
}

/// Writes a whole frame; `control` is the control message in JSON.
///
/// # Errors
/// As [`Header::new`].
#[cfg(feature = "alloc")]
pub fn encode(
    kind: Kind,
    round: u32,
    control: &[u8],
    params: &[f32],
) -> Result<alloc::vec::Vec<u8>, FrameError> {
    let header = Header::new(kind, round, control, params)?;
    let mut body = alloc::vec::Vec::with_capacity(HEADER_LEN + control.len() + 4 * params.len());
    body.extend(header.emit());
    body.extend(control);
    body.extend(params.iter().flat_map(|param| param.to_le_bytes()));
    Ok(body)
}

/// The running CRC-32 of a frame.
#[derive(Clone)]
pub struct Checksum(Digest<'static, u32, Table<1>>);

impl Checksum {
    /// Takes in the next bytes behind the header.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The value for [`Header::crc`].
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}
