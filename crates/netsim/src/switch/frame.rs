//! Ethernet header of a frame: addresses and type.
//!
//! Every view is checked: it exists only if all that it says lies within the frame. No other part
//! of a frame is looked at, and none is trusted for a size.

use std::fmt;
use std::str::FromStr;

use crate::link::MAX_FRAME_BYTES;

/// The length of an Ethernet header without a VLAN tag.
pub(crate) const HEADER_BYTES: usize = 14;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All ones: every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Tells if it names a group of stations (multicast or broadcast) and not one.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no MAC address: write six bytes as 52:54:00:12:34:56");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            Err(wrong())
        } else {
            Ok(Self(octets))
        }
    }
}

/// The header of a frame whose length is one that Ethernet allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub destination: Mac,
    pub source: Mac,
    pub ethertype: u16,
}

impl Header {
    /// `None` if the frame is shorter than a header or longer than [`MAX_FRAME_BYTES`].
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if frame.len() > MAX_FRAME_BYTES {
            return None;
        }
        let (destination, rest) = frame.split_first_chunk::<6>()?;
        let (source, rest) = rest.split_first_chunk::<6>()?;
        let (ethertype, _) = rest.split_first_chunk::<2>()?;
        Some(Self {
            destination: Mac(*destination),
            source: Mac(*source),
            ethertype: u16::from_be_bytes(*ethertype),
        })
    }

    /// Tells if it is a broadcast that an IPv4 network needs: ARP, or IPv4 itself (DHCP).
    pub fn is_useful_broadcast(&self) -> bool {
        self.destination == Mac::BROADCAST
            && matches!(self.ethertype, ETHERTYPE_ARP | ETHERTYPE_IPV4)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Frames for the tests of this module's siblings.

    use super::Mac;

    /// A frame of `len` bytes (at least a header) with an unassigned Ethertype.
    pub fn ethernet(destination: Mac, source: Mac, len: usize) -> Vec<u8> {
        let mut frame = [destination.0, source.0].concat();
        frame.extend([0x88, 0xb5]);
        frame.resize(len.max(super::HEADER_BYTES), 0);
        frame
    }

    /// A TCP segment in IPv4 with correct lengths and no checksums.
    pub fn tcp(destination: Mac, source: Mac, sequence: u32, flags: u8, payload: u16) -> Vec<u8> {
        let mut frame = tcp_track::testing::frame(sequence, flags, payload);
        frame[..6].copy_from_slice(&destination.0);
        frame[6..12].copy_from_slice(&source.0);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mac_is_written_as_it_is_read() {
        let text = "52:54:00:12:34:5f";
        assert_eq!(text.parse::<Mac>().unwrap().to_string(), text);
        for wrong in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "5:54:00:12:34:56",
            "+1:0g:::",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(frame in prop::collection::vec(any::<u8>(), 0..1600)) {
            let _ = Header::parse(&frame);
        }
    }
}
