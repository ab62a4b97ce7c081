//! Messages between an edge and the aggregator above it: the sums of a cluster's updates, and who is there.
//!
//! ```text
//! 0   4  magic          "zflp"
//! 4   1  version        1
//! 5   1  sections       sums behind the control message
//! 6   2  reserved       0
//! 8   4  control_len    octets of JSON behind the head
//! 12  4  crc            CRC-32/ISO-HDLC of all but these four octets
//! 16     control        JSON, `PartialResults`
//! ```
//!
//! and then each sum:
//!
//! ```text
//! 0   16 name           of a-z 0-9 _, padded with zeros
//! 16  1  codec          1 = exact, packed integers; 2 = the rounded mean as f32
//! 17  3  reserved       0
//! 20  4  count          numbers
//! 24  4  octets         of the payload
//! 28  4  reserved       0
//! 32     payload
//! ```
//!
//! Only hosts and gateways speak this; a device that has no cluster does not.

use crate::Results;
use crate::message::{Checksum, SECTION_HEADER_LEN, SectionName, section_name};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Media type of the sums of a cluster.
pub const PARTIAL_SUMS: &str = "application/x-zfl-sums";

/// Section of `/start` with the cohort of an edge: two numbers a client, its own and its [`Orders`].
pub const COHORT: &str = "cohort";

/// Section of `/start` beside [`COHORT`]: three numbers for each client of it in the same order, its step size, its
/// epochs and its examples a step.
pub const LOCAL: &str = "local";

/// Octets of control message that a client of a cluster may take.
pub const CONTROL_PER_CLIENT: usize = 2048;

/// Most sums of a message.
pub const MAX_SUMS: usize = 8;

const MAGIC: [u8; 4] = *b"zflp";
const VERSION: u8 = 1;
/// Octets of the head of a message of sums.
pub const SUMS_HEAD: usize = 16;
/// Place of the checksum in the head of a message of sums.
pub const CRC_AT: usize = 12;

const TOO_LONG: Malformed = Malformed("too long");

/// Marks of a client in a [`COHORT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// It fails in the round, as planned.
    pub will_fail: bool,
    /// Its update is damaged on the way, as planned.
    pub corrupt: bool,
    /// It does only some of its epochs.
    pub straggler: bool,
}

impl Orders {
    /// As a number.
    pub fn bits(self) -> u8 {
        u8::from(self.will_fail) | u8::from(self.corrupt) << 1 | u8::from(self.straggler) << 2
    }

    /// Of a number; none if it is none.
    pub fn of_bits(bits: u8) -> Option<Self> {
        (bits < 8).then_some(Self {
            will_fail: bits & 1 != 0,
            corrupt: bits & 2 != 0,
            straggler: bits & 4 != 0,
        })
    }
}

/// The control message of the sums of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartialResults {
    /// The round of the `/start` that this answers.
    pub round: u32,
    /// The token of that.
    pub token: crate::Token,
    /// Sum of the weights, in decimal: it may be beyond 64 bits.
    pub weight: String,
    /// Clients whose updates are in the sums, rising.
    pub counted: Vec<Counted>,
    /// Clients of the cohort whose are not, and why.
    pub failed: BTreeMap<u32, String>,
    /// Clients of the cluster as they are now.
    pub cluster: ClusterReport,
    /// HTTP bytes from and to each client since the last sums.
    pub bytes: BTreeMap<u32, (u64, u64)>,
    /// Work of this edge and of those below it for these sums, by their IDs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub work: BTreeMap<u32, EdgeWork>,
}

/// Work of an edge for the sums of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeWork {
    /// Time in which it added updates up, in microseconds.
    pub add_us: u64,
    /// Memory of the sums, in octets.
    pub held: u64,
}

/// An update that is in the sums.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Its client.
    pub client: u32,
    /// Milliseconds from the edge's choice of its cohort.
    pub round_ms: u64,
    /// As the client sent them, but for the token, which is the edge's.
    pub results: Results,
}

/// The clients of a cluster, as their edge knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// A letter for each client of the cluster in order: `r` is ready, `a` on its way, `b` busy, `s` has failed,
    /// `l` is lost.
    pub states: String,
    /// Reasons for which clients are lost.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<u32, String>,
}

