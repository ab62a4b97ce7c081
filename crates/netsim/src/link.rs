//! A device's link as it is asked for: rate, queue, delay, jitter, loss, duplicates and bit errors,
//! with a check that there can be such a link.

use std::time::Duration;

/// The longest frame that passes: an Ethernet header with a VLAN tag and 1,500 bytes of payload.
pub const MAX_FRAME_BYTES: usize = 1518;

/// Direction of a frame through a device's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the device.
    Uplink,
    /// To the device.
    Downlink,
}

/// The link between a device and the switch. The default is perfect: no loss, no delay, no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// From the device.
    pub uplink: Impairment,
    /// To the device.
    pub downlink: Impairment,
}

/// Impairment of one direction of a link. In this order frames queue for the rate, are sent,
/// and are then lost, or delayed, duplicated and corrupted. A lost frame has used its share of the
/// rate, as it has in the air.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Frames that vanish.
    pub loss: Loss,
    /// From the end of a frame's transmission to its arrival.
    pub delay: Duration,
    /// Added to the delay: uniform in ±`jitter`. It must not exceed `delay`.
    ///
    /// Where order is kept, a frame waits for those before it, so the mean delay of frames that
    /// follow each other faster than the jitter is above `delay` (by less than `jitter`).
    pub jitter: Duration,
    /// True if jitter may let a frame overtake another.
    pub reorder: bool,
    /// Rate at which frames follow each other; `None`: at once.
    pub rate: Option<Rate>,
    /// The share of frames that arrive twice, from 0 to 1.
    pub duplicate: f64,
    /// The share of frames that arrive with one bit behind the Ethernet header flipped, from 0 to 1.
    /// It stands for damage that the medium's own checksum has missed.
    pub corrupt: f64,
}

/// Share of the frames that are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// From 0 to 1.
    pub probability: f64,
    /// Mean length of a burst of losses in frames (Gilbert's model); `None`: each frame
    /// independently of the others.
    pub mean_burst: Option<f64>,
}

impl Loss {
    /// Each frame independently of the others.
    pub fn independent(probability: f64) -> Self {
        Self {
            probability,
            mean_burst: None,
        }
    }

    /// In bursts of `mean_burst` frames on average.
    pub fn bursts(probability: f64, mean_burst: f64) -> Self {
        Self {
            probability,
            mean_burst: Some(mean_burst),
        }
    }
}

/// A token bucket and the queue before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Rate of whole Ethernet frames, without preamble and checksum.
    pub bits_per_s: u64,
    /// Bytes that pass at once after a pause. At 0 the link is a plain serial line: each frame
    /// takes its length over the rate to arrive.
    pub burst_bytes: u32,
    /// Limit of the queue; a frame that finds it full is dropped.
    pub queue: Queue,
    /// The least that a frame counts for, in bytes (tc's `mpu`).
    pub min_frame_bytes: u32,
    /// Added to each frame's length, in bytes: headers of the medium that Ethernet has not.
    pub overhead_bytes: u32,
}

/// The size of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// The backlog in bytes.
    Bytes(u32),
    /// The time that a frame waits before its own transmission begins.
    Time(Duration),
}

impl Rate {
    /// A serial line with a queue of 64 KiB, some 43 full frames.
    pub fn new(bits_per_s: u64) -> Self {
        Self {
            bits_per_s,
            burst_bytes: 0,
            queue: Queue::Bytes(64 * 1024),
            min_frame_bytes: 0,
            overhead_bytes: 0,
        }
    }

    /// A pace for a network card that needs time between frames, whatever their length: a short
    /// frame counts as a full one. Zephyr's e1000 driver before 4.3 has a single receive
    /// descriptor and does well at 30 Mbit/s, which is a frame in 0.4 ms.
    pub fn pace(bits_per_s: u64) -> Self {
        Self {
            min_frame_bytes: 1500,
            queue: Queue::Bytes(512 * 1024),
            ..Self::new(bits_per_s)
        }
    }

    /// Time that a frame takes.
    pub fn cost(&self, frame_bytes: usize) -> Duration {
        let bytes = frame_bytes as u64 + u64::from(self.overhead_bytes);
        self.time_of(bytes.max(self.min_frame_bytes.into()))
    }

    pub(crate) fn burst_time(&self) -> Duration {
        self.time_of(self.burst_bytes.into())
    }

