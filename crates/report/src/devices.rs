//! Distributions of the devices' cost.
//!
//! What belongs to a round is drawn as a device's mean over its rounds; what a device counts since its
//! boot is [made that first](zfl_run_dir::fold::SinceBoot). A peak is drawn as the highest.

use crate::draw::{Axes, Figure, boxes};
use crate::group::Group;
use crate::numbers::Mean;
use zfl_run_dir::fold::{Device, HistoryRow};

/// A quantity of a device: name of the figure, what it is, the axis, and its value in a round.
type Quantity = (
    &'static str,
    &'static str,
    &'static str,
    fn(&HistoryRow) -> Option<f64>,
);

const QUANTITIES: [Quantity; 11] = [
    (
        "device-training",
        "training time, by its own clock",
        "Training time per round (ms)",
        |row| row.train_us.map(|us| us as f64 / 1e3),
    ),
    (
        "device-round",
        "time from the choice of the cohort to its update",
        "Time to the update (s)",
        |row| row.round_s,
    ),
    (
        "device-computing",
        "training at its board's clock",
        "Simulated computing per round (s)",
        |row| row.virtual_s,
    ),
    (
        "device-link",
        "simulated time on its link",
        "Simulated time on the link per round (s)",
        |row| row.link_s,
    ),
    (
        "device-energy",
        "energy, an estimate by its board's energy model and not a measurement",
        "Energy per round (J), estimate",
        |row| row.energy_j,
    ),
    (
        "device-instructions",
        "instructions",
        "Instructions per round (millions)",
        |row| row.instructions.map(|n| n as f64 / 1e6),
    ),
    (
        "device-bytes",
        "HTTP bytes, both ways",
        "Bytes per round (kB)",
        |row| (row.outcome != "failed").then(|| (row.bytes_up + row.bytes_down) as f64 / 1e3),
    ),
    (
        "device-retransmissions",
        "TCP segments that it sent again",
        "Segments sent again per round",
        |row| row.retransmissions.map(|n| n as f64),
    ),
    (
        "device-link-retransmissions",
        "TCP segments that its link carried again",
        "Segments sent again per round",
        |row| row.link_retransmissions.map(|n| n as f64),
    ),
    (
        "device-link-dropped",
        "TCP segments that its link dropped",
        "Segments dropped per round",
        |row| row.link_dropped.map(|n| n as f64),
    ),
    (
        "device-host-processor",
        "processor time that its machine takes of the host",
        "Host processor time per round (s)",
        |row| row.cpu_s,
    ),
];

/// A quantity of a device over the whole run: the same, without rounds.
type Whole = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Device) -> Option<f64>,
);

const WHOLES: [Whole; 4] = [
    (
        "device-heap",
        "most heap in use at once, in any of its boots",
        "Peak heap (kB)",
        |device| device.heap_peak_bytes.map(|bytes| f64::from(bytes) / 1e3),
    ),
    (
        "device-stack",
        "most stack in use, in any of its boots",
        "Peak stack (kB)",
        |device| device.stack_peak_bytes.map(|bytes| f64::from(bytes) / 1e3),
    ),
    (
        "device-host-memory",
        "memory of the host that is its alone, the most at any of its updates",
        "Host memory (MB)",
        |device| {
            let seen = device.history.iter().filter_map(|row| row.host_bytes);
            let most = seen.max().or(device.host_bytes)?;
            Some(most as f64 / 1e6)
        },
    ),
    (
        "device-boot",
        "from the start of its machine to its prompt, at its last boot",
        "Boot time (ms)",
        |device| device.boot_ms.map(|ms| ms as f64),
    ),
];

const BOXES: &str = "boxes are quartiles, whiskers reach to 1.5 times their distance.";

/// Devices under one label: those of a group of runs or, of one group of a mixed fleet, those of each
/// group of the fleet.
struct Population<'a> {
    label: String,
    devices: Vec<&'a Device>,
}

impl<'a> Population<'a> {
    fn of(groups: &'a [Group]) -> Vec<Self> {
        let mut populations: Vec<Self> = Vec::new();
        for group in groups {
            for device in group.runs.iter().flat_map(|run| run.model.devices()) {
                let own = device.group.as_ref().filter(|_| groups.len() == 1);
                let label = own.unwrap_or(&group.label);
                match populations.iter_mut().find(|known| known.label == *label) {
                    Some(known) => known.devices.push(device),
                    None => populations.push(Self {
                        label: label.clone(),
                        devices: vec![device],
                    }),
                }
            }
        }
        populations
    }
}