/// Facts of an experiment for an edge that has none: the answer to `GET /cluster`.
///
/// JSON of numbers and plain texts in lists, which a small reader takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// First client of its cluster.
    pub first: u32,
    /// Examples of each client.
    pub examples: Vec<u32>,
    /// Address that each client joins from; none: from anywhere.
    pub addresses: Vec<heapless::String<15>>,
    /// Numbers of the model that travel.
    pub numbers: u32,
    /// Every update counts once, however many examples are behind it.
    pub uniform: bool,
    /// Port of the aggregator's machine at which data are dealt out.
    pub data_port: u16,
    /// Longest wait for clients that are to be ready, in milliseconds.
    pub ready_ms: u32,
    /// Longest round of the cluster, in milliseconds.
    pub round_ms: u32,
    /// Longest wait for the answer to a `/start`, in milliseconds.
    pub start_ms: u32,
}

/// Memory that a gateway takes for its cluster, all of it before the first round.
///
/// # Units
/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayMemory {
    /// Exact sums: a narrow and a wide integer for each number.
    pub sums_bytes: u64,
    /// One update, as f32.
    pub update_bytes: u64,
    /// Model that updates are changes of, where they are.
    pub base_bytes: u64,
    /// Body of an order, from which every device is started.
    pub order_bytes: u64,
    /// Word of each device, and what it said of its update.
    pub clients_bytes: u64,
    /// Connections.
    pub connections_bytes: u64,
}

impl GatewayMemory {
    /// Bytes of a connection: windows of TCP on the largest of the boards, and the heads of HTTP.
    const CONNECTION: u64 = 28 << 10;
    /// Connections beyond one for each of a few devices, and most of those.
    const OWN: u64 = 12;
    const MOST: u64 = 12;

    /// For sums of a model of `numbers` that travel, of so many clients; `sum_bytes` for each number.
    pub fn new(numbers: u32, clients: u32, sends_changes: bool, sum_bytes: u64) -> Self {
        let (numbers, clients) = (u64::from(numbers), u64::from(clients));
        Self {
            sums_bytes: numbers * sum_bytes,
            update_bytes: 4 * numbers,
            base_bytes: if sends_changes { 4 * numbers } else { 0 },
            order_bytes: crate::wire_len::longest_body([numbers, 2 * clients, 3 * clients]),
            clients_bytes: (clients + 1) * CONTROL_PER_CLIENT as u64,
            connections_bytes: (clients.min(Self::MOST) + Self::OWN) * Self::CONNECTION,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let Self {
            sums_bytes,
            update_bytes,
            base_bytes,
            order_bytes,
            clients_bytes,
            connections_bytes,
        } = self;
        sums_bytes + update_bytes + base_bytes + order_bytes + clients_bytes + connections_bytes
    }
}

/// Encoding of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumCodec {
    /// Integers without any rounding.
    Exact,
    /// The mean as f32.
    Rounded,
}

/// A sum in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum<'a> {
    /// Name of the vector.
    pub name: SectionName,
    /// Encoding.
    pub codec: SumCodec,
    /// Numbers.
    pub count: u32,
    /// Encoded numbers.
    pub payload: &'a [u8],
}

/// Reason why octets are no sums of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Malformed {}

