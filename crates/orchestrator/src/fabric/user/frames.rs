//! Frames of a machine over a socket, for a TCP/IP stack: each behind its length (QEMU's `-netdev socket`), or each a
//! packet of its own.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Longest frame that is taken; those of the fleet have 1,514 bytes at most.
const MAX_FRAME_BYTES: usize = 4096;

/// Ethernet's header and 1,500 bytes.
const MTU: usize = 1514;

/// Bytes that may wait for a machine; more are lost, as on any network.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// A machine's end of its network card, as seen from here.
#[derive(Debug)]
pub(super) struct Frames {
    stream: UnixStream,
    /// One packet of the socket is one frame, without its length.
    in_packets: bool,
    /// Beginning of a frame.
    partial: Vec<u8>,
    received: VecDeque<Vec<u8>>,
    waiting: Vec<u8>,
}

impl Frames {
    /// Frames behind their lengths.
    pub(super) fn of(stream: UnixStream) -> Self {
        Self {
            stream,
            in_packets: false,
            partial: Vec::new(),
            received: VecDeque::new(),
            waiting: Vec::new(),
        }
    }

    /// Frames that are packets of a socket which keeps them apart.
    pub(super) fn in_packets(socket: UnixStream) -> Self {
        Self {
            in_packets: true,
            ..Self::of(socket)
        }
    }

    /// Waits until the machine has sent or taken something. Can be dropped without losing any.
    ///
    /// # Errors
    /// If the machine is gone, or sends what are no frames.
    pub(super) async fn turn(&mut self) -> io::Result<()> {
        let mut interest = Interest::READABLE;
        if !self.waiting.is_empty() {
            interest |= Interest::WRITABLE;
        }
        let ready = self.stream.ready(interest).await?;
        if ready.is_readable() {
            self.read()?;
        }
        self.flush()
    }

    /// Sends what waits, as far as the machine takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            let next = self.next();
            match self.stream.try_write(&self.waiting[next.clone()]) {
                Ok(count) => drop(self.waiting.drain(..next.start + count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Octets of what waits that are written at once.
    fn next(&self) -> Range<usize> {
        match self.waiting.first_chunk::<4>() {
            Some(head) if self.in_packets => 4..4 + u32::from_be_bytes(*head) as usize,
            _ => 0..self.waiting.len(),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 32 * 1024];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) if self.in_packets => {
                if count <= MAX_FRAME_BYTES {
                    self.received.push_back(buffer[..count].to_vec());
                }
                Ok(())
            }
            Ok(count) => {
                self.partial.extend(&buffer[..count]);
                split(&mut self.partial, &mut self.received)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Takes whole frames off what has been read.
fn split(partial: &mut Vec<u8>, received: &mut VecDeque<Vec<u8>>) -> io::Result<()> {
    let mut rest = &partial[..];
    while let Some((head, body)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some((frame, behind)) = body.split_at_checked(length) else {
            break;
        };
        received.push_back(frame.to_vec());
        rest = behind;
    }
    *partial = rest.to_vec();
    Ok(())
}

impl Device for Frames {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(&mut self.waiting)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.waiting))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

/// A frame of the machine.
pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

/// Room for a frame to the machine.
pub(super) struct Sending<'a>(&'a mut Vec<u8>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let start = self.0.len();
        let head = u32::try_from(length).expect("a frame is short");
        self.0.extend(head.to_be_bytes());
        self.0.resize(start + 4 + length, 0);
        let result = fill(&mut self.0[start + 4..]);
        if self.0.len() > MAX_WAITING_BYTES {
            self.0.truncate(start);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use tokio::io::AsyncWriteExt;

    use super::super::packets;

    #[tokio::test]
    async fn frames_are_taken_whole_however_they_come() {
        let (ours, mut machine) = UnixStream::pair().unwrap();
        let mut frames = Frames::of(ours);
        machine.write_all(&[0, 0, 0, 2, 7]).await.unwrap();
        frames.turn().await.unwrap();
        assert!(frames.receive(Instant::ZERO).is_none());
        machine.write_all(&[8, 0, 0, 0, 0, 0, 0]).await.unwrap();
        frames.turn().await.unwrap();
        assert_eq!(frames.received, [vec![7, 8], vec![]]);
    }

    proptest! {
        /// Octets of a machine give the same frames in one piece and in two, and no panic.
        #[test]
        fn pieces_do_not_matter(
            parts in vec((0..3_u32, vec(any::<u8>(), 0..40)), 0..8),
            cut in any::<proptest::sample::Index>(),
        ) {
            // Mostly whole frames, and now and then a length that is none or does not fit.
            let frame = |(lie, body): &(u32, Vec<u8>)| {
                let length = body.len() as u32 + lie.saturating_sub(1) * 5000;
                [&length.to_be_bytes()[..], body].concat()
            };
            let bytes: Vec<u8> = parts.iter().flat_map(frame).collect();
            let take = |pieces: &[&[u8]]| {
                let (mut partial, mut received) = (Vec::new(), VecDeque::new());
                let whole = pieces.iter().all(|piece| {
                    partial.extend(*piece);
                    split(&mut partial, &mut received).is_ok()
                });
                (whole, received)
            };
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(take(&[&bytes]), take(&[first, second]));
        }
    }

    #[tokio::test]
    async fn packets_are_frames_both_ways_and_their_end_is_told() {
        let (ours, machines) = packets().unwrap();
        let mut machine = std::os::unix::net::UnixStream::from(machines);
        let mut frames = Frames::in_packets(ours);
        for sent in [&[1_u8, 2][..], &[3]] {
            machine.write_all(sent).unwrap();
            frames.turn().await.unwrap();
        }
        assert_eq!(frames.received, [vec![1, 2], vec![3]]);
        for octet in [7, 8] {
            let room = frames.transmit(Instant::ZERO).unwrap();
            room.consume(3, |frame| frame.fill(octet));
        }
        frames.flush().unwrap();
        assert!(frames.waiting.is_empty());
        for octet in [7, 8] {
            let mut buffer = [0; 10];
            assert_eq!(machine.read(&mut buffer).unwrap(), 3);
            assert_eq!(buffer[..3], [octet; 3]);
        }
        drop(machine);
        assert!(frames.turn().await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_it_and_so_does_the_machine() {
        let (ours, mut machine) = UnixStream::pair().unwrap();
        let mut frames = Frames::of(ours);
        machine.write_all(&[0xff; 4]).await.unwrap();
        let error = frames.turn().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (ours, machine) = UnixStream::pair().unwrap();
        let mut frames = Frames::of(ours);
        drop(machine);
        assert!(frames.turn().await.is_err());
    }

    #[tokio::test]
    async fn what_a_machine_does_not_take_is_bounded() {
        let (ours, _machine) = UnixStream::pair().unwrap();
        let mut frames = Frames::of(ours);
        for _ in 0..2 * MAX_WAITING_BYTES / MTU {
            let room = frames.transmit(Instant::ZERO).unwrap();
            room.consume(MTU, |frame| frame.fill(1));
        }
        assert!(frames.waiting.len() <= MAX_WAITING_BYTES);
    }
}
