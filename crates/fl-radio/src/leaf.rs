//! The leaf's end of a transfer: it alone has timers, asks, and gives up.

use crate::incoming::{Incoming, Reply};
use crate::outgoing::{Outgoing, SendError};
use crate::packet::{Ack, Head, Packet, PacketBytes, Reason};

/// Times of a leaf, which follow from its radio and from the way to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From one packet to the next: no less than the slowest hop needs, its duty cycle included.
    pub packet_us: u64,
    /// From a question to its answer, there and back over all hops.
    pub reply_us: u64,
    /// From one look for messages to the next, while nothing happens.
    pub poll_us: u64,
    /// Tiles granted at a time, 1 to 127.
    pub credit: u8,
    /// Questions without an answer after which a message is given up.
    pub tries: u8,
}

/// The leaf's end, for messages of at most `N` octets each way.
///
/// Its body gives it packets ([`Leaf::on_packet`]) and sends those of [`Leaf::poll`], when its duty cycle
/// lets it. It takes memory for two messages and never more.
#[derive(Clone, Debug)]
pub struct Leaf<const N: usize> {
    epoch: u8,
    pace: Pace,
    out: Outgoing<N>,
    incoming: Incoming<N>,
    /// Answer to a packet, with the tag of the message that it was about.
    reply: Option<(u8, Packet<'static>)>,
    /// Time of the next question.
    due_us: u64,
    /// Time of the next packet of any kind.
    next_us: u64,
    tries: u8,
    failure: Option<Reason>,
}

/// The longest pause that a gateway can ask for: an hour.
const MAX_PAUSE_US: u64 = 3_600_000_000;

impl<const N: usize> Leaf<N> {
    /// A leaf that has just booted. `epoch` is drawn anew at each boot.
    pub const fn new(epoch: u8, pace: Pace, now_us: u64) -> Self {
        Self {
            epoch,
            pace,
            out: Outgoing::new(),
            incoming: Incoming::new(),
            reply: None,
            due_us: now_us,
            next_us: now_us,
            tries: 0,
            failure: None,
        }
    }

    /// Gives it a message to send, with a mark for the other side.
    ///
    /// # Errors
    /// If it does not fit, or the last one is still under way.
    pub fn send(&mut self, label: u8, message: &[u8], now_us: u64) -> Result<(), SendError> {
        self.out.send(label, message)?;
        self.failure = None;
        self.due_us = self.due_us.min(now_us);
        Ok(())
    }

    /// True until the last message is delivered or given up.
    pub fn is_sending(&self) -> bool {
        self.out.is_active()
    }

    /// Tiles that it sent more than once so far.
    pub fn tiles_again(&self) -> u32 {
        self.out.again()
    }

    /// Gives up the message that is being sent.
    pub fn cancel(&mut self) {
        self.out.end();
    }

    /// Reason for which the last message was given up, once.
    pub fn failure(&mut self) -> Option<Reason> {
        self.failure.take()
    }

    /// The message that has come, with its mark; it stays until [`Leaf::release`].
    pub fn receive(&self) -> Option<(u8, &[u8])> {
        self.incoming.receive()
    }

    /// Makes room for the next message.
    pub fn release(&mut self) {
        self.incoming.release();
    }

    /// Tiles of the message that is coming.
    pub fn tiles_received(&self) -> u32 {
        self.incoming.tiles()
    }

