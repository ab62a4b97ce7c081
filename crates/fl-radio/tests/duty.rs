//! The duty cycle against a ledger of every transmission.

use fl_radio::DutyCycle;
use proptest::prelude::*;

const WINDOW_US: u64 = 3_600_000_000;

/// Air time within `from..from + WINDOW_US`.
fn within(sent: &[(u64, u64)], from: u64) -> u64 {
    let overlap = |&(at, air): &(u64, u64)| {
        (at + air)
            .min(from + WINDOW_US)
            .saturating_sub(at.max(from))
    };
    sent.iter().map(overlap).sum()
}

proptest! {
    #[test]
    fn no_hour_wherever_it_begins_has_more_air_time_than_the_share(
        share_ppm in 1_000_u32..300_000,
        longest_us in 1_000_u64..3_000_000,
        wishes in proptest::collection::vec((0_u64..200_000_000, 1_u64..3_000_000), 1..300),
    ) {
        let Some(mut duty) = DutyCycle::new(share_ppm, WINDOW_US, longest_us) else {
            // Refused only where one packet is as much as an hour's share.
            prop_assert!(longest_us >= u64::from(share_ppm) * 3_600);
            return Ok(());
        };
        let (mut now_us, mut sent) = (0, Vec::new());
        for (pause_us, air_us) in wishes {
            let air_us = air_us.min(longest_us);
            now_us += pause_us;
            let ready_us = duty.ready_us(now_us, air_us).unwrap();
            if ready_us > now_us {
                prop_assert!(!duty.spend(now_us, air_us));
                // No earlier moment would do.
                prop_assert!(!duty.clone().spend(ready_us - 1, air_us));
            }
            prop_assert!(duty.spend(ready_us, air_us));
            sent.push((ready_us, air_us));
            now_us = ready_us + air_us;
        }
        let limit_us = WINDOW_US / 1_000_000 * u64::from(share_ppm);
        for &(at, air) in &sent {
            prop_assert!(within(&sent, at) <= limit_us);
            prop_assert!(within(&sent, (at + air).saturating_sub(WINDOW_US)) <= limit_us);
        }
    }
}

#[test]
fn a_sender_that_always_has_something_keeps_nine_tenths_of_its_share() {
    let mut duty = DutyCycle::new(10_000, WINDOW_US, 87_000).unwrap();
    let (mut now_us, mut air_us) = (0_u64, 0_u64);
    while now_us < 100 * WINDOW_US {
        now_us = duty.ready_us(now_us, 87_000).unwrap();
        assert!(duty.spend(now_us, 87_000));
        air_us += 87_000;
    }
    let share = air_us as f64 / now_us as f64;
    assert!((0.009..0.01).contains(&share), "{share}");
    assert_eq!(duty.pace_us(9), 1_000);
}

#[test]
fn a_packet_that_may_never_be_sent_is_refused() {
    assert_eq!(DutyCycle::new(100, 1_000_000, 200), None);
    let mut duty = DutyCycle::new(10_000, WINDOW_US, 87_000).unwrap();
    assert_eq!(duty.ready_us(0, 10_000_000), None);
    assert!(!duty.spend(u64::MAX, 10_000_000));
    assert_eq!(DutyCycle::free().ready_us(7, u64::MAX), Some(7));
}
