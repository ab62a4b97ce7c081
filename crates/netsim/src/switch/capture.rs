//! A packet capture of one device, written by a thread of its own.
//!
//! The switch hands frames over through a bounded queue and never waits: what does not fit is
//! missing from the file, and counted. The file holds what the device itself would see: each frame
//! when the device sends it, lost later or not, and each frame when it reaches the device.
//!
//! A file that is there goes on with a section of its own, as pcapng has it; a block that its last
//! writer left half written is taken away before, since readers stop at one.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use zfl_files::Dir;

use super::frame::Mac;
use super::pcapng;
use crate::link::Direction;

/// Frames that may wait for the writer: 1.5 MB.
const QUEUE_FRAMES: usize = 1024;
/// A device that floods its network does not fill the disk, in however many parts.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A capture that runs; it ends and its file is complete when it is finished or dropped.
#[derive(Debug)]
pub(crate) struct Capture {
    /// `None` once it is finished.
    queue: Option<SyncSender<Record>>,
    writer: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
struct Record {
    at: Duration,
    direction: Direction,
    frame: Box<[u8]>,
}

impl Capture {
    /// Makes the file, or goes on behind what is in it, and starts its writer.
    pub fn start(path: &Path, client: u32, mac: Mac) -> io::Result<Self> {
        let (file, before) = open(path)?;
        let mut file = BufWriter::new(file);
        file.write_all(&pcapng::head(client, mac))?;
        file.flush()?;
        let (queue, records) = sync_channel(QUEUE_FRAMES);
        let writer = std::thread::Builder::new()
            .name(format!("zfl-pcap-{client}"))
            .spawn(move || write(file, &records, before, MAX_FILE_BYTES))?;
        Ok(Self {
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    /// Hands a frame over; `at` is since the Unix epoch. False if the file will miss it.
    pub fn record(&self, at: Duration, direction: Direction, frame: &[u8]) -> bool {
        let Some(queue) = &self.queue else {
            return false;
        };
        queue
            .try_send(Record {
                at,
                direction,
                frame: frame.into(),
            })
            .is_ok()
    }

    /// Writes what is still queued.
    ///
    /// # Errors
    /// If writing failed at any time, or the file got too long; it then ends at that frame.
    pub fn finish(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        self.queue = None;
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        writer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the capture's writer panicked")))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Whoever wants to know calls `finish`.
        let _ = self.end();
    }
}

/// Opens a capture's file, to be appended to behind its last whole block; returns how long it is then.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let (folder, name) = Dir::of(path)?;
    let file = folder.append(name)?;
    let length = file.metadata()?.len();
    let whole = pcapng::whole_blocks(&mut BufReader::new(&file), length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    Ok((file, whole))
}

/// Writes until the queue is closed, and lets the file be read up to date whenever it is empty.
///
/// `written`: bytes that are in the file already, which count for the limit.
fn write(
    mut out: BufWriter<impl Write>,
    records: &Receiver<Record>,
    mut written: u64,
    limit: u64,
) -> io::Result<()> {
    let mut scratch = Vec::new();
    while written <= limit {
        let record = match records.try_recv() {
            Ok(record) => Some(record),
            Err(_) => {
                out.flush()?;
                records.recv().ok()
            }
        };
        let Some(Record {
            at,
            direction,
            frame,
        }) = record
        else {
            return out.flush();
        };
        let bytes = pcapng::write_frame(&mut out, &mut scratch, at, direction, &frame)?;
        written += bytes as u64;
    }
    out.flush()?;
    Err(io::Error::other(format!(
        "the capture has reached {limit} bytes and ends there"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn record() -> Record {
        Record {
            at: Duration::ZERO,
            direction: Direction::Uplink,
            frame: Box::new([0; 60]),
        }
    }

    #[test]
    fn a_capture_that_is_finished_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.pcapng");
        let capture = Capture::start(&path, 1, MAC).unwrap();
        for n in 0..100 {
            assert!(capture.record(Duration::from_millis(n), Direction::Downlink, &[0; 60]));
        }
        capture.finish().unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        // 32 bytes stand before the frame and 12 behind it.
        assert_eq!(length, pcapng::head(1, MAC).len() as u64 + 100 * (60 + 44));
    }

    #[test]
    fn a_capture_ends_at_its_limit_and_says_so() {
        let (queue, records) = sync_channel(100);
        (0..100).for_each(|_| queue.send(record()).unwrap());
        drop(queue);
        let error = write(BufWriter::new(Vec::new()), &records, 0, 1000).unwrap_err();
        assert!(error.to_string().contains("1000 bytes"), "{error}");
    }

    #[test]
    fn a_capture_goes_on_behind_its_last_whole_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.pcapng");
        let part = || {
            let capture = Capture::start(&path, 1, MAC).unwrap();
            capture.record(Duration::ZERO, Direction::Uplink, &[0; 60]);
            capture.finish().unwrap();
            std::fs::read(&path).unwrap()
        };
        let once = part();
        let twice = part();
        assert_eq!(twice, [&once[..], &once[..]].concat());
        for half in 1..104 {
            std::fs::write(&path, &twice[..twice.len() - half]).unwrap();
            let frameless = &twice[..twice.len() - 104];
            assert_eq!(part(), [frameless, &once[..]].concat(), "{half} bytes less");
        }
        // A kill between the making of the file and its head leaves nothing.
        std::fs::write(&path, "").unwrap();
        assert_eq!(part(), once);
    }

    #[test]
    fn all_parts_of_a_capture_together_are_bounded() {
        let (queue, records) = sync_channel(1);
        queue.send(record()).unwrap();
        let error = write(BufWriter::new(Vec::new()), &records, 1001, 1000).unwrap_err();
        assert!(error.to_string().contains("1000 bytes"), "{error}");
        assert!(records.try_recv().is_ok(), "nothing was written any more");
    }

    #[test]
    fn what_is_no_capture_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.pcapng");
        std::fs::write(&path, "a letter, and nothing else").unwrap();
        let error = Capture::start(&path, 1, MAC).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(std::fs::read(&path).unwrap().starts_with(b"a letter"));
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_no_more() {
        let full = Path::new("/dev/full");
        assert!(Capture::start(full, 1, MAC).is_err());
        let (queue, records) = sync_channel(100);
        queue.send(record()).unwrap();
        drop(queue);
        let file = File::options().write(true).open(full).unwrap();
        assert!(write(BufWriter::new(file), &records, 0, 1000).is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_at_once() {
        assert!(Capture::start(Path::new("/nowhere/1.pcapng"), 1, MAC).is_err());
    }
}
