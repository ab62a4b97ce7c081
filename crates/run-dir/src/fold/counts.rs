//! What devices count since their boot, as counts of the whole run.

use fl_proto::Cost;

/// What a device counts, and begins anew at each boot. What is missing is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// HTTP bytes received.
    pub bytes_received: Option<u64>,
    /// HTTP bytes sent.
    pub bytes_sent: Option<u64>,
    /// TCP segments sent.
    pub segments_sent: Option<u64>,
    /// TCP segments received.
    pub segments_received: Option<u64>,
    /// TCP segments sent again.
    pub retransmissions: Option<u64>,
}

impl From<&Cost> for Counts {
    fn from(cost: &Cost) -> Self {
        Self {
            bytes_received: Some(cost.bytes_received),
            bytes_sent: Some(cost.bytes_sent),
            segments_sent: cost.segments_sent.map(u64::from),
            segments_received: cost.segments_received.map(u64::from),
            retransmissions: cost.retransmissions.map(u64::from),
        }
    }
}

impl Counts {
    fn each(self) -> [Option<u64>; 5] {
        [
            self.bytes_received,
            self.bytes_sent,
            self.segments_sent,
            self.segments_received,
            self.retransmissions,
        ]
    }

    fn map(self, other: Self, of: impl Fn(Option<u64>, Option<u64>) -> Option<u64>) -> Self {
        Self {
            bytes_received: of(self.bytes_received, other.bytes_received),
            bytes_sent: of(self.bytes_sent, other.bytes_sent),
            segments_sent: of(self.segments_sent, other.segments_sent),
            segments_received: of(self.segments_received, other.segments_received),
            retransmissions: of(self.retransmissions, other.retransmissions),
        }
    }
}

/// The counts of one device over all its boots, of each as far as its last update.
///
/// A boot is a new one if any count has fallen, or if the boot took another time: boots of the same
/// length and counts that happen to be higher than before both occur, though hardly at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinceBoot {
    total: Counts,
    /// Of this boot, at the last update that told of them.
    last: Counts,
    boot_ms: Option<u64>,
}

impl SinceBoot {
    /// Takes in what came with an update; returns by how much each count grew since the update before,
    /// or since the boot if that was later.
    ///
    /// `boot_ms`: how long the device's last boot took, where somebody knows.
    pub fn grow(&mut self, boot_ms: Option<u64>, now: Counts) -> Counts {
        if self.is_another_boot(boot_ms, now) {
            self.last = Counts::default();
        }
        let grown = now.map(self.last, |now, last| {
            Some(now?.saturating_sub(last.unwrap_or(0)))
        });
        self.total = self.total.map(grown, |total, more| match (total, more) {
            (Some(total), Some(more)) => Some(total.saturating_add(more)),
            (total, more) => total.or(more),
        });
        self.last = now.map(self.last, Option::or);
        self.boot_ms = boot_ms.or(self.boot_ms);
        grown
    }

    /// Of all boots.
    pub fn total(&self) -> Counts {
        self.total
    }

    fn is_another_boot(&self, boot_ms: Option<u64>, now: Counts) -> bool {
        let took_longer = boot_ms.is_some() && self.boot_ms.is_some() && boot_ms != self.boot_ms;
        let mut both = now.each().into_iter().zip(self.last.each());
        took_longer || both.any(|(now, last)| now.is_some_and(|now| last > Some(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sent: u64, received: u64, again: u64) -> Counts {
        Counts {
            segments_sent: Some(sent),
            segments_received: Some(received),
            retransmissions: Some(again),
            ..Counts::default()
        }
    }

    #[test]
    fn a_count_that_falls_is_another_boot() {
        let mut device = SinceBoot::default();
        let again = |n| Counts {
            retransmissions: Some(n),
            ..Counts::default()
        };
        let grown = [1, 2, 1, 1, 14].map(|n| device.grow(None, again(n)).retransmissions);
        assert_eq!(grown, [1, 1, 1, 0, 13].map(Some));
        assert_eq!(device.total(), again(16));
    }

    #[test]
    fn boots_of_all_lengths_are_told_apart() {
        let mut device = SinceBoot::default();
        let mut add = |boot_ms, now| {
            device.grow(Some(boot_ms), now);
            device.total()
        };
        assert_eq!(add(40, counts(10, 20, 0)), counts(10, 20, 0));
        assert_eq!(add(40, counts(15, 30, 1)), counts(15, 30, 1));
        // None has fallen, and the boot is another.
        assert_eq!(add(41, counts(16, 30, 1)), counts(31, 60, 2));
        // One has fallen, and the boot was as long.
        assert_eq!(add(41, counts(17, 29, 1)), counts(48, 89, 3));
        assert_eq!(add(41, counts(20, 40, 1)), counts(51, 100, 3));
    }

    #[test]
    fn an_update_that_tells_nothing_changes_nothing() {
        let mut device = SinceBoot::default();
        device.grow(Some(40), counts(10, 20, 3));
        assert_eq!(device.grow(None, Counts::default()), Counts::default());
        assert_eq!(device.total(), counts(10, 20, 3));
        assert_eq!(device.grow(Some(40), counts(12, 20, 3)), counts(2, 0, 0));
        assert_eq!(SinceBoot::default().total(), Counts::default());
    }
}
