//! The gateway's side of a mesh: a station for each leaf, of which one at a time has the air.

use fl_radio::{PacketBytes, Station};

use super::mesh::{MESSAGE_BYTES, Times};

/// Stations by leaf, and whose turn it is.
#[derive(Debug)]
pub(super) struct Gateway {
    pub stations: Vec<Station<MESSAGE_BYTES>>,
    /// Hops that the last packet of each leaf took, and the sum and number of all.
    pub hops: Vec<(u64, u64)>,
    serves: Option<(usize, u64)>,
    /// Leaves that are told to come back soon, since something is on its way to them.
    pub soon: Vec<bool>,
    /// Tiles that came more than once are not told apart; questions that had to wait are.
    pub put_off: u64,
}

impl Gateway {
    pub fn new(leaves: usize, times: &Times) -> Self {
        let station = |_| Station::new(times.packet_us, times.credit);
        Self {
            stations: (0..leaves).map(station).collect(),
            hops: vec![(0, 0); leaves],
            serves: None,
            soon: vec![false; leaves],
            put_off: 0,
        }
    }

    /// Takes in a packet of a leaf.
    pub fn on_packet(
        &mut self,
        leaf: usize,
        hops: u8,
        packet: &PacketBytes,
        now_us: u64,
        times: &Times,
    ) {
        let Some(station) = self.stations.get_mut(leaf) else {
            return;
        };
        let others = self
            .serves
            .filter(|(other, until_us)| *other != leaf && *until_us > now_us);
        let free = others.is_none();
        // Leaves that are put off come back one after the other.
        let wait_us = match (free, self.soon[leaf]) {
            (true, true) => times.packet_us,
            (true, false) => times.poll_us,
            (false, _) => times.burst_us() + leaf as u64 % 16 * times.packet_us * 4,
        };
        self.put_off += u64::from(!free);
        let wait_ds = u16::try_from(wait_us.div_ceil(100_000)).unwrap_or(u16::MAX);
        if !station.on_packet(packet, free, wait_ds) {
            return;
        }
        let (sum, count) = &mut self.hops[leaf];
        (*sum, *count) = (*sum + u64::from(hops), *count + 1);
        if free {
            let goes_on = station.is_busy() || station.is_sending();
            self.serves = goes_on.then_some((leaf, now_us + times.burst_us()));
        }
    }

    /// The packets that it is time for, by leaf.
    pub fn poll(&mut self, now_us: u64) -> impl Iterator<Item = (usize, PacketBytes)> {
        let stations = self.stations.iter_mut().enumerate();
        stations.filter_map(move |(leaf, station)| Some((leaf, station.poll(now_us)?)))
    }

    pub fn wake_us(&self) -> u64 {
        let times = self.stations.iter().filter_map(Station::wake_us);
        times.min().unwrap_or(u64::MAX)
    }
}
