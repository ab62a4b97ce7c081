//! What devices cost, as distributions over them.

use crate::draw::{Axes, Figure, boxes};
use crate::group::Group;
use crate::numbers::Mean;
use zfl_dashboard::model::{Device, HistoryRow};

/// A quantity of a device: name of the figure, what it is, the axis, and its value in a round.
type Quantity = (
    &'static str,
    &'static str,
    &'static str,
    fn(&HistoryRow) -> Option<f64>,
);

const QUANTITIES: [Quantity; 13] = [
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
    ("device-heap", "peak of its heap", "Peak heap (kB)", |row| {
        row.heap_peak_bytes.map(|bytes| f64::from(bytes) / 1e3)
    }),
    (
        "device-stack",
        "peak of its stack",
        "Peak stack (kB)",
        |row| row.stack_peak_bytes.map(|bytes| f64::from(bytes) / 1e3),
    ),
    (
        "device-bytes",
        "HTTP bytes, both ways",
        "Bytes per round (kB)",
        |row| (row.outcome != "failed").then(|| (row.bytes_up + row.bytes_down) as f64 / 1e3),
    ),
    (
        "device-retransmissions",
        "TCP segments sent again since its boot",
        "Segments sent again",
        |row| row.retransmissions.map(f64::from),
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
        let caption = format!(
            "Devices' cost: {what}. A dot is a device's mean over its rounds; boxes are quartiles, \
             whiskers reach to 1.5 times their distance."
        );
        distribution(&populations, name, caption, axis, |device| {
            mean(device, value)
        })
    };
    let mut figures: Vec<Figure> = QUANTITIES.iter().filter_map(per_round).collect();
    figures.extend(distribution(
        &populations,
        "device-host-memory",
        "What a device costs its host: memory that is its alone.".to_owned(),
        "Host memory (MB)",
        |device| Some(device.host_bytes? as f64 / 1e6),
    ));
    figures.extend(distribution(
        &populations,
        "device-boot",
        "From the start of a device's machine to its prompt, at its last boot.".to_owned(),
        "Boot time (ms)",
        |device| Some(device.boot_ms? as f64),
    ));
    figures
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
