//! The words after the shell's commands, checked. The bare firmware takes the same.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;

const DEFAULT_MASK_BITS: u8 = 24;

const ADDRESS: &str = "an IPv4 address";
const ENDPOINT: &str = "<ip>:<port>";
const MASK: &str = "a number of bits, 1 to 30";
const NUMBER: &str = "a number below 2^32";

/// What `run <ip> server=<ip>:<port> ...` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunArgs {
    /// The device's own address.
    pub ip: Ipv4Addr,
    /// Length of the network's prefix, in bits.
    pub mask_bits: u8,
    /// The way to other networks.
    pub gateway: Option<Ipv4Addr>,
    /// The aggregator.
    pub server: SocketAddrV4,
    /// The client ID to ask for.
    pub client: Option<u32>,
    /// Where the aggregator reaches the device, when that is not `ip`.
    pub address: Option<SocketAddrV4>,
    /// Passes over the partition per round, over what `/start` says.
    pub local_epochs: Option<u32>,
    /// Examples per step of SGD, over what `/start` says.
    pub batch_size: Option<u32>,
}

/// A way to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// A Rust panic.
    Panic,
    /// A CPU exception: a read of an address that is not mapped.
    Fault,
    /// A recursion without end.
    Stack,
    /// More memory than there is.
    Heap,
}

/// Why the words were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgsError<'a> {
    /// A part that has to be there.
    Missing(&'static str),
    /// A word that is none of those known.
    Unexpected(&'a str),
    /// A key given twice.
    Twice(&'a str),
    /// A value that does not parse.
    Value {
        /// The word.
        word: &'a str,
        /// What would have been right.
        expected: &'static str,
    },
    /// An address outside the device's network, and no gateway.
    Unreachable(Ipv4Addr),
    /// A gateway outside the device's network.
    GatewayOutside(Ipv4Addr),
}

impl fmt::Display for ArgsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(part) => write!(f, "{part} is missing; see run -h"),
            Self::Unexpected(word) => write!(f, "unexpected '{word}'; see run -h"),
            Self::Twice(key) => write!(f, "{key} is given twice"),
            Self::Value { word, expected } => write!(f, "'{word}' is not {expected}"),
            Self::Unreachable(server) => write!(
                f,
                "server {server} is in another network; give gateway=<ip> or a smaller mask=<bits>"
            ),
            Self::GatewayOutside(gateway) => write!(
                f,
                "gateway {gateway} is outside the device's own network; check mask=<bits>"
            ),
        }
    }
}

impl core::error::Error for ArgsError<'_> {}

impl RunArgs {
    /// Reads the words after `run`.
    ///
    /// # Errors
    /// The first word that cannot be used, and why.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self, ArgsError<'a>> {
        let word = words.next().ok_or(ArgsError::Missing("<ip>"))?;
        let ip = parse_value(word, word, ADDRESS)?;
        let (mut server, mut client, mut address) = (None, None, None);
        let (mut gateway, mut mask) = (None, None);
        let (mut local_epochs, mut batch_size) = (None, None);
        for word in words {
            let (key, value) = word.split_once('=').ok_or(ArgsError::Unexpected(word))?;
            let pair = Pair { word, key, value };
            match key {
                "server" => pair.set(&mut server, ENDPOINT)?,
                "client" => pair.set(&mut client, NUMBER)?,
                "address" => pair.set(&mut address, ENDPOINT)?,
                "gateway" => pair.set(&mut gateway, ADDRESS)?,
                "mask" => pair.set(&mut mask, MASK)?,
                "epochs" => pair.set(&mut local_epochs, NUMBER)?,
                "batch" => pair.set(&mut batch_size, NUMBER)?,
                _ => return Err(ArgsError::Unexpected(word)),
            }
        }
        let server = server.ok_or(ArgsError::Missing("server=<ip>:<port>"))?;
        let MaskBits(mask_bits) = mask.unwrap_or(MaskBits(DEFAULT_MASK_BITS));
        Self {
            ip,
            mask_bits,
            gateway,
            server,
            client,
            address,
            local_epochs,
            batch_size,
        }
        .checked()
    }

    fn checked<'a>(self) -> Result<Self, ArgsError<'a>> {
        match self.gateway {
            Some(gateway) if !self.is_near(gateway) => Err(ArgsError::GatewayOutside(gateway)),
            None if !self.is_near(*self.server.ip()) => {
                Err(ArgsError::Unreachable(*self.server.ip()))
            }
            _ => Ok(self),
        }
    }

    /// Whether `other` is in the device's own network.
    fn is_near(&self, other: Ipv4Addr) -> bool {
        (self.ip.to_bits() ^ other.to_bits()) & self.netmask().to_bits() == 0
    }

    /// The network mask as an address.
    pub fn netmask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(self.mask_bits)))
    }
}

impl Crash {
    /// Reads the words after `crash`.
    ///
    /// # Errors
    /// A word that is no way to die.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self, ArgsError<'a>> {
        match words.next() {
            Some("panic") => Ok(Self::Panic),
            Some("fault") => Ok(Self::Fault),
            Some("stack") => Ok(Self::Stack),
            Some("heap") => Ok(Self::Heap),
            Some(word) => Err(ArgsError::Unexpected(word)),
            None => Err(ArgsError::Missing("panic|fault|stack|heap")),
        }
    }
}

/// A prefix length that leaves room for two hosts.
#[derive(Clone, Copy)]
struct MaskBits(u8);

impl FromStr for MaskBits {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse()
            .ok()
            .filter(|bits| (1..=30).contains(bits))
            .map(Self)
            .ok_or(())
    }
}

/// One `key=value`.
struct Pair<'a> {
    word: &'a str,
    key: &'a str,
    value: &'a str,
}

impl<'a> Pair<'a> {
    fn set<T: FromStr>(
        &self,
        slot: &mut Option<T>,
        expected: &'static str,
    ) -> Result<(), ArgsError<'a>> {
        if slot.is_some() {
            return Err(ArgsError::Twice(self.key));
        }
        *slot = Some(parse_value(self.word, self.value, expected)?);
        Ok(())
    }
}

fn parse_value<'a, T: FromStr>(
    word: &'a str,
    value: &str,
    expected: &'static str,
) -> Result<T, ArgsError<'a>> {
    value
        .parse()
        .map_err(|_| ArgsError::Value { word, expected })
}
