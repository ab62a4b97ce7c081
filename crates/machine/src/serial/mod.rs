//! Serial line of a machine: a pair of FIFOs, and the dialogue over them.

mod dialogue;
mod patience;

pub use dialogue::{Action, Dialogue};
pub use patience::Patience;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

use zfl_sandbox::Scratch;

/// Between two characters, where a guest loses characters that come faster.
const PACE: Duration = Duration::from_millis(5);

/// This end of a serial line.
#[derive(Debug)]
pub struct Serial {
    from_guest: Receiver,
    to_guest: Sender,
}

impl Serial {
    /// Makes the FIFOs `<client>.in` and `<client>.out` and returns this end of them, and the path
    /// to which QEMU appends `.in` and `.out`.
    pub fn open(scratch: &Scratch, client: u32) -> io::Result<(Self, PathBuf)> {
        let to_guest = scratch.fifo(&format!("{client}.in"))?;
        let from_guest = scratch.fifo(&format!("{client}.out"))?;
        Ok((
            Self::of(&from_guest, &to_guest)?,
            scratch.path(&client.to_string())?,
        ))
    }

    /// Both ends are opened for both directions: then neither waits for QEMU, and what the guest
    /// wrote before its death can be read after it.
    fn of(from_guest: &Path, to_guest: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read_write(true);
        Ok(Self {
            from_guest: options.open_receiver(from_guest)?,
            to_guest: options.open_sender(to_guest)?,
        })
    }

    /// Waits for output. Can be dropped without losing any.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from_guest.read(buffer).await
    }

    /// Reads what is there already; 0 if nothing is.
    pub fn read_now(&mut self, buffer: &mut [u8]) -> usize {
        read_now(&self.from_guest, buffer)
    }

    /// Types a text, at once or with a pause after each character.
    pub async fn type_text(&mut self, text: &str, paced: bool) -> io::Result<()> {
        if !paced {
            return self.to_guest.write_all(text.as_bytes()).await;
        }
        for character in text.as_bytes().chunks(1) {
            self.to_guest.write_all(character).await?;
            zfl_clock::sleep(PACE).await;
        }
        Ok(())
    }
}

/// Reads what is in a pipe already; 0 if nothing is. Asks the system, and not the runtime, which may not have
/// heard of it yet.
pub fn read_now(pipe: &Receiver, buffer: &mut [u8]) -> usize {
    loop {
        match nix::unistd::read(pipe, buffer) {
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
        let folder = tempfile::tempdir().unwrap();
        let [from_guest, to_guest] = ["out", "in"].map(|name| folder.path().join(name));
        for path in [&from_guest, &to_guest] {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let mut serial = Serial::of(&from_guest, &to_guest).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(serial.read_now(&mut buffer), 0);
        let open = |path| {
            std::fs::File::options()
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let (mut guest_out, mut guest_in) = (open(&from_guest), open(&to_guest));
        guest_out.write_all(b"last").unwrap();
        let count = serial.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"last");
        // The runtime hears of nothing here before it is read.
        guest_out.write_all(b"words").unwrap();
        drop(guest_out);
        let count = serial.read_now(&mut buffer);
        assert_eq!(&buffer[..count], b"words");
        serial.type_text("run", true).await.unwrap();
        let count = guest_in.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"run");
    }
}
