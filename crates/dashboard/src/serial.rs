//! The devices' serial logs, piece by piece.

use std::io::{self, SeekFrom};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Most of a log in one piece, in bytes.
pub const MAX_PIECE: u64 = 64 << 10;

/// A piece of a log.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Text that a device wrote; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Offset of the next piece.
    pub next: u64,
}

/// Reads a piece of the log of a client from an offset on; without one, the last piece.
///
/// # Errors
/// If there is no log, or it cannot be read.
pub async fn read(run_dir: &Path, client: u32, from: Option<u64>) -> io::Result<Piece> {
    let mut file = tokio::fs::File::from_std(zfl_run_dir::log(run_dir, client)?);
    let length = file.metadata().await?.len();
    let from = from.unwrap_or(length.saturating_sub(MAX_PIECE)).min(length);
    file.seek(SeekFrom::Start(from)).await?;
    let mut bytes = Vec::new();
    file.take(MAX_PIECE).read_to_end(&mut bytes).await?;
    let whole = whole_characters(&bytes);
    let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
    Ok(Piece {
        text,
        next: from + whole as u64,
    })
}

/// Number of bytes to take so that every character stays whole.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        // The end of a character may still come.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => {
            // Something else is no UTF-8: look at the end only.
            let end = &bytes[bytes.len().saturating_sub(3)..];
            let cut = (1..=end.len()).find(|&back| {
                let tail = &end[end.len() - back..];
                matches!(std::str::from_utf8(tail), Err(e) if e.error_len().is_none() && e.valid_up_to() == 0)
            });
            bytes.len() - cut.unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_dir(log: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("serial")).unwrap();
        std::fs::write(dir.path().join("serial/3.log"), log).unwrap();
        dir
    }

    #[tokio::test]
    async fn pieces_make_up_the_log() {
        let log: String = (0..40_000)
            .map(|n| char::from_u32(0x100 + n % 500).unwrap())
            .collect();
        let dir = run_dir(log.as_bytes());
        let (mut read_back, mut at) = (String::new(), 0);
        loop {
            let piece = read(dir.path(), 3, Some(at)).await.unwrap();
            if piece.text.is_empty() {
                break;
            }
            assert!(piece.text.len() as u64 <= MAX_PIECE);
            read_back.push_str(&piece.text);
            at = piece.next;
        }
        assert_eq!((read_back == log, at), (true, log.len() as u64));
    }

    #[tokio::test]
    async fn without_an_offset_it_is_the_end() {
        let log = [vec![b'a'; 100_000], b"end".to_vec()].concat();
        let dir = run_dir(&log);
        let piece = read(dir.path(), 3, None).await.unwrap();
        assert!(piece.text.ends_with("end") && piece.text.len() as u64 == MAX_PIECE);
        assert_eq!(piece.next, log.len() as u64);
        let after = read(dir.path(), 3, Some(u64::MAX)).await.unwrap();
        assert_eq!(
            after,
            Piece {
                text: String::new(),
                next: log.len() as u64
            }
        );
    }

    #[tokio::test]
    async fn a_character_under_way_is_waited_for_and_other_bytes_are_not() {
        for (log, text) in [
            (&b"a\xe2\x82"[..], "a"),
            (b"\xff\xfea\xe2\x82", "\u{fffd}\u{fffd}a"),
            (b"\xff\xff\xff\xff", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            let piece = read(run_dir(log).path(), 3, Some(0)).await.unwrap();
            assert_eq!(piece.text, text);
        }
    }

    #[tokio::test]
    async fn no_log_and_no_file_are_errors() {
        let dir = run_dir(b"");
        assert!(read(dir.path(), 4, None).await.is_err());
        std::fs::create_dir(dir.path().join("serial/5.log")).unwrap();
        assert!(read(dir.path(), 5, None).await.is_err());
    }
}
