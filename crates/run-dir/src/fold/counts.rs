//! The counts that a device makes since its boot, as counts of its rounds.

use crate::metric::{Id, Values};

const BOOT_MS: Id = Id::of("boot_ms");

/// The counts of one device at its last update.
///
/// A boot is a new one if any count has fallen, or if the boot took another time: boots of the same
/// length and counts that happen to be higher than before both occur, though hardly at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinceBoot {
    /// Counts of this boot, at the last update that told of them.
    last: Option<Box<Values>>,
    boot_ms: Option<f64>,
}

impl SinceBoot {
    /// Makes the counts of an update those of its round: by how much each grew since the update before,
    /// or since the boot if that was later.
    pub fn grow(&mut self, update: &mut Values) {
        let boot_ms = update.get(BOOT_MS);
        if self.is_another_boot(boot_ms, update) {
            self.last = None;
        }
        for count in counts() {
            let Some(now) = update.get(count) else {
                continue;
            };
            let last = self.last.get_or_insert_default();
            let before = last.get(count).unwrap_or(0.0);
            update.set(count, Some((now - before).max(0.0)));
            last.set(count, Some(now));
        }
        self.boot_ms = boot_ms.or(self.boot_ms);
    }

    fn is_another_boot(&self, boot_ms: Option<f64>, now: &Values) -> bool {
        let took_longer = boot_ms.is_some() && self.boot_ms.is_some() && boot_ms != self.boot_ms;
        let last = |count| self.last.as_ref()?.get(count);
        let has_fallen = |count| now.get(count).is_some_and(|now| last(count) > Some(now));
        took_longer || counts().any(has_fallen)
    }
}

fn counts() -> impl Iterator<Item = Id> {
    Id::all().filter(|metric| metric.metric().since_boot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Totals;

    const COUNTS: [Id; 3] = [
        Id::of("segments_sent"),
        Id::of("segments_received"),
        Id::of("retransmissions"),
    ];

    #[derive(Default)]
    struct Device {
        counts: SinceBoot,
        totals: Totals,
    }

    impl Device {
        /// Takes in an update; returns what its counts grew by, and their sums.
        fn grow(&mut self, boot_ms: Option<u32>, now: [Option<u32>; 3]) -> [[Option<f64>; 3]; 2] {
            let mut update = Values::default();
            update.set(BOOT_MS, boot_ms.map(f64::from));
            for (count, now) in COUNTS.into_iter().zip(now) {
                update.set(count, now.map(f64::from));
            }
            self.counts.grow(&mut update);
            self.totals.add(&update);
            [
                COUNTS.map(|count| update.get(count)),
                COUNTS.map(|count| self.totals.over_rounds(count)),
            ]
        }
    }

    #[test]
    fn a_count_that_falls_is_another_boot() {
        let mut device = Device::default();
        let told = [1, 2, 1, 1, 14].map(|again| device.grow(None, [None, None, Some(again)]));
        assert_eq!(
            told.map(|[grown, _]| grown[2]),
            [1.0, 1.0, 1.0, 0.0, 13.0].map(Some)
        );
        assert_eq!(told[4][1], [None, None, Some(16.0)]);
    }

    #[test]
    fn boots_of_all_lengths_are_told_apart() {
        let mut device = Device::default();
        let mut total = |boot_ms, now: [u32; 3]| device.grow(Some(boot_ms), now.map(Some))[1];
        assert_eq!(total(40, [10, 20, 0]), [10.0, 20.0, 0.0].map(Some));
        assert_eq!(total(40, [15, 30, 1]), [15.0, 30.0, 1.0].map(Some));
        // None has fallen, and the boot is another.
        assert_eq!(total(41, [16, 30, 1]), [31.0, 60.0, 2.0].map(Some));
        // One has fallen, and the boot was as long.
        assert_eq!(total(41, [17, 29, 1]), [48.0, 89.0, 3.0].map(Some));
        assert_eq!(total(41, [20, 40, 1]), [51.0, 100.0, 3.0].map(Some));
    }

    #[test]
    fn an_update_that_tells_nothing_changes_nothing() {
        let mut device = Device::default();
        device.grow(Some(40), [10, 20, 3].map(Some));
        let [grown, total] = device.grow(None, [None; 3]);
        assert_eq!((grown, total), ([None; 3], [10.0, 20.0, 3.0].map(Some)));
        let [grown, _] = device.grow(Some(40), [12, 20, 3].map(Some));
        assert_eq!(grown, [2.0, 0.0, 0.0].map(Some));
    }
}
