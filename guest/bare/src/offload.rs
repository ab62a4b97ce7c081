//! Work on TCP segments that a card leaves to the host: checksums, and cutting what is long into segments.
//!
//! The words of it are virtio's (1.2, 5.1.6): a header before each frame.

use core::num::NonZeroU16;

/// Length of the header before a frame.
pub const HEADER_BYTES: usize = 12;

const NEEDS_CHECKSUM: u8 = 1;
const HAS_CHECKSUM: u8 = 2;
const TCP_OVER_IPV4: u8 = 1;

const ETHERNET_BYTES: usize = 14;
/// Place of a TCP header's checksum.
const CHECKSUM_AT: usize = 16;

/// Place of a TCP segment in a frame.
struct Place {
    /// Start of the IPv4 header's addresses.
    addresses: usize,
    /// Start of TCP's header.
    start: usize,
    payload: usize,
    end: usize,
}

impl Place {
    /// `None` if the frame is not TCP over IPv4, is a fragment, or lies about its lengths.
    fn of(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(ETHERNET_BYTES..)?;
        let is_ipv4 = frame[12..14] == [8, 0] && packet.first()? >> 4 == 4;
        let is_tcp = *packet.get(9)? == 6;
        let is_fragment = be16(packet, 6)? & 0x3fff != 0;
        let start = ETHERNET_BYTES + usize::from(packet[0] & 0x0f) * 4;
        let end = ETHERNET_BYTES + usize::from(be16(packet, 2)?);
        let payload = start + usize::from(*frame.get(start + 12)? >> 4) * 4;
        let is_whole = start >= ETHERNET_BYTES + 20 && payload >= start + 20;
        (is_ipv4 && is_tcp && !is_fragment && is_whole && payload <= end && end <= frame.len())
            .then_some(Self {
                addresses: ETHERNET_BYTES + 12,
                start,
                payload,
                end,
            })
    }

    /// Sum of the pseudo-header: addresses, protocol, length.
    fn pseudo_sum(&self, frame: &[u8]) -> u32 {
        const TCP: u32 = 6;
        let addresses = &frame[self.addresses..self.addresses + 8];
        sum(addresses) + TCP + (self.end - self.start) as u32
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn sum(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks(2);
    pairs
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// Puts another maximum segment size into a segment that opens a connection, and returns the one that stood there.
/// The checksum is not kept right.
pub fn replace_segment_size(frame: &mut [u8], by: u16) -> Option<u16> {
    const SYN: u8 = 2;
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    let place = Place::of(frame)?;
    let header = &mut frame[place.start..place.payload];
    if header[13] & SYN == 0 {
        return None;
    }
    let mut at = 20;
    loop {
        let kind = *header.get(at)?;
        let len = match kind {
            END => return None,
            NOTHING => 1,
            _ => usize::from(*header.get(at + 1)?).max(2),
        };
        if kind == SEGMENT_SIZE {
            let stood = be16(header, at + 2)?;
            header[at + 2..at + 4].copy_from_slice(&by.to_be_bytes());
            return Some(stood);
        }
        at += len;
    }
}

/// Size of the segments that a frame is to be cut into, if it has more than one.
pub fn cut(frame: &[u8], segment_bytes: NonZeroU16) -> Option<NonZeroU16> {
    let place = Place::of(frame)?;
    let is_long = place.end - place.payload > usize::from(segment_bytes.get());
    is_long.then_some(segment_bytes)
}

/// Header that has the host fill in the TCP checksum of a frame, of which the part that is asked for is put there;
/// and cut it into segments of so many bytes, if it is longer.
pub fn ask(frame: &mut [u8], segment_bytes: Option<NonZeroU16>) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let Some(place) = Place::of(frame) else {
        return header;
    };
    let partial = fold(place.pseudo_sum(frame));
    let checksum = place.start + CHECKSUM_AT;
    frame[checksum..checksum + 2].copy_from_slice(&partial.to_be_bytes());
    header[0] = NEEDS_CHECKSUM;
    header[6..8].copy_from_slice(&(place.start as u16).to_le_bytes());
    header[8..10].copy_from_slice(&(CHECKSUM_AT as u16).to_le_bytes());
    if let Some(bytes) = segment_bytes {
        header[1] = TCP_OVER_IPV4;
        header[2..4].copy_from_slice(&(place.payload as u16).to_le_bytes());
        header[4..6].copy_from_slice(&bytes.get().to_le_bytes());
    }
    header
}

/// Contents of a received frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Payload of each segment that the frame was put together from.
    pub segment_bytes: Option<NonZeroU16>,
    /// Buffers that the frame lies in.
    pub buffers: u16,
    /// The host vouches for the checksum.
    has_checksum: bool,
}

impl Told {
    /// Reads a header; `None` if it is short.
    pub fn read(header: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = header.first_chunk()?;
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        Some(Self {
            segment_bytes: NonZeroU16::new(word(4)).filter(|_| header[1] != 0),
            buffers: word(10),
            has_checksum: header[0] & (NEEDS_CHECKSUM | HAS_CHECKSUM) != 0,
        })
    }

