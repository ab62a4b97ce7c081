//! Serial line of a machine: a pair of sockets, and the dialogue over them.

mod dialogue;
mod patience;

pub use dialogue::{Action, Dialogue};
pub use patience::Patience;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Between two characters, where a guest loses characters that come faster.
const PACE: Duration = Duration::from_millis(5);

/// This end of a serial line.
#[derive(Debug)]
pub struct Serial {
    line: UnixStream,
    /// Other end. It stays open, so that the line neither ends nor fails when the machine does.
    guests: OwnedFd,
}

impl Serial {
    /// Makes a serial line that no other machine can reach.
    pub fn open() -> io::Result<Self> {
        let (line, guests) = UnixStream::pair()?;
        // QEMU wants to set that for itself.
        let guests = guests.into_std()?;
        guests.set_nonblocking(false)?;
        Ok(Self {
            line,
            guests: guests.into(),
        })
    }

    /// Descriptor for the machine, and for it alone, to be given under its number.
    pub fn plug(&self) -> io::Result<OwnedFd> {
        self.guests.try_clone()
    }

    /// Waits for output. Can be dropped without losing any.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.line.read(buffer).await
    }

    /// Reads what is there already; 0 if nothing is.
    pub fn read_now(&mut self, buffer: &mut [u8]) -> usize {
        read_now(&self.line, buffer)
    }

    /// Types a text, at once or with a pause after each character.
    pub async fn type_text(&mut self, text: &str, paced: bool) -> io::Result<()> {
        if !paced {
            return self.line.write_all(text.as_bytes()).await;
        }
        for character in text.as_bytes().chunks(1) {
            self.line.write_all(character).await?;
            zfl_clock::sleep(PACE).await;
        }
        Ok(())
    }
}

/// Reads what is there already; 0 if nothing is. Asks the system, and not the runtime, which may not have
/// heard of it yet. `from` does not block.
pub fn read_now(from: &impl AsFd, buffer: &mut [u8]) -> usize {
    loop {
        match nix::unistd::read(from, buffer) {
            Err(nix::errno::Errno::EINTR) => {}
            read => return read.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[tokio::test]
    async fn it_speaks_both_ways_and_keeps_what_a_dead_guest_said() {
        let mut serial = Serial::open().unwrap();
        let mut buffer = [0; 16];
        assert_eq!(serial.read_now(&mut buffer), 0);
        let mut guest = std::os::unix::net::UnixStream::from(serial.plug().unwrap());
        guest.write_all(b"last").unwrap();
        let count = serial.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"last");
        serial.type_text("run", true).await.unwrap();
        let count = guest.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"run");
        // The runtime hears of nothing here before it is read.
        guest.write_all(b"words").unwrap();
        drop(guest);
        let count = serial.read_now(&mut buffer);
        assert_eq!(&buffer[..count], b"words");
        assert_eq!(serial.read_now(&mut buffer), 0);
    }
}