/// A quantity of a device, as the mean over the rounds that it finished.
fn mean(device: &Device, value: impl Fn(&HistoryRow) -> Option<f64>) -> Option<f64> {
    Some(Mean::of(device.history.iter().filter_map(value))?.mean)
}

/// A figure of each quantity that these groups have the numbers for.
pub fn devices(groups: &[Group]) -> Vec<Figure> {
    let populations = Population::of(groups);
    let per_round = |(name, what, axis, value): &Quantity| {
        let dot = "A dot is a device's mean over the rounds that it finished";
        let caption = format!("Devices' cost: {what}. {dot}; {BOXES}");
        distribution(&populations, name, caption, axis, |device| {
            mean(device, value)
        })
    };
    let whole = |(name, what, axis, value): &Whole| {
        let caption = format!("Devices' cost: {what}. A dot is a device; {BOXES}");
        distribution(&populations, name, caption, axis, value)
    };
    let rounds = QUANTITIES.iter().filter_map(per_round);
    rounds.chain(WHOLES.iter().filter_map(whole)).collect()
}

fn distribution(
    populations: &[Population<'_>],
    name: &str,
    caption: String,
    axis: &str,
    value: impl Fn(&Device) -> Option<f64>,
) -> Option<Figure> {
    let values = |population: &Population<'_>| {
        let values = population.devices.iter().filter_map(|device| value(device));
        (population.label.clone(), values.collect::<Vec<f64>>())
    };
    let values: Vec<_> = populations.iter().map(values).collect();
    let most = values.iter().flat_map(|(_, values)| values);
    let most = most.copied().fold(0.0, f64::max);
    let axes = Axes::new("", axis).zero_to(most);
    Some(Figure::new(name, caption, vec![boxes(&values)?], &axes, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fl_proto::Cost;
    use zfl_run_dir::{ClientRecord, Event, HostCost, Record};
    use zfl_run_dir::{Fold, Meta};

    /// A device's updates: segments sent again since its boot, peak of its heap, memory of its host.
    fn model(updates: &[(u32, u32, u64)]) -> Fold {
        let mut model = Fold::new(Meta::default());
        for (round, &(again, heap, host)) in (1..).zip(updates) {
            let cost = Cost {
                retransmissions: Some(again),
                heap_peak_bytes: Some(heap),
                ..Cost::default()
            };
            let record = ClientRecord {
                round,
                client: 0,
                outcome: "received".into(),
                num_examples: 1,
                loss: None,
                round_s: None,
                bytes_up: 0,
                bytes_down: 0,
                cost: Some(cost),
                host: Some(HostCost {
                    private_bytes: Some(host),
                    ..HostCost::default()
                }),
            };
            model.apply(Record {
                time_ms: 0,
                at: String::new(),
                event: Event::ResultReceived { record },
            });
        }
        model
    }

    fn per_round(device: &Device, name: &str) -> Option<f64> {
        let (.., value) = QUANTITIES.iter().find(|quantity| quantity.0 == name)?;
        mean(device, value)
    }

    fn whole(device: &Device, name: &str) -> Option<f64> {
        let (.., value) = WHOLES.iter().find(|whole| whole.0 == name)?;
        value(device)
    }

    #[test]
    fn counts_are_those_of_a_round_and_peaks_the_highest() {
        let rows = [
            (1, 1000, 5),
            (2, 4000, 9),
            (1, 2000, 7),
            (1, 2000, 7),
            (14, 3000, 7),
        ]
        .map(|(again, heap, host)| (again, heap, host * 1_000_000));
        let model = model(&rows);
        let device = model.device(0).unwrap();
        // Two in the first boot and fourteen in the second, over five rounds.
        assert_eq!(per_round(device, "device-retransmissions"), Some(3.2));
        assert_eq!(whole(device, "device-heap"), Some(4.0));
        assert_eq!(whole(device, "device-stack"), None);
        assert_eq!(whole(device, "device-host-memory"), Some(9.0));
    }
}
