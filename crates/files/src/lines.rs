//! Lines of a file that may be of any length.

use std::io::{self, BufRead, Read};

/// Reads the next line, with its end, into `line`; returns its bytes, 0 behind the last one.
///
/// # Errors
/// `InvalidData` if it is longer than `max` bytes; if the file cannot be read.
pub fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>, max: usize) -> io::Result<usize> {
    line.clear();
    let read = from.take(max as u64 + 1).read_until(b'\n', line)?;
    if read > max {
        let problem = format!("a line is longer than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        let (mut file, mut line) = (io::BufReader::new(io::repeat(b'x')), Vec::new());
        let error = read_line(&mut file, &mut line, 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut file = &b"ab\n\nc"[..];
        let mut lengths = Vec::new();
        while let Ok(read @ 1..) = read_line(&mut file, &mut line, 3) {
            lengths.push(read);
        }
        assert_eq!(lengths, [3, 1, 1]);
    }
}
