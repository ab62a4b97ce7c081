//! The gateway's end of a transfer, one for each leaf: it answers, and calls when there is something to ask for.

use crate::incoming::{Incoming, Reply};
use crate::outgoing::{Outgoing, SendError};
use crate::packet::{Ack, Head, Packet, PacketBytes, Reason};

/// Outcome of a packet from a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// None of this leaf, or of a life of it that is over.
    Foreign,
    /// Taken in, with an answer or without.
    Served,
    /// There is nothing for the leaf: it needs a pause.
    Nothing,
    /// It is not its turn: it needs a pause.
    PutOff,
}

/// The gateway's end of one leaf, for messages of at most `N` octets each way.
#[derive(Clone, Debug)]
pub struct Station<const N: usize> {
    epoch: Option<u8>,
    /// Life of the leaf that is over: what is left of it in the air comes to nothing.
    over: Option<u8>,
    packet_us: u64,
    credit: u8,
    out: Outgoing<N>,
    incoming: Incoming<N>,
    /// Answer to send, and the tag of its message.
    reply: Option<(u8, Packet<'static>)>,
    next_us: u64,
    failure: Option<Reason>,
}

impl<const N: usize> Station<N> {
    /// A gateway that has not heard of its leaf, with the time from packet to packet and the tiles that it
    /// grants at a time.
    pub const fn new(packet_us: u64, credit: u8) -> Self {
        Self {
            epoch: None,
            over: None,
            packet_us,
            credit,
            out: Outgoing::new(),
            incoming: Incoming::new(),
            reply: None,
            next_us: 0,
            failure: None,
        }
    }

    /// Gives it a message for the leaf, which comes and gets it.
    ///
    /// # Errors
    /// If it does not fit, or the last one is still under way.
    pub fn send(&mut self, label: u8, message: &[u8]) -> Result<(), SendError> {
        self.failure = None;
        self.out.send(label, message)
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

    /// Ends the life of the leaf that was heard last: drops what came from it and what is on its way to it, and takes
    /// nothing more of that life.
    pub fn end_life(&mut self) {
        self.out.end();
        self.incoming.renew();
        self.incoming.release();
        self.reply = None;
        self.over = self.epoch;
    }

    /// Reason for which the leaf refused the last message, once.
    pub fn failure(&mut self) -> Option<Reason> {
        self.failure.take()
    }

    /// The message that has come, with its mark; it stays until [`Station::release`].
    pub fn receive(&self) -> Option<(u8, &[u8])> {
        self.incoming.receive()
    }

    /// Makes room for the next message.
    pub fn release(&mut self) {
        self.incoming.release();
    }

    /// Epoch of the leaf as last heard: another one is another life of it.
    pub fn epoch(&self) -> Option<u8> {
        self.epoch
    }

    /// True while tiles are on their way, in either direction.
    pub fn is_busy(&self) -> bool {
        self.incoming.is_active() || self.out.is_sending()
    }

    /// Takes in a packet of the leaf. One that begins or goes on with a transfer is put off if the gateway
    /// is not `free` for it.
    pub fn on_packet(&mut self, bytes: &[u8], free: bool) -> Taken {
        let Some((head, packet)) = Packet::parse(bytes) else {
            return Taken::Foreign;
        };
        if self.over == Some(head.epoch) {
            return Taken::Foreign;
        }
        if self.epoch.replace(head.epoch) != Some(head.epoch) {
            self.incoming.renew();
            self.reply = None;
        }
        match packet {
            Packet::Poll => match self.out.offer() {
                None => return Taken::Nothing,
                Some(_) if !free => return Taken::PutOff,
                Some(offer) => self.reply = Some((self.out.tag(), offer)),
            },
            Packet::Offer { .. } if !free => return Taken::PutOff,
            Packet::Offer { name, label } => {
                self.reply = match self.incoming.offered(head.tag, name, label) {
                    Reply::Full => return Taken::Nothing,
                    reply => self.answer(head.tag, reply),
                };
            }
            Packet::Fragment { tile, last, octets } => {
                self.incoming.fragment(head.tag, tile, octets);
                if self.incoming.is_taking(head.tag) && (last || self.incoming.is_whole()) {
                    let reply = self.incoming.looked();
                    self.reply = self.answer(head.tag, reply);
                }
            }
            Packet::Ack(ack) if self.out.is_active() && head.tag == self.out.tag() => {
                if ack.complete {
                    self.out.end();
                } else if free {
                    self.out.granted(&ack);
                } else {
                    return Taken::PutOff;
                }
            }
            Packet::Abort(reason) if self.out.is_active() && head.tag == self.out.tag() => {
                self.out.end();
                self.failure = Some(reason);
            }
            // It asks for a message that there is no more.
            Packet::Ack(ack) if !ack.complete => {
                self.reply = Some((head.tag, Packet::Abort(Reason::Withdrawn)));
            }
            Packet::Ack(_) | Packet::Abort(_) | Packet::Idle { .. } => {}
        }
        Taken::Served
    }

    /// Tells the leaf to come back after a pause, in tenths of a second.
    pub fn idle(&mut self, wait_ds: u16) {
        self.reply = Some((0, Packet::Idle { wait_ds }));
    }

    /// Calls the leaf: with what there is for it, or to ask at once.
    pub fn call(&mut self) {
        if self.reply.is_none() {
            let offer = self.out.offer().map(|offer| (self.out.tag(), offer));
            self.reply = offer.or(Some((0, Packet::Idle { wait_ds: 0 })));
        }
    }

    /// True if it has something to say that is no tile.
    pub fn has_reply(&self) -> bool {
        self.reply.is_some()
    }

    fn answer(&self, tag: u8, reply: Reply) -> Option<(u8, Packet<'static>)> {
        match reply {
            Reply::Ack(ack) => {
                let credit = if ack.complete { 0 } else { self.credit };
                Some((tag, Packet::Ack(Ack { credit, ..ack })))
            }
            Reply::Abort(reason) => Some((tag, Packet::Abort(reason))),
            Reply::Full => None,
        }
    }

    /// Stops waiting for the rest of a message: its leaf has fallen silent. What has come stays.
    pub fn pause(&mut self) {
        self.incoming.pause();
    }

    /// The next packet to send, if it is time for one.
    pub fn poll(&mut self, now_us: u64) -> Option<PacketBytes> {
        let epoch = self.epoch.filter(|_| now_us >= self.next_us)?;
        let tag = self.out.tag();
        let packet = match self.reply.take() {
            Some((tag, reply)) => reply.emit(Head { epoch, tag }),
            None => self.out.fragment()?.emit(Head { epoch, tag }),
        };
        self.next_us = now_us.saturating_add(self.packet_us);
        Some(packet)
    }

    /// Time at which [`Station::poll`] has something to send; `None`: when something was heard.
    pub fn wake_us(&self) -> Option<u64> {
        (self.reply.is_some() || self.out.is_sending()).then_some(self.next_us)
    }
}
