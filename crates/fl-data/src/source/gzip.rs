//! Gzip streams, as gzip itself reads them: members one behind the other, padding of zeros, and other bytes
//! behind the last member, which are counted and not read.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// First octets of a member.
pub(crate) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Content of a gzip stream.
pub(crate) struct Members<R> {
    member: Option<GzDecoder<R>>,
    /// Octets behind the stream that are neither padding nor a member.
    pub trailing: u64,
}

impl<R: BufRead> Members<R> {
    /// Content of the stream that this reader is at.
    pub fn new(reader: R) -> Self {
        Self {
            member: Some(GzDecoder::new(reader)),
            trailing: 0,
        }
    }

    /// Goes on behind a member.
    fn next(&mut self, mut reader: R) -> io::Result<()> {
        let zeros = skip_zeros(&mut reader)?;
        let head = reader.fill_buf()?;
        let begins = head.iter().zip(MAGIC).all(|(found, magic)| *found == magic);
        match head {
            [] => {}
            _ if zeros == 0 && begins => self.member = Some(GzDecoder::new(reader)),
            _ => self.trailing = zeros + io::copy(&mut reader, &mut io::sink())?,
        }
        Ok(())
    }
}

/// Skips zeros, and counts them.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let piece = reader.fill_buf()?;
        let (len, zeros) = (
            piece.len(),
            piece.iter().take_while(|&&octet| octet == 0).count(),
        );
        reader.consume(zeros);
        skipped += zeros as u64;
        if zeros < len || len == 0 {
            return Ok(skipped);
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if let Some(member) = self.member.take() {
                self.next(member.into_inner())?;
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<(Vec<u8>, u64)> {
        // A small buffer, so that every boundary is met.
        let mut members = Members::new(io::BufReader::with_capacity(3, bytes));
        let mut content = Vec::new();
        members.read_to_end(&mut content)?;
        Ok((content, members.trailing))
    }

    #[test]
    fn members_and_padding_are_read_and_other_bytes_are_counted() {
        let (one, two) = (gzip(b"one"), gzip(b"two"));
        let zeros = [0; 1000];
        for (stream, content, trailing) in [
            (one.clone(), "one", 0),
            ([&one[..], &two].concat(), "onetwo", 0),
            ([&one[..], &two, &zeros].concat(), "onetwo", 0),
            ([&one[..], b"\r\n"].concat(), "one", 2),
            ([&one[..], &zeros, b"\n"].concat(), "one", 1001),
            ([&one[..], &[0], &two].concat(), "one", 1 + two.len() as u64),
        ] {
            let read = read(&stream).unwrap();
            assert_eq!(read, (content.into(), trailing), "{stream:?}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_or_damaged_is_an_error() {
        let whole = [gzip(b"one"), gzip(b"two")].concat();
        let first = gzip(b"one").len();
        for len in (1..whole.len()).filter(|&len| len != first) {
            assert!(read(&whole[..len]).is_err(), "{len}");
        }
        let mut damaged = gzip(b"one");
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        assert!(read(&damaged).is_err());
    }
}
