//! Links on a bridge, where the kernel has netem: what `tc qdisc … netem` sets up.
//!
//! A device's downlink is what leaves the bridge through its tap. Its uplink comes in there, where
//! no queue can be, and so goes through a device of its own that does nothing but have one (`ifb`).

use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle};
use rtnetlink::{Error, Handle, LinkIfb, LinkUnspec};

use nix::net::if_::if_nametoindex;
use zfl_netsim::{Impairment, Link, MAX_FRAME_BYTES, Rate};

use super::queue;

// Of <linux/pkt_sched.h> and <linux/if_link.h>.
const TCA_OPTIONS: u16 = 2;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_LOSS: u16 = 5;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
const TCA_NETEM_PRNG_SEED: u16 = 14;
const NETEM_LOSS_GE: u16 = 2;
const IFLA_GSO_MAX_SEGS: u16 = 40;
const NLA_F_NESTED: u16 = 1 << 15;

/// Frames in flight and in the queue, where no rate says how many can be.
const LIMIT_FRAMES: u32 = 10_000;

/// A rate that delays nothing but keeps frames in their order, which netem does only with a rate.
const ORDERLY_BITS_PER_S: u64 = 100_000_000_000;

/// The handle of netem on a link; a queue that paces hangs below it.
const ROOT: TcHandle = TcHandle { major: 1, minor: 0 };
pub(super) const BELOW: TcHandle = TcHandle { major: 1, minor: 1 };

/// Feature of a link that the switch has and netem lacks.
pub(crate) fn check(link: &Link) -> Result<(), String> {
    for way in [&link.uplink, &link.downlink] {
        let rate = way.rate.unwrap_or(Rate::new(ORDERLY_BITS_PER_S));
        let what = match rate {
            _ if way.reorder && way.rate.is_some() => "reordering at a rate",
            Rate {
                burst_bytes: 1.., ..
            } => "a burst above the rate",
            Rate {
                min_frame_bytes: 1..,
                ..
            } => "a least length of frames",
            _ => continue,
        };
        return Err(format!(
            "the kernel's netem has no {what}: take `--network switch`, or leave that out"
        ));
    }
    Ok(())
}

/// Puts netem to what leaves on a link, or changes what it does.
pub(super) async fn impair(
    netlink: &Handle,
    link: u32,
    way: &Impairment,
    seed: u64,
) -> Result<(), Error> {
    let options = TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options(way, seed)));
    queue::put(netlink, link, TcHandle::ROOT, ROOT, "netem", options).await
}

/// The ifb called `name`, up; made if it is not there.
pub(super) async fn ifb(netlink: &Handle, name: &str) -> Result<u32, Error> {
    let ifb = match if_nametoindex(name) {
        Ok(index) => index,
        Err(_) => {
            netlink
                .link()
                .add(LinkIfb::new(name).build())
                .execute()
                .await?;
            if_nametoindex(name).map_err(|_| Error::RequestFailed)?
        }
    };
    let up = LinkUnspec::new_with_index(ifb).up().build();
    netlink.link().set(up).execute().await?;
    Ok(ifb)
}

/// Limits the kernel's segments to a frame, of which a loss would take many at once.
pub(super) async fn single_segments(netlink: &Handle, link: u32) -> Result<(), Error> {
    let one = DefaultNla::new(IFLA_GSO_MAX_SEGS, 1u32.to_ne_bytes().to_vec());
    let set = LinkUnspec::new_with_index(link).append_extra_attribute(LinkAttribute::Other(one));
    netlink.link().set(set.build()).execute().await
}

/// `struct tc_netem_qopt` and the attributes behind it.
fn options(way: &Impairment, seed: u64) -> Vec<u8> {
    let independent = if way.loss.mean_burst.is_some() {
        0.0
    } else {
        way.loss.probability
    };
    let keeps_order = !way.reorder && !way.jitter.is_zero();
    let rate = way
        .rate
        .or(keeps_order.then_some(Rate::new(ORDERLY_BITS_PER_S)));
    let mut bytes = Vec::new();
    // Latency and jitter follow in nanoseconds; `gap` would be for another kind of reordering.
    for word in [
        0,
        limit(way),
        share(independent),
        0,
        share(way.duplicate),
        0,
    ] {
        bytes.extend(u32::to_ne_bytes(word));
    }
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    attribute(
        &mut bytes,
        TCA_NETEM_LATENCY64,
        &nanos(way.delay).to_ne_bytes(),
    );
    attribute(
        &mut bytes,
        TCA_NETEM_JITTER64,
        &nanos(way.jitter).to_ne_bytes(),
    );
    // A kernel that is too old for a seed (before 6.6) passes over it.
    attribute(&mut bytes, TCA_NETEM_PRNG_SEED, &seed.to_ne_bytes());
    attribute(
        &mut bytes,
        TCA_NETEM_CORRUPT,
        &words([share(way.corrupt), 0]),
    );
    if let Some(mean_burst) = way.loss.mean_burst {
        let mut model = Vec::new();
        attribute(
            &mut model,
            NETEM_LOSS_GE,
            &bursts(way.loss.probability, mean_burst),
        );
        attribute(&mut bytes, TCA_NETEM_LOSS | NLA_F_NESTED, &model);
    }
    if let Some(rate) = rate {
        let bytes_per_s = rate.bits_per_s / 8;
        let in_a_word = u32::try_from(bytes_per_s).unwrap_or(u32::MAX);
        // The kernel takes the larger of the two rates; then the length added, and no cells.
        let parameters = words([in_a_word, rate.overhead_bytes, 0, 0]);
        attribute(&mut bytes, TCA_NETEM_RATE, &parameters);
        attribute(&mut bytes, TCA_NETEM_RATE64, &bytes_per_s.to_ne_bytes());
    }
    bytes
}