/// Writes a message.
///
/// # Errors
/// [`Malformed`] if something is too long for it.
pub fn encode_sums(control: &[u8], sums: &[Sum<'_>]) -> Result<Vec<u8>, Malformed> {
    let mut body = Vec::new();
    body.extend(sums_head(control.len(), sums.len())?);
    body.extend(control);
    for sum in sums {
        let long = |_| TOO_LONG;
        let octets = u32::try_from(sum.payload.len()).map_err(long)?;
        body.extend(sum_header(&sum.name, sum.codec, sum.count, octets));
        body.extend(sum.payload);
    }
    let crc = checksum(&body).to_le_bytes();
    body[CRC_AT..SUMS_HEAD].copy_from_slice(&crc);
    Ok(body)
}

/// The head of a message, whose last four octets are still to be the checksum of all others.
///
/// # Errors
/// [`Malformed`] if something is too long for it.
pub fn sums_head(control_len: usize, sums: usize) -> Result<[u8; SUMS_HEAD], Malformed> {
    let long = |_| TOO_LONG;
    let mut head = [0; SUMS_HEAD];
    head[..4].copy_from_slice(&MAGIC);
    (head[4], head[5]) = (VERSION, u8::try_from(sums).map_err(long)?);
    let control_len = u32::try_from(control_len).map_err(long)?;
    head[8..CRC_AT].copy_from_slice(&control_len.to_le_bytes());
    Ok(head)
}

/// The header of a sum.
pub fn sum_header(
    name: &SectionName,
    codec: SumCodec,
    count: u32,
    octets: u32,
) -> [u8; SECTION_HEADER_LEN] {
    let mut header = [0; SECTION_HEADER_LEN];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[16] = match codec {
        SumCodec::Exact => 1,
        SumCodec::Rounded => 2,
    };
    header[20..24].copy_from_slice(&count.to_le_bytes());
    header[24..28].copy_from_slice(&octets.to_le_bytes());
    header
}

/// Reads a message: its control message and its sums, whose payloads are still to be decoded.
///
/// # Errors
/// [`Malformed`]; nothing comes out of a body that is damaged anywhere.
pub fn parse_sums(body: &[u8]) -> Result<(&[u8], Vec<Sum<'_>>), Malformed> {
    let Some((head, rest)) = body.split_first_chunk::<SUMS_HEAD>() else {
        return Err(Malformed("truncated"));
    };
    let [
        m0,
        m1,
        m2,
        m3,
        version,
        count,
        z0,
        z1,
        l0,
        l1,
        l2,
        l3,
        crc @ ..,
    ] = *head;
    if [m0, m1, m2, m3] != MAGIC || version != VERSION || [z0, z1] != [0; 2] {
        return Err(Malformed("not the sums of a cluster"));
    }
    if u32::from_le_bytes(crc) != checksum(body) {
        return Err(Malformed("damaged: the checksum is another"));
    }
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let split = rest.split_at_checked(len);
    let (control, mut rest) = split.ok_or(Malformed("truncated"))?;
    if usize::from(count) > MAX_SUMS {
        return Err(Malformed("too many sums"));
    }
    let mut sums = Vec::<Sum<'_>>::new();
    for _ in 0..count {
        let (sum, behind) = parse_sum(rest)?;
        rest = behind;
        if sums.iter().any(|other| other.name == sum.name) {
            return Err(Malformed("a sum is there twice"));
        }
        sums.push(sum);
    }
    match rest.is_empty() {
        true => Ok((control, sums)),
        false => Err(Malformed("octets behind the last sum")),
    }
}

fn parse_sum(octets: &[u8]) -> Result<(Sum<'_>, &[u8]), Malformed> {
    let split = octets.split_first_chunk::<SECTION_HEADER_LEN>();
    let (header, rest) = split.ok_or(Malformed("truncated"))?;
    let (name, fields) = header.split_at(16);
    let end = name.iter().position(|octet| *octet == 0).unwrap_or(16);
    let (name, padding) = name.split_at(end);
    let name = core::str::from_utf8(name).ok().and_then(section_name);
    let name = name.filter(|_| padding.iter().all(|octet| *octet == 0));
    let name = name.ok_or(Malformed("a sum has no name"))?;
    let codec = match fields[0] {
        1 => SumCodec::Exact,
        2 => SumCodec::Rounded,
        _ => return Err(Malformed("a codec that no sum has")),
    };
    if fields[1..4] != [0; 3] || fields[12..] != [0; 4] {
        return Err(Malformed("reserved octets are not 0"));
    }
    let number = |at: usize| {
        let octets = fields[at..].first_chunk().copied().unwrap_or_default();
        u32::from_le_bytes(octets)
    };
    let (count, len) = (number(4), number(8) as usize);
    let split = rest.split_at_checked(len);
    let (payload, rest) = split.ok_or(Malformed("truncated"))?;
    let sum = Sum {
        name,
        codec,
        count,
        payload,
    };
    Ok((sum, rest))
}

fn checksum(body: &[u8]) -> u32 {
    let mut checksum = Checksum::default();
    checksum.update(body.get(..CRC_AT).unwrap_or(&[]));
    checksum.update(body.get(SUMS_HEAD..).unwrap_or(&[]));
    checksum.finish()
}