    /// Longest time that a frame waits in the queue.
    pub fn longest_wait(&self) -> Duration {
        match self.queue {
            Queue::Bytes(bytes) => self.time_of(bytes.into()),
            Queue::Time(time) => time,
        }
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let rate = u128::from(self.bits_per_s.max(1));
        // Rounded to the nearest: a fleet's small frames would add up a bias otherwise.
        let nanos = (u128::from(bytes) * 8 * 1_000_000_000 + rate / 2) / rate;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// No link is slower than this: a full frame at 100 bit/s takes two minutes.
const MIN_BITS_PER_S: u64 = 100;
/// Above this a nanosecond is too coarse a unit for a short frame.
const MAX_BITS_PER_S: u64 = 100_000_000_000;
/// More would be a device that is gone.
const MAX_DELAY: Duration = Duration::from_secs(600);
const MAX_BURST_FRAMES: f64 = 1e6;

impl Link {
    /// The same impairment in both directions. A round trip meets it twice.
    pub fn symmetric(impairment: Impairment) -> Self {
        Self {
            uplink: impairment,
            downlink: impairment,
        }
    }

    /// True if it leaves frames alone.
    pub fn is_perfect(&self) -> bool {
        *self == Self::default()
    }

    /// The impairment of one direction.
    pub fn direction(&self, direction: Direction) -> &Impairment {
        match direction {
            Direction::Uplink => &self.uplink,
            Direction::Downlink => &self.downlink,
        }
    }

    /// Says what to change, if anything must be.
    pub fn check(&self) -> Result<(), String> {
        self.uplink
            .check()
            .map_err(|problem| format!("uplink: {problem}"))?;
        self.downlink
            .check()
            .map_err(|problem| format!("downlink: {problem}"))
    }
}

impl Impairment {
    /// Says what to change, if anything must be.
    pub fn check(&self) -> Result<(), String> {
        self.loss.check()?;
        for (name, share) in [("duplicate", self.duplicate), ("corrupt", self.corrupt)] {
            check_share(name, share)?;
        }
        if self.delay > MAX_DELAY {
            return Err(format!(
                "delay {:?} is above {MAX_DELAY:?}: cut the link",
                self.delay
            ));
        }
        if self.jitter > self.delay {
            return Err(format!(
                "jitter {:?} exceeds the delay {:?}, but no frame arrives before it is sent: \
                 lower the jitter or raise the delay",
                self.jitter, self.delay
            ));
        }
        self.rate.map_or(Ok(()), |rate| rate.check())
    }
}

impl Loss {
    fn check(&self) -> Result<(), String> {
        check_share("loss", self.probability)?;
        let Some(mean_burst) = self.mean_burst else {
            return Ok(());
        };
        if !(1.0..=MAX_BURST_FRAMES).contains(&mean_burst) {
            return Err(format!(
                "a mean loss burst of {mean_burst} frames: give 1 or more"
            ));
        }
        // Entering the bad state has a probability, too; at 1 every second run is a burst.
        let highest = mean_burst / (1.0 + mean_burst);
        if self.probability > highest {
            return Err(format!(
                "a loss of {} cannot come in bursts of {mean_burst} frames on average (at most \
                 {highest:.3}): raise the burst length or leave it out",
                self.probability
            ));
        }
        Ok(())
    }
}

impl Rate {
    /// Says what to change, if anything must be.
    pub fn check(&self) -> Result<(), String> {
        if !(MIN_BITS_PER_S..=MAX_BITS_PER_S).contains(&self.bits_per_s) {
            return Err(format!(
                "a rate of {} bit/s: give {MIN_BITS_PER_S} to {MAX_BITS_PER_S} bit/s, or leave it \
                 out for no limit",
                self.bits_per_s
            ));
        }
        let slowest = self.cost(MAX_FRAME_BYTES);
        if slowest > MAX_DELAY {
            return Err(format!(
                "a full frame would take {slowest:?}: raise the rate, or lower min_frame_bytes and \
                 overhead_bytes"
            ));
        }
        if self.longest_wait() > MAX_DELAY {
            return Err(format!(
                "the queue holds {:?} at this rate: lower it below {MAX_DELAY:?}",
                self.longest_wait()
            ));
        }
        if self.burst_time() > MAX_DELAY {
            return Err(format!(
                "the burst is worth {:?} at this rate: lower it below {MAX_DELAY:?}",
                self.burst_time()
            ));
        }
        Ok(())
    }
}

fn check_share(name: &str, share: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(format!("{name} is {share}: give a share from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Impairment)) -> String {
        let mut link = Link::default();
        change(&mut link.downlink);
        link.check().unwrap_err()
    }

    #[test]
    fn a_link_that_cannot_be_says_what_to_change() {
        assert!(refused(|way| way.loss.probability = 1.5).contains("downlink: loss is 1.5"));
        assert!(refused(|way| way.loss.probability = f64::NAN).contains("0 to 1"));
        assert!(refused(|way| way.corrupt = -0.1).contains("corrupt"));
        assert!(refused(|way| way.loss = Loss::bursts(0.9, 2.0)).contains("raise the burst"));
        assert!(refused(|way| way.loss = Loss::bursts(0.1, 0.5)).contains("1 or more"));
        assert!(refused(|way| way.loss = Loss::bursts(0.1, f64::NAN)).contains("1 or more"));
        assert!(refused(|way| way.jitter = Duration::from_millis(1)).contains("lower the jitter"));
        assert!(refused(|way| way.delay = Duration::MAX).contains("cut the link"));
        assert!(refused(|way| way.rate = Some(Rate::new(0))).contains("leave it out"));
        let slow = Rate {
            queue: Queue::Bytes(u32::MAX),
            ..Rate::new(100)
        };
        assert!(refused(|way| way.rate = Some(slow)).contains("queue"));
    }

    #[test]
    fn a_pace_counts_a_short_frame_as_a_full_one() {
        let pace = Rate::pace(30_000_000);
        assert_eq!(pace.cost(60), Duration::from_micros(400));
        assert_eq!(pace.cost(1500), Duration::from_micros(400));
        assert_eq!(Rate::new(30_000_000).cost(60), Duration::from_micros(16));
    }
}
