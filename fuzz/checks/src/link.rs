//! `links/<name>.toml` and `links/radio/<name>.toml`.

use crate::Verdict;
use std::time::Duration;
use zfl_netsim::profile::Profile;
use zfl_netsim::radio::RadioProfile;

pub(crate) fn check(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let parsed = Profile::parse(text, "input");
    if let Ok(profile) = &parsed {
        let link = &profile.link;
        link.check().expect("a link that was read can be used");
        let time = |bytes| link.transfer_time(bytes, bytes, 2);
        let (little, much) = (time(1), time(1 << 30));
        assert!(little.0 <= much.0 && little.1 <= much.1);
        assert_eq!(
            link.transfer_time(0, 0, 0),
            (Duration::ZERO, Duration::ZERO)
        );
    }
    if let Ok(radio) = RadioProfile::parse(text, "input") {
        let airtime_us = |octets| radio.modulation.airtime_us(octets);
        assert!(0 < airtime_us(1) && airtime_us(1) <= airtime_us(43));
        let mut duty = radio.duty().expect("a radio that was read can send");
        assert!(
            duty.spend(0, radio.frame_us()),
            "a packet may be sent at once"
        );
        return Verdict::Accepted;
    }
    Verdict::of(&parsed)
}
