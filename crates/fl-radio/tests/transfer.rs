//! Transfers over a medium that loses, doubles, reorders and damages packets, between ends that reboot.

use fl_radio::{Leaf, Name, Pace, PacketBytes, Reason, Station, TILE_BYTES, Taken};
use fl_rng::Xorshift32;
use proptest::prelude::*;

const MOST: usize = 4096;
const PACE: Pace = Pace {
    packet_us: 100_000,
    reply_us: 1_000_000,
    poll_us: 10_000_000,
    credit: 16,
    tries: 12,
};

/// Fates of packets, in percent.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    lost: u32,
    doubled: u32,
    late: u32,
    damaged: u32,
    /// Of either end, a thousandth a packet.
    reboot: u32,
}

/// A leaf, its station, and the packets between them.
struct Bench {
    leaf: Leaf<MOST>,
    station: Station<MOST>,
    random: Xorshift32,
    fate: Fate,
    now_us: u64,
    /// Time of arrival, true for those to the leaf.
    flying: Vec<(u64, bool, PacketBytes)>,
    sent: [u32; 2],
    boots: u8,
}

impl Bench {
    fn new(seed: u32, fate: Fate) -> Self {
        Self {
            leaf: Leaf::new(1, PACE, 0),
            station: Station::new(PACE.packet_us, PACE.credit),
            random: Xorshift32::new(seed | 1),
            fate,
            now_us: 0,
            flying: Vec::new(),
            sent: [0; 2],
            boots: 1,
        }
    }

    fn happens(&mut self, of: u32, among: u32) -> bool {
        self.random.next_u32() % among < of
    }