/// Gilbert's model: the way into the bad state, the way out, all lost in it and none outside.
fn bursts(probability: f64, mean_burst: f64) -> Vec<u8> {
    let out = 1.0 / mean_burst;
    let into = if probability < 1.0 {
        out * probability / (1.0 - probability)
    } else {
        1.0
    };
    words([share(into), share(out), 0, 0])
}

/// Number of frames in netem: those that wait for the rate and those under way.
fn limit(way: &Impairment) -> u32 {
    let Some(rate) = way.rate else {
        return LIMIT_FRAMES;
    };
    let time = rate.longest_wait() + way.delay + way.jitter;
    let frames = time.as_secs_f64() / rate.cost(MAX_FRAME_BYTES).as_secs_f64();
    (frames.ceil() as u32).clamp(2, LIMIT_FRAMES)
}

fn share(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32
}

fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// Appends a netlink attribute with its padding.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("a few words");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use zfl_netsim::{Loss, Queue};

    /// The attributes behind the fixed part, by kind.
    fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some((head, _)) = bytes.split_first_chunk::<4>() {
            let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
            let kind = u16::from_ne_bytes([head[2], head[3]]);
            all.push((kind, bytes[4..length].to_vec()));
            bytes = &bytes[length.next_multiple_of(4)..];
        }
        all
    }

    fn of(all: &[(u16, Vec<u8>)], kind: u16) -> Option<&[u8]> {
        let found = all.iter().find(|(known, _)| *known & !NLA_F_NESTED == kind);
        found.map(|(_, value)| &value[..])
    }

    #[test]
    fn everything_asked_for_is_laid_out_as_the_kernel_reads_it() {
        let way = Impairment {
            loss: Loss::independent(0.25),
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            duplicate: 1.0,
            corrupt: 0.5,
            rate: Some(Rate {
                overhead_bytes: 7,
                ..Rate::new(800_000)
            }),
            ..Impairment::default()
        };
        let bytes = options(&way, 9);
        let fixed: Vec<u32> = bytes[..24]
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!((fixed[0], fixed[3], fixed[5]), (0, 0, 0));
        assert_eq!((fixed[2], fixed[4]), (1 << 30, u32::MAX));
        let all = attributes(&bytes[24..]);
        assert_eq!(
            of(&all, TCA_NETEM_LATENCY64).unwrap(),
            20_000_000u64.to_ne_bytes()
        );
        assert_eq!(
            of(&all, TCA_NETEM_JITTER64).unwrap(),
            5_000_000u64.to_ne_bytes()
        );
        assert_eq!(of(&all, TCA_NETEM_PRNG_SEED).unwrap(), 9u64.to_ne_bytes());
        assert_eq!(
            of(&all, TCA_NETEM_CORRUPT).unwrap()[..4],
            (1u32 << 31).to_ne_bytes()
        );
        assert_eq!(of(&all, TCA_NETEM_RATE).unwrap(), words([100_000, 7, 0, 0]));
        assert_eq!(
            of(&all, TCA_NETEM_RATE64).unwrap(),
            100_000u64.to_ne_bytes()
        );
        assert_eq!(of(&all, TCA_NETEM_LOSS), None);
    }

    #[test]
    fn bursts_of_losses_are_gilberts_model() {
        let way = Impairment {
            loss: Loss::bursts(0.2, 4.0),
            ..Impairment::default()
        };
        let bytes = options(&way, 0);
        assert_eq!(bytes[8..12], [0; 4], "none of them independent");
        let all = attributes(&bytes[24..]);
        let model = attributes(of(&all, TCA_NETEM_LOSS).unwrap());
        let model = of(&model, NETEM_LOSS_GE).unwrap();
        let word = |at: usize| u32::from_ne_bytes(model[at..at + 4].try_into().unwrap());
        // 0.25 · 0.2 / 0.8, and 1 in 4.
        assert_eq!(
            (word(0), word(4), word(8), word(12)),
            (1 << 28, 1 << 30, 0, 0)
        );
        assert_eq!(
            of(&all, TCA_NETEM_RATE),
            None,
            "it has no jitter to keep in order"
        );
    }

    #[test]
    fn what_netem_cannot_do_is_refused() {
        let check = |change: fn(&mut Impairment)| {
            let mut link = Link::default();
            change(&mut link.uplink);
            super::check(&link).map_err(|text| text.contains("--network switch"))
        };
        assert_eq!(check(|way| way.rate = Some(Rate::new(1000))), Ok(()));
        assert_eq!(check(|way| way.reorder = true), Ok(()));
        assert_eq!(check(|way| way.rate = Some(Rate::pace(1000))), Err(true));
        let burst = |way: &mut Impairment| {
            way.rate = Some(Rate {
                burst_bytes: 1,
                ..Rate::new(1000)
            });
        };
        assert_eq!(check(burst), Err(true));
    }

    #[test]
    fn a_queue_is_as_long_as_its_time() {
        let rate = Rate {
            queue: Queue::Time(Duration::from_secs(1)),
            ..Rate::new(1_000_000)
        };
        let way = Impairment {
            rate: Some(rate),
            ..Impairment::default()
        };
        let full_frames = 1_000_000 / 8 / MAX_FRAME_BYTES as u32;
        assert!(limit(&way).abs_diff(full_frames) <= 1, "{}", limit(&way));
        assert_eq!(limit(&Impairment::default()), LIMIT_FRAMES);
    }
}
