//! The pcapng format, as far as a capture of one Ethernet interface needs it.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>: a section header, one
//! interface with timestamps in nanoseconds, and an enhanced packet block for each frame, whose
//! flags tell the direction as the device saw it. Everything is little endian; the section header's
//! magic number says so.

use std::io::{self, BufReader, ErrorKind, Read, Seek, Write};
use std::time::Duration;

use super::frame::Mac;
use crate::link::Direction;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const LINKTYPE_ETHERNET: u16 = 1;
const NANOSECONDS: u8 = 9;
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

const END_OF_OPTIONS: u16 = 0;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_MACADDR: u16 = 6;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;

/// Head of a capture of `client`'s frames.
pub(crate) fn head(client: u32, mac: Mac) -> Vec<u8> {
    let mut section = Vec::new();
    section.extend(BYTE_ORDER_MAGIC.to_le_bytes());
    // Version 1.0; the section's length is not given.
    section.extend([1, 0, 0, 0]);
    section.extend(u64::MAX.to_le_bytes());
    option(&mut section, SHB_USERAPPL, b"zfl");
    option(&mut section, END_OF_OPTIONS, b"");

    let mut interface = Vec::new();
    interface.extend(LINKTYPE_ETHERNET.to_le_bytes());
    // Reserved; no frame is cut short.
    interface.extend([0; 6]);
    option(
        &mut interface,
        IF_NAME,
        format!("client {client}").as_bytes(),
    );
    option(&mut interface, IF_MACADDR, &mac.0);
    option(&mut interface, IF_TSRESOL, &[NANOSECONDS]);
    option(&mut interface, END_OF_OPTIONS, b"");

    let mut head = Vec::new();
    block(&mut head, SECTION_HEADER, &section);
    block(&mut head, INTERFACE_DESCRIPTION, &interface);
    head
}

/// Writes one frame. `at`: since the Unix epoch.
///
/// Returns how many bytes it took. `scratch` is memory to use again.
pub(crate) fn write_frame(
    out: &mut impl Write,
    scratch: &mut Vec<u8>,
    at: Duration,
    direction: Direction,
    frame: &[u8],
) -> io::Result<usize> {
    // 64 bits of nanoseconds reach to the year 2554.
    let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let seen = match direction {
        Direction::Uplink => OUTBOUND,
        Direction::Downlink => INBOUND,
    };
    let mut packet = std::mem::take(scratch);
    packet.clear();
    packet.extend(0u32.to_le_bytes());
    packet.extend(((nanos >> 32) as u32).to_le_bytes());
    packet.extend((nanos as u32).to_le_bytes());
    packet.extend(len.to_le_bytes());
    packet.extend(len.to_le_bytes());
    packet.extend(frame);
    pad(&mut packet);
    option(&mut packet, EPB_FLAGS, &seen.to_le_bytes());
    option(&mut packet, END_OF_OPTIONS, b"");
    let total = packet.len() + BLOCK_FRAME_BYTES;
    out.write_all(&ENHANCED_PACKET.to_le_bytes())?;
    out.write_all(&(total as u32).to_le_bytes())?;
    out.write_all(&packet)?;
    out.write_all(&(total as u32).to_le_bytes())?;
    *scratch = packet;
    Ok(total)
}

/// A block's type and its length, which stands at both ends.
const BLOCK_FRAME_BYTES: usize = 12;

