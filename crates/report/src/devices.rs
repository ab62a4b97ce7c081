//! Distributions of the devices' cost.
//!
//! A metric that belongs to a round is drawn as a device's mean over its rounds; a count since boot is
//! [made that first](zfl_run_dir::fold::SinceBoot). A peak is drawn as the highest.

use crate::draw::{Axes, Figure, boxes};
use crate::group::Group;
use crate::numbers::Mean;
use zfl_run_dir::fold::Device;
use zfl_run_dir::metric::{Folds, Id, Metric};

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
            for device in group.runs.iter().flat_map(|run| run.fold.devices()) {
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

/// The number of a device that its figure has a dot for: the mean over rounds, or a peak.
fn dot(device: &Device, id: Id) -> Option<f64> {
    let metric = id.metric();
    let value = if is_per_round(metric) {
        Mean::of(device.history.iter().filter_map(|row| row.values.get(id)))?.mean
    } else {
        device.totals.over_rounds(id)?
    };
    Some(metric.shown.scale(value))
}

fn is_per_round(metric: &Metric) -> bool {
    matches!(metric.folds, Folds::Sum | Folds::Mean)
}

/// The name, the caption and the axis of a metric's figure.
fn words(metric: &Metric, figure: &str) -> (String, String, String) {
    let name = format!("device-{}", figure.replace('_', "-"));
    let (dot, per_round) = if is_per_round(metric) {
        let dot = "A dot is a device's mean over the rounds that it finished";
        (dot, " per round")
    } else {
        ("A dot is a device", "")
    };
    let what = match metric.doc {
        "" => metric.label.to_lowercase(),
        doc => doc.replace('`', ""),
    };
    let caption = format!("Devices' cost: {what}. {dot}; {BOXES}");
    let unit = match metric.shown.unit {
        "" => String::new(),
        unit => format!(" ({unit})"),
    };
    (name, caption, format!("{}{per_round}{unit}", metric.label))
}

/// A figure of each metric that these groups have the numbers for.
pub fn devices(groups: &[Group]) -> Vec<Figure> {
    let populations = Population::of(groups);
    let figures = Id::all().filter_map(|id| {
        let (name, caption, axis) = words(id.metric(), id.metric().figure?);
        distribution(&populations, &name, caption, &axis, |device| {
            dot(device, id)
        })
    });
    figures.collect()
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
    fn fold(updates: &[(u32, u32, u64)]) -> Fold {
        let mut fold = Fold::new(Meta::default());
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
                chosen: None,
            };
            fold.apply(Record {
                time_ms: 0,
                at: String::new(),
                event: Event::ResultReceived { record },
            });
        }
        fold
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
        let fold = fold(&rows);
        let device = fold.device(0).unwrap();
        // Two in the first boot and fourteen in the second, over five rounds.
        assert_eq!(dot(device, Id::of("retransmissions")), Some(3.2));
        assert_eq!(dot(device, Id::of("heap_peak_bytes")), Some(4.0));
        assert_eq!(dot(device, Id::of("stack_peak_bytes")), None);
        assert_eq!(dot(device, Id::of("host_private_bytes")), Some(9.0));
    }
}
