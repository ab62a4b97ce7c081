//! Packets of a radio, to a leaf, to its gateway, and as octets to the mesh below them.

use crate::Verdict;
use crc::{CRC_16_IBM_3740, Crc};
use fl_radio::{
    Ack, Head, Leaf, Name, PACKET_BYTES, Pace, Packet, PacketBytes, Router, Station, Taken,
};
use std::num::NonZeroU8;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_3740);
const MOST: usize = 2048;
const EPOCH: u8 = 1;
const PACE: Pace = Pace {
    packet_us: 1_000,
    reply_us: 10_000,
    poll_us: 100_000,
    credit: 16,
    tries: 4,
};
/// To the leaf; else to its gateway.
const TO_LEAF: u8 = 1;
/// With a right checksum, whatever it says: no fuzzer guesses one.
const SEALED: u8 = 2;

/// The input is records of 33 octets: flags and a packet.
pub(crate) fn check(input: &[u8]) -> Verdict {
    let mut leaf = Leaf::<MOST>::new(EPOCH, PACE, 0);
    let mut station = Station::<MOST>::new(PACE.packet_us, PACE.credit);
    let sent = [0x5a; 300];
    leaf.send(1, &sent, 0).expect("room for a message");
    station.send(2, &sent).expect("room for a message");
    let mut accepted = 0;
    let (records, _) = input.as_chunks::<{ 1 + PACKET_BYTES }>();
    for ([flags, packet @ ..], now_us) in records.iter().zip((0..).step_by(1_500)) {
        let mut packet: PacketBytes = *packet;
        if flags & SEALED != 0 {
            let (content, checksum) = packet.split_at_mut(PACKET_BYTES - 2);
            checksum.copy_from_slice(&CRC.checksum(content).to_be_bytes());
        }
        accepted += u32::from(reads(&packet));
        match flags & TO_LEAF != 0 {
            true => leaf.on_packet(&packet, now_us),
            false => match station.on_packet(&packet, flags & 4 == 0) {
                Taken::Foreign | Taken::Served => {}
                Taken::Nothing => station.idle(1),
                Taken::PutOff => station.call(),
            },
        }
        for emitted in [leaf.poll(now_us), station.poll(now_us)]
            .into_iter()
            .flatten()
        {
            assert!(reads(&emitted), "what is sent can be read");
        }
        for (_, message) in [leaf.receive(), station.receive()].into_iter().flatten() {
            assert!(message.len() <= MOST && Name::of(message).is_some());
        }
        leaf.release();
        station.release();
    }
    let mut node = Router::new(NonZeroU8::MIN, 1);
    for (octets, now_ms) in input.chunks(7).zip(0..) {
        node.update(octets, now_ms);
    }
    match accepted {
        0 => Verdict::Refused,
        _ => Verdict::Accepted,
    }
}

/// Reads a packet; one that can be read is written as it was read.
fn reads(bytes: &[u8]) -> bool {
    let Some((head, packet)) = Packet::parse(bytes) else {
        return false;
    };
    assert_eq!(Packet::parse(&packet.emit(head)), Some((head, packet)));
    true
}

/// Seeds: a transfer each way, and packets that nobody would send.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let name = Name::of(b"a message of two tiles, with zeros").expect("a name");
    let head = Head {
        epoch: EPOCH,
        tag: 1,
    };
    let record = |flags: u8, packet: Packet<'_>| [&[flags][..], &packet.emit(head)].concat();
    let offer = Packet::Offer { name, label: 3 };
    let tile = |tile, octets| Packet::Fragment {
        tile,
        last: tile == 1,
        octets,
    };
    let all = Packet::Ack(Ack {
        credit: 127,
        ..Ack::default()
    });
    let complete = Packet::Ack(Ack {
        complete: true,
        ..Ack::default()
    });
    let up = [
        record(0, Packet::Poll),
        record(0, offer),
        record(0, tile(0, b"a message of two tiles, wi")),
        record(0, tile(1, b"th zeros")),
        record(0, all),
    ];
    let down = [
        record(TO_LEAF, all),
        record(TO_LEAF, offer),
        record(TO_LEAF, tile(1, b"th zeros")),
        record(TO_LEAF, complete),
    ];
    let huge = Name {
        length: 0x00ff_ffff,
        crc: 0,
    };
    let hostile = [
        record(
            0,
            Packet::Offer {
                name: huge,
                label: 0,
            },
        ),
        record(TO_LEAF, tile(0x0fff, &[0xff; 26])),
        record(
            TO_LEAF,
            Packet::Ack(Ack {
                credit: 127,
                window: 255,
                ..Ack::default()
            }),
        ),
        record(TO_LEAF, Packet::Idle { wait_ds: u16::MAX }),
    ];
    let torn = up.concat()[..40].to_vec();
    vec![
        ("valid-up", up.concat()),
        ("valid-down", down.concat()),
        ("hostile-places", hostile.concat()),
        ("torn-offer", torn),
    ]
}
