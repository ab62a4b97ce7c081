//! Addresses of a bridged fleet, from ranges that no real network has, in parts of a bridge each.

use std::net::Ipv4Addr;

/// The bridge's range: the aggregator has the first address, device `index` the one `index` after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    network: Ipv4Addr,
    pub(crate) prefix: u8,
}

/// For documentation (RFC 5737): 253 devices.
const SMALL: Subnet = Subnet {
    network: Ipv4Addr::new(192, 0, 2, 0),
    prefix: 24,
};

/// For benchmarks of networks (RFC 2544): 131,069 devices.
const LARGE: Subnet = Subnet {
    network: Ipv4Addr::new(198, 18, 0, 0),
    prefix: 15,
};

/// Prefix of a part: with fewer addresses than the 1,023 ports that a Linux bridge has.
const PART_PREFIX: u8 = 24;

/// Addresses of a part.
const PART: usize = 1 << (32 - PART_PREFIX);

impl Subnet {
    /// A range with room for so many devices; `None` if there is none.
    pub(crate) fn for_devices(devices: usize) -> Option<Self> {
        [SMALL, LARGE]
            .into_iter()
            .find(|subnet| devices <= subnet.capacity())
    }

    /// Without the network's own address, the broadcast address, and the aggregator's.
    fn capacity(self) -> usize {
        (1 << (32 - self.prefix)) - 3
    }

    /// Number of the part that device `index` is in.
    pub(crate) fn part_of(self, index: usize) -> usize {
        (index + 2) / PART
    }

    /// First address and prefix of a part; the first part has the aggregator.
    pub(crate) fn part(self, number: usize) -> (Ipv4Addr, u8) {
        let first = u32::try_from(number * PART).expect("a part of the range");
        (self.host(first), PART_PREFIX)
    }

    pub(crate) fn server(self) -> Ipv4Addr {
        self.host(1)
    }

    /// `index` counts from 0 and is below the number of devices that the range was chosen for.
    pub(crate) fn device(self, index: usize) -> Ipv4Addr {
        assert!(index < self.capacity(), "no address for device {index}");
        self.host(u32::try_from(index).expect("below the capacity") + 2)
    }

    fn host(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fleet_is_in_the_documentation_range() {
        let subnet = Subnet::for_devices(253).unwrap();
        assert_eq!(subnet.prefix, 24);
        assert_eq!(subnet.server(), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(subnet.device(0), Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(subnet.device(252), Ipv4Addr::new(192, 0, 2, 254));
    }

    #[test]
    fn a_large_fleet_gets_a_larger_range() {
        let subnet = Subnet::for_devices(254).unwrap();
        assert_eq!(subnet.prefix, 15);
        assert_eq!(subnet.device(254), Ipv4Addr::new(198, 18, 1, 0));
        assert_eq!(subnet.device(131_068), Ipv4Addr::new(198, 19, 255, 254));
    }

    #[test]
    fn every_device_is_in_the_part_that_has_its_address() {
        let subnet = Subnet::for_devices(3000).unwrap();
        assert_eq!(subnet.part(3), (Ipv4Addr::new(198, 18, 3, 0), 24));
        for index in 0..3000 {
            let (first, prefix) = subnet.part(subnet.part_of(index));
            let mask = u32::MAX << (32 - prefix);
            assert_eq!(subnet.device(index).to_bits() & mask, first.to_bits());
        }
        let small = Subnet::for_devices(253).unwrap();
        assert_eq!(small.part_of(252), 0, "one bridge is enough");
    }

    #[test]
    fn there_is_an_end() {
        assert_eq!(Subnet::for_devices(131_070), None);
    }

    #[test]
    #[should_panic(expected = "no address")]
    fn the_broadcast_address_is_no_device() {
        SMALL.device(253);
    }
}