    /// True unless the frame has a TCP checksum, for which nobody vouches, and which is wrong.
    pub fn is_intact(&self, frame: &[u8]) -> bool {
        self.has_checksum
            || Place::of(frame).is_none_or(|place| {
                fold(place.pseudo_sum(frame) + sum(&frame[place.start..place.end])) == 0xffff
            })
    }
}

/// Segments and headers that a frame stands for on the wire: their number, and the bytes that the others than the
/// first take for headers.
pub fn on_the_wire(frame: &[u8], segment_bytes: Option<NonZeroU16>) -> (u32, u64) {
    let cut = segment_bytes.and_then(|bytes| {
        let place = Place::of(frame)?;
        let segments = (place.end - place.payload)
            .div_ceil(usize::from(bytes.get()))
            .max(1);
        Some((segments as u32, ((segments - 1) * place.payload) as u64))
    });
    cut.unwrap_or((1, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcp_track::testing::frame;

    const ACK: u8 = 16;

    /// Does as the host: completes the checksum that it was asked for.
    fn complete(header: &[u8; HEADER_BYTES], frame: &mut [u8]) {
        let word = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (start, at) = (word(6), word(6) + word(8));
        let checksum = !fold(sum(&frame[start..]));
        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    #[test]
    fn the_host_completes_a_checksum_that_holds() {
        for payload in [0, 1, 10, 1460] {
            let mut frame = frame(99, ACK, payload);
            let header = ask(&mut frame, None);
            assert_eq!(header[..2], [NEEDS_CHECKSUM, 0]);
            complete(&header, &mut frame);
            let told = Told::read(&[0; HEADER_BYTES]).unwrap();
            assert!(told.is_intact(&frame), "{payload}");
            *frame.last_mut().unwrap() ^= 1;
            assert!(!told.is_intact(&frame), "{payload}");
            let vouched = Told::read(&[HAS_CHECKSUM, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]).unwrap();
            assert!(vouched.is_intact(&frame), "{payload}");
        }
    }

    #[test]
    fn a_long_frame_is_cut_and_counted_as_what_it_becomes() {
        let mut long = frame(99, ACK, 8000);
        let size = NonZeroU16::new(1460);
        let header = ask(&mut long, size);
        assert_eq!(header[1], TCP_OVER_IPV4);
        assert_eq!(header[2..6], [54, 0, 0xb4, 5]);
        assert_eq!(Told::read(&header).unwrap().segment_bytes, size);
        assert_eq!(on_the_wire(&long, size), (6, 5 * 54));
        assert_eq!(on_the_wire(&long, None), (1, 0));
        assert_eq!(on_the_wire(&frame(99, ACK, 0), size), (1, 0));
    }

    /// A segment that opens a connection, with these options.
    fn opening(options: &[u8]) -> Vec<u8> {
        let mut frame = frame(99, 2, options.len() as u16);
        frame[54..].copy_from_slice(options);
        frame[46] = (5 + options.len() as u8 / 4) << 4;
        frame
    }

    fn frame_with_data() -> Vec<u8> {
        frame(1, ACK, 10)
    }

    #[test]
    fn the_segment_size_is_told_otherwise_than_it_is_used() {
        let mut frame = opening(&[1, 3, 3, 2, 2, 4, 5, 0xb4, 0, 0, 0, 0]);
        assert_eq!(replace_segment_size(&mut frame, 8000), Some(1460));
        assert_eq!(replace_segment_size(&mut frame, 1460), Some(8000));
        let rest: [&[u8]; 5] = [
            &[],
            &[0, 2, 4, 5],
            &[1, 1, 1, 1],
            &[1, 1, 2, 4],
            &[9, 0, 9, 255],
        ];
        for options in rest {
            let mut frame = opening(options);
            let before = frame.clone();
            assert_eq!(replace_segment_size(&mut frame, 8000), None, "{options:?}");
            assert_eq!(frame, before);
        }
        let mut open = frame_with_data();
        assert_eq!(replace_segment_size(&mut open, 8000), None);
    }

    #[test]
    fn only_what_is_longer_than_a_segment_is_cut() {
        let size = NonZeroU16::new(1460).unwrap();
        assert_eq!(cut(&frame(1, ACK, 1461), size), Some(size));
        assert_eq!(cut(&frame(1, ACK, 1460), size), None);
        assert_eq!(cut(&[0; 40], size), None);
    }

    #[test]
    fn what_is_no_tcp_is_left_alone_and_nothing_panics() {
        let whole = frame(1, ACK, 10);
        for len in 0..whole.len() {
            let mut part = whole[..len].to_vec();
            assert_eq!(ask(&mut part, None), [0; HEADER_BYTES], "{len}");
            assert_eq!(part, whole[..len]);
            assert_eq!(on_the_wire(&part, NonZeroU16::new(1)), (1, 0));
            let told = Told::read(&part);
            assert_eq!(told.is_some(), len >= HEADER_BYTES);
        }
        for at in 0..54 {
            for value in [0, 1, 0x0f, 0xff] {
                let mut frame = whole.clone();
                frame[at] = value;
                ask(&mut frame, NonZeroU16::new(1));
                on_the_wire(&frame, NonZeroU16::new(1));
                let _ = Told::read(&[0; HEADER_BYTES]).unwrap().is_intact(&frame);
            }
        }
    }
}