    /// Takes in a packet from the gateway; anything else is passed over.
    pub fn on_packet(&mut self, bytes: &[u8], now_us: u64) {
        let Some((head, packet)) = Packet::parse(bytes) else {
            return;
        };
        if head.epoch != self.epoch {
            return;
        }
        let soon_us = now_us.saturating_add(self.pace.reply_us);
        match packet {
            Packet::Idle { wait_ds } => {
                let pause_us = (u64::from(wait_ds) * 100_000).min(MAX_PAUSE_US);
                (self.tries, self.due_us) = (0, now_us.saturating_add(pause_us));
            }
            Packet::Offer { name, label } => {
                // It may be a late one of the message before.
                let reply = self.incoming.offered(head.tag, name, label);
                self.answer(head.tag, reply);
                (self.tries, self.due_us) = (0, soon_us);
            }
            Packet::Fragment { tile, last, octets } => {
                if self.incoming.fragment(head.tag, tile, octets) {
                    (self.tries, self.due_us) = (0, soon_us);
                }
                if self.incoming.is_taking(head.tag) && (last || self.incoming.is_whole()) {
                    let reply = self.incoming.looked();
                    self.answer(head.tag, reply);
                    self.due_us = soon_us;
                }
            }
            Packet::Ack(ack) if self.out.is_active() && head.tag == self.out.tag() => {
                self.tries = 0;
                if ack.complete {
                    self.out.end();
                    self.due_us = now_us;
                } else {
                    self.out.granted(&ack);
                    self.due_us = soon_us;
                }
            }
            Packet::Abort(Reason::Withdrawn) => {
                if self.incoming.is_taking(head.tag) {
                    // Another one may be there.
                    self.incoming.pause();
                    (self.tries, self.due_us) = (0, now_us);
                }
            }
            Packet::Abort(reason) if self.out.is_active() && head.tag == self.out.tag() => {
                self.out.end();
                self.failure = Some(reason);
            }
            Packet::Ack(_) | Packet::Abort(_) | Packet::Poll => {}
        }
    }

    fn answer(&mut self, tag: u8, reply: Reply) {
        self.reply = match reply {
            Reply::Ack(ack) => Some((tag, self.granting(ack))),
            Reply::Abort(reason) => Some((tag, Packet::Abort(reason))),
            Reply::Full => None,
        };
    }

    fn granting(&self, ack: Ack) -> Packet<'static> {
        let credit = if ack.complete { 0 } else { self.pace.credit };
        Packet::Ack(Ack { credit, ..ack })
    }

    /// The next packet to send, if it is time for one.
    pub fn poll(&mut self, now_us: u64) -> Option<PacketBytes> {
        if now_us < self.next_us {
            return None;
        }
        let packet = self.next_packet(now_us)?;
        self.next_us = now_us.saturating_add(self.pace.packet_us);
        Some(packet)
    }

    fn next_packet(&mut self, now_us: u64) -> Option<PacketBytes> {
        let epoch = self.epoch;
        let down = Head {
            epoch,
            tag: self.incoming.tag(),
        };
        let up = Head {
            epoch,
            tag: self.out.tag(),
        };
        if let Some((tag, reply)) = self.reply.take() {
            return Some(reply.emit(Head { epoch, tag }));
        }
        if let Some(fragment) = self.out.fragment() {
            self.due_us = now_us.saturating_add(self.pace.reply_us);
            return Some(fragment.emit(up));
        }
        if now_us < self.due_us || self.incoming.receive().is_some() && !self.out.is_active() {
            return None;
        }
        if self.tries >= self.pace.tries {
            self.give_up(now_us);
            return None;
        }
        self.tries += 1;
        // Twice as long each time, up to the pause of who has nothing to do, which knows how many leaves there are:
        // what is lost to others is not helped by more of it. The epoch keeps leaves apart that were started together.
        let most_us = self.pace.poll_us.max(self.pace.reply_us);
        let wait_us = (self.pace.reply_us << (self.tries - 1).min(16)).min(most_us);
        let spread = self.epoch.wrapping_mul(37) ^ self.tries.wrapping_mul(29);
        let spread_us = wait_us / 32 * u64::from(spread % 32);
        self.due_us = now_us.saturating_add(wait_us).saturating_add(spread_us);
        if self.incoming.is_active() {
            return match self.incoming.looked() {
                Reply::Ack(ack) => Some(self.granting(ack).emit(down)),
                Reply::Abort(_) | Reply::Full => None,
            };
        }
        let question = self.out.offer().unwrap_or(Packet::Poll);
        Some(question.emit(up))
    }

    fn give_up(&mut self, now_us: u64) {
        if self.out.is_active() && !self.incoming.is_active() {
            self.out.end();
            self.failure = Some(Reason::Silent);
        }
        self.incoming.pause();
        (self.tries, self.due_us) = (0, now_us.saturating_add(self.pace.poll_us));
    }

    /// Time at which [`Leaf::poll`] has something to do.
    pub fn wake_us(&self) -> u64 {
        match self.reply.is_some() || self.out.is_sending() {
            true => self.next_us,
            false => self.next_us.max(self.due_us),
        }
    }
}