/// Length of the whole blocks at the start of a file of this length.
///
/// # Errors
/// If the file is there and does not begin as [`head`] does, or cannot be read.
pub(crate) fn whole_blocks(file: &mut BufReader<impl Read + Seek>, length: u64) -> io::Result<u64> {
    let mut at = 0;
    while length - at >= BLOCK_FRAME_BYTES as u64 {
        let [kind, total] = [word(file)?, word(file)?];
        let is_section = kind == SECTION_HEADER && word(file)? == BYTE_ORDER_MAGIC;
        if at == 0 && !is_section {
            let problem = "it is no capture of zfl's: move it away";
            return Err(io::Error::new(ErrorKind::InvalidData, problem));
        }
        let is_block = total as usize >= BLOCK_FRAME_BYTES && total.is_multiple_of(4);
        if !is_block || u64::from(total) > length - at {
            break;
        }
        // Its length stands at its end, too; of a section's header one word more was read.
        let read = if kind == SECTION_HEADER { 12 } else { 8 };
        let rest = i64::from(total) - read - 4;
        file.seek_relative(rest.max(0))?;
        if rest < 0 || word(file)? != total {
            break;
        }
        at += u64::from(total);
    }
    Ok(at)
}

fn word(file: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let total = (body.len() + BLOCK_FRAME_BYTES) as u32;
    out.extend(kind.to_le_bytes());
    out.extend(total.to_le_bytes());
    out.extend(body);
    out.extend(total.to_le_bytes());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(value);
    pad(out);
}

/// Everything is a multiple of four bytes long.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn hex(bytes: &[u8]) -> String {
        let words = |line: &[u8]| {
            let word = |word: &[u8]| word.iter().map(|byte| format!("{byte:02x}")).collect();
            line.chunks(4).map(word).collect::<Vec<String>>().join(" ")
        };
        bytes.chunks(32).map(|line| words(line) + "\n").collect()
    }

    #[test]
    fn the_head_has_its_bytes() {
        expect![[r#"
            0a0d0d0a 28000000 4d3c2b1a 01000000 ffffffff ffffffff 04000300 7a666c00
            00000000 28000000 01000000 38000000 01000000 00000000 02000800 636c6965
            6e742037 06000600 52540000 00070000 09000100 09000000 00000000 38000000
        "#]]
        .assert_eq(&hex(&head(7, Mac([0x52, 0x54, 0, 0, 0, 7]))));
    }

    #[test]
    fn blocks_are_whole_or_not_counted() {
        let whole = |bytes: &[u8]| {
            let mut file = BufReader::new(io::Cursor::new(bytes));
            whole_blocks(&mut file, bytes.len() as u64).ok()
        };
        let head = head(7, Mac([0; 6]));
        let mut bytes = head.clone();
        write_frame(
            &mut bytes,
            &mut Vec::new(),
            Duration::ZERO,
            Direction::Uplink,
            &[0; 5],
        )
        .unwrap();
        bytes.extend(&head);
        let ends = [0, 40, 96, 148, 188, 244];
        for length in 0..=bytes.len() {
            let last = ends.iter().rfind(|end| **end <= length);
            assert_eq!(
                whole(&bytes[..length]),
                last.map(|end| *end as u64),
                "{length}"
            );
        }
        // Lengths that cannot be, of the second block.
        for total in [0, 8, 12, 41, 60, u32::MAX] {
            bytes[44..48].copy_from_slice(&total.to_le_bytes());
            assert_eq!(whole(&bytes), Some(40), "{total}");
        }
        assert_eq!(whole(b"something else"), None);
        assert_eq!(whole(&[0; 200]), None);
    }

    #[test]
    fn a_frame_has_its_bytes() {
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        let at = Duration::new(1_700_000_000, 123_456_789);
        let frame = [0xaa, 0xbb, 0xcc, 0xdd, 0xee];
        let mut write =
            |direction| write_frame(&mut out, &mut scratch, at, direction, &frame).unwrap();
        assert_eq!(
            (write(Direction::Uplink), write(Direction::Downlink)),
            (52, 52)
        );
        expect![[r#"
            06000000 34000000 00000000 fe9c9717 15cd853d 05000000 05000000 aabbccdd
            ee000000 02000400 02000000 00000000 34000000 06000000 34000000 00000000
            fe9c9717 15cd853d 05000000 05000000 aabbccdd ee000000 02000400 01000000
            00000000 34000000
        "#]]
        .assert_eq(&hex(&out));
    }
}