    fn fly(&mut self, to_leaf: bool, mut packet: PacketBytes) {
        self.sent[usize::from(to_leaf)] += 1;
        if self.happens(self.fate.lost, 100) {
            return;
        }
        if self.happens(self.fate.damaged, 100) {
            let bits = packet.len() as u32 * 8;
            for _ in 0..=self.random.next_u32() % 4 {
                let bit = self.random.next_u32() % bits;
                packet[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
        }
        let copies = 1 + u32::from(self.happens(self.fate.doubled, 100));
        for _ in 0..copies {
            let late = u64::from(self.happens(self.fate.late, 100));
            let at_us = self.now_us + 20_000 + late * u64::from(self.random.next_u32() % 3_000_000);
            self.flying.push((at_us, to_leaf, packet));
        }
    }

    /// One step of time: what has arrived, and what goes out.
    fn step(&mut self) {
        self.now_us += 20_000;
        let now_us = self.now_us;
        let (arrived, flying) = self.flying.drain(..).partition(|(at, ..)| *at <= now_us);
        self.flying = flying;
        let arrived: Vec<(u64, bool, PacketBytes)> = arrived;
        for (_, to_leaf, packet) in arrived {
            match to_leaf {
                true => self.leaf.on_packet(&packet, now_us),
                false => self.give_station(&packet),
            }
        }
        if let Some(packet) = self.leaf.poll(now_us) {
            self.fly(false, packet);
        }
        if let Some(packet) = self.station.poll(now_us) {
            self.fly(true, packet);
        }
    }

    /// A packet to the gateway, which serves nobody else.
    fn give_station(&mut self, packet: &[u8]) {
        if self.station.on_packet(packet, true) == Taken::Nothing {
            self.station.idle(5);
        }
    }

    fn reboot_leaf(&mut self) {
        self.boots = self.boots.wrapping_add(1);
        self.leaf = Leaf::new(self.boots, PACE, self.now_us);
    }

    fn reboot_station(&mut self) {
        self.station = Station::new(PACE.packet_us, PACE.credit);
    }
}

/// Octets that differ from place to place.
fn message(length: usize, seed: u32) -> Vec<u8> {
    let mut random = Xorshift32::new(seed | 1);
    (0..length).map(|_| random.next_u32() as u8).collect()
}

/// Sends messages up until each has come or was given up; every one that comes is one that was sent.
fn upwards(seed: u32, fate: Fate, lengths: &[usize]) -> Result<u32, TestCaseError> {
    let mut bench = Bench::new(seed, fate);
    let mut come = 0;
    for (index, &length) in lengths.iter().enumerate() {
        let (label, sent) = (index as u8, message(length, index as u32));
        bench.leaf.send(label, &sent, bench.now_us).unwrap();
        for _ in 0..200_000 {
            if bench.fate.reboot > 0 && bench.happens(bench.fate.reboot, 1000) {
                match bench.happens(1, 2) {
                    true => bench.reboot_station(),
                    false => {
                        bench.reboot_leaf();
                        bench.leaf.send(label, &sent, bench.now_us).unwrap();
                    }
                }
            }
            bench.step();
            if let Some((got_label, got)) = bench.station.receive() {
                let of = lengths.get(usize::from(got_label)).copied().unwrap_or(0);
                prop_assert_eq!(got, message(of, u32::from(got_label)));
                come += u32::from(got_label == label);
                bench.station.release();
            }
            if !bench.leaf.is_sending() {
                break;
            }
        }
        prop_assert!(!bench.leaf.is_sending(), "neither delivered nor given up");
    }
    Ok(come)
}

/// Sends messages down; every one that comes is one that was sent.
fn downwards(seed: u32, fate: Fate, lengths: &[usize]) -> Result<u32, TestCaseError> {
    let mut bench = Bench::new(seed, fate);
    let mut come = 0;
    for (index, &length) in lengths.iter().enumerate() {
        let (label, sent) = (index as u8, message(length, index as u32));
        bench.station.send(label, &sent).unwrap();
        for _ in 0..200_000 {
            if bench.fate.reboot > 0 && bench.happens(bench.fate.reboot, 1000) {
                match bench.random.next_u32() % 3 {
                    0 => bench.reboot_leaf(),
                    chance => {
                        match chance {
                            1 => bench.reboot_station(),
                            _ => bench.station.cancel(),
                        }
                        bench.station.send(label, &sent).unwrap();
                    }
                }
            }
            bench.step();
            if let Some((got_label, got)) = bench.leaf.receive() {
                let of = lengths.get(usize::from(got_label)).copied().unwrap_or(0);
                prop_assert_eq!(got, message(of, u32::from(got_label)));
                come += u32::from(got_label == label);
                bench.leaf.release();
            }
            if !bench.station.is_sending() {
                break;
            }
        }
        prop_assert!(!bench.station.is_sending(), "not delivered");
    }
    Ok(come)
}

fn fates(most: u32, reboot: u32) -> impl Strategy<Value = Fate> {
    (0..=most, 0..=most, 0..=most, 0..=most).prop_map(move |(lost, doubled, late, damaged)| Fate {
        lost,
        doubled,
        late,
        damaged,
        reboot,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_comes_up_is_what_was_sent_whatever_the_medium_does(
        seed: u32, fate in fates(25, 0), lengths in proptest::collection::vec(1..MOST, 1..3),
    ) {
        prop_assert!(upwards(seed, fate, &lengths)? <= lengths.len() as u32);
    }

    #[test]
    fn what_comes_down_is_what_was_sent_whatever_the_medium_does(
        seed: u32, fate in fates(25, 0), lengths in proptest::collection::vec(1..MOST, 1..6),
    ) {
        prop_assert_eq!(downwards(seed, fate, &lengths)?, lengths.len() as u32);
    }

    #[test]
    fn reboots_of_either_end_deliver_late_or_twice_but_nothing_wrong(
        seed: u32, fate in fates(10, 2), lengths in proptest::collection::vec(1..1500_usize, 1..3),
    ) {
        upwards(seed, fate, &lengths)?;
        downwards(seed, fate, &lengths)?;
    }

    #[test]
    fn any_packets_at_all_are_taken_without_a_wrong_message(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..40),
    ) {
        let mut bench = Bench::new(1, Fate::default());
        for packet in packets {
            bench.leaf.on_packet(&packet, bench.now_us);
            bench.give_station(&packet);
            bench.step();
        }
        prop_assert!(bench.leaf.receive().is_none() && bench.station.receive().is_none());
    }
}

#[test]
fn without_loss_a_message_costs_its_tiles_and_an_answer_a_grant() {
    for length in [1, TILE_BYTES, TILE_BYTES + 1, 16 * TILE_BYTES, 1210 + 250] {
        let mut bench = Bench::new(1, Fate::default());
        bench.leaf.send(0, &message(length, 0), 0).unwrap();
        while bench.leaf.is_sending() {
            bench.step();
        }
        let tiles = length.div_ceil(TILE_BYTES) as u32;
        let grants = tiles.div_ceil(16);
        assert_eq!(bench.sent, [1 + tiles, 1 + grants], "{length} octets");
    }
}

#[test]
fn a_transfer_goes_on_where_a_reboot_of_the_sender_broke_it_off() {
    let sent = message(1000, 7);
    let mut bench = Bench::new(1, Fate::default());
    bench.leaf.send(0, &sent, 0).unwrap();
    while bench.sent[0] < 21 {
        bench.step();
    }
    bench.reboot_leaf();
    bench.leaf.send(0, &sent, bench.now_us).unwrap();
    while bench.leaf.is_sending() {
        bench.step();
    }
    assert_eq!(bench.station.receive().unwrap().1, sent);
    // 39 tiles; two offers and what was in the air come on top.
    assert!(bench.sent[0] <= 39 + 2 + 2, "{}", bench.sent[0]);
}

#[test]
fn a_late_offer_of_the_last_message_does_not_complete_the_next() {
    let (first, second) = (message(20, 1), message(2000, 2));
    let mut bench = Bench::new(1, Fate::default());
    bench.station.send(1, &first).unwrap();
    let mut offer = None;
    while bench.station.is_sending() {
        bench.step();
        let down = bench.flying.iter().find(|(_, to_leaf, _)| *to_leaf);
        offer = offer.or(down.map(|(.., packet)| *packet));
    }
    assert_eq!(bench.leaf.receive(), Some((1, &*first)));
    bench.leaf.release();
    bench.station.send(2, &second).unwrap();
    while bench.leaf.tiles_received() < 10 {
        bench.step();
    }
    bench.leaf.on_packet(&offer.unwrap(), bench.now_us);
    while bench.station.is_sending() {
        bench.step();
    }
    assert_eq!(bench.leaf.receive(), Some((2, &*second)));
}

#[test]
fn a_leaf_in_the_middle_of_a_message_that_is_withdrawn_gets_the_next_one() {
    let second = message(1500, 2);
    let mut bench = Bench::new(1, Fate::default());
    bench.station.send(1, &message(2000, 1)).unwrap();
    while bench.leaf.tiles_received() < 10 {
        bench.step();
    }
    bench.station.cancel();
    // Until the leaf has asked for the rest of it in vain.
    (0..500).for_each(|_| bench.step());
    bench.station.send(2, &second).unwrap();
    (0..2_000).for_each(|_| bench.step());
    assert_eq!(bench.leaf.receive(), Some((2, &*second)));
    assert!(!bench.station.is_sending());
}

#[test]
fn a_message_that_cannot_be_taken_is_refused_with_the_reason() {
    let mut leaf = Leaf::<MOST>::new(1, PACE, 0);
    let mut station = Station::<1024>::new(PACE.packet_us, PACE.credit);
    leaf.send(0, &message(2000, 1), 0).unwrap();
    let offer = leaf.poll(0).unwrap();
    assert_eq!(station.on_packet(&offer, true), Taken::Served);
    leaf.on_packet(&station.poll(0).unwrap(), 0);
    assert_eq!(leaf.failure(), Some(Reason::TooLong));
    assert!(!leaf.is_sending());
}

#[test]
fn a_leaf_that_hears_nothing_gives_up_and_asks_again_later() {
    let mut leaf = Leaf::<MOST>::new(1, PACE, 0);
    leaf.send(0, b"update", 0).unwrap();
    let mut questions = 0;
    let mut now_us = 0;
    while leaf.is_sending() {
        now_us = leaf.wake_us();
        questions += u32::from(leaf.poll(now_us).is_some());
    }
    assert_eq!(questions, u32::from(PACE.tries));
    assert_eq!(leaf.failure(), Some(Reason::Silent));
    assert_eq!(leaf.wake_us(), now_us + PACE.poll_us);
}

#[test]
fn a_gateway_that_serves_another_leaf_puts_it_off() {
    let mut bench = Bench::new(1, Fate::default());
    bench.leaf.send(0, b"update", 0).unwrap();
    let offer = bench.leaf.poll(0).unwrap();
    assert_eq!(bench.station.on_packet(&offer, false), Taken::PutOff);
    bench.station.idle(30);
    let idle = bench.station.poll(0).unwrap();
    bench.leaf.on_packet(&idle, 0);
    assert_eq!(bench.leaf.wake_us(), 3_000_000);
    assert!(bench.leaf.is_sending() && Name::of(b"update").is_some());
    // A call comes before the pause is over.
    bench.station.call();
    let call = bench.station.poll(PACE.packet_us).unwrap();
    bench.leaf.on_packet(&call, PACE.packet_us);
    assert_eq!(bench.leaf.poll(PACE.packet_us), Some(offer));
}

#[test]
fn what_is_left_of_a_life_that_is_over_comes_to_nothing_and_the_next_life_is_heard() {
    let update = message(1500, 1);
    let mut bench = Bench::new(
        1,
        Fate {
            doubled: 50,
            late: 50,
            ..Fate::default()
        },
    );
    bench.leaf.send(1, &update, 0).unwrap();
    while bench.station.receive().is_none() {
        bench.step();
    }
    bench.station.send(2, &update).unwrap();
    bench.station.end_life();
    assert!(bench.station.receive().is_none() && !bench.station.is_sending());
    // It goes on for a while, in the air.
    bench.leaf.send(3, &update, bench.now_us).ok();
    (0..2_000).for_each(|_| bench.step());
    assert!(bench.station.receive().is_none() && !bench.station.is_busy());
    assert_eq!(bench.station.wake_us(), None);
    bench.leaf = Leaf::new(2, PACE, bench.now_us);
    bench.leaf.send(4, &update, bench.now_us).unwrap();
    (0..2_000).for_each(|_| bench.step());
    assert_eq!(bench.station.receive(), Some((4, &*update)));
}
