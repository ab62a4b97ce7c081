//! Connections of a run's listeners: as many as its files allow, at a pace that its links allow.

use zfl_aggregator::{Limits, Pace, least_places};
use zfl_experiment::Experiment;
use zfl_http_server::open_files;
use zfl_netsim::Link;
use zfl_orchestrator::admission::open_files_of;

/// Files of all else: data, run directory, pipes, requests to devices, the runtime.
const OTHERS: u64 = 128;

/// Bytes by which a link's pace is measured.
const SAMPLE_BYTES: u64 = 1 << 20;

/// Part of a link's pace that keeps a place: other traffic, losses, and a host that has much to do slow a
/// device down.
const PART: f64 = 100.0;

/// Greatest pace that is asked of a body, in bytes a second.
const MOST: f64 = 256.0;

/// Files beside those of its devices without which a run cannot do.
pub(crate) fn least_files(clients: u32, page: bool) -> u64 {
    least_places(clients) as u64 + page_places(page) + OTHERS
}

/// Limits of the aggregator's connections.
pub(crate) fn limits(experiment: &Experiment, devices: usize, page: bool) -> Limits {
    let taken = open_files_of(devices) + page_places(page) + OTHERS;
    let most = open_files::limit().saturating_sub(taken);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let links = experiment.groups.iter().map(|group| group.wire());
    Limits {
        pace: pace(links),
        ..zfl_aggregator::limits(experiment.clients, most)
    }
}

fn page_places(page: bool) -> u64 {
    match page {
        true => zfl_dashboard::places() as u64,
        false => 0,
    }
}

/// The least pace of bodies over these links; where none is known, the usual one.
fn pace(links: impl Iterator<Item = Link>) -> Pace {
    let slowest = links.map(bytes_per_s).reduce(f64::min);
    let usual = Pace::default();
    Pace {
        bytes_per_s: slowest.map_or(usual.bytes_per_s, |rate| {
            (rate / PART).clamp(1.0, MOST) as u32
        }),
        ..usual
    }
}

fn bytes_per_s(link: Link) -> f64 {
    let (up, down) = link.transfer_time(SAMPLE_BYTES, SAMPLE_BYTES, 0);
    SAMPLE_BYTES as f64 / up.max(down).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zfl_netsim::profile::Profile;

    #[test]
    fn the_slowest_link_sets_the_pace() {
        let link = |name| Profile::load(None, name).unwrap().link;
        let of = |links: &[Link]| pace(links.iter().copied()).bytes_per_s;
        assert_eq!(of(&[]), Pace::default().bytes_per_s);
        assert_eq!(of(&[Link::default()]), 256);
        assert_eq!(of(&[link("ethernet"), link("wifi")]), 256);
        let lora = of(&[link("wifi"), link("lorawan-like")]);
        assert!((1..10).contains(&lora), "{lora}");
    }
}
