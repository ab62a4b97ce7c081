//! Memory that devices need for data and training, told before any is started.

use crate::experiment::Experiment;
use crate::groups::FleetGroup;
use crate::refusal::{Refusal, require};
use crate::rule::RuleKind as _;
use fl_algo::{Demand, InputsIn, device_bytes, list_bytes};
use fl_nn::{Activation, Model, PlanError, Shape};
use std::sync::Arc;
use zfl_machine::{Board, MemoryPart};
use zfl_orchestrator::admission::needed_bytes;
use zfl_orchestrator::{DeviceBody, DeviceSpec};

/// Memory of a board that is certainly not free for data and model: code, stack, model buffers.
const FIRMWARE_BYTES: u64 = 1 << 20;

/// Memory of zfl on the host without data and devices.
const SERVER_BYTES: u64 = 48 << 20;

/// Copies of the data set that a run has: as it was loaded, and a device's own.
const DATA_COPIES: u64 = 2;

/// The training that the boards' budgets were measured with (`cargo xtask sizes`): examples in one batch, and the
/// default model on MNIST.
const REFERENCE_EXAMPLES: u32 = 600;
const REFERENCE_LAYERS: [usize; 3] = [784, 16, 10];

/// RAM that a device needs for its data and the training.
///
/// # Units
/// Bytes.
///
/// # Errors
/// A [`Refusal`] if there can be no such training.
pub fn training_bytes(
    experiment: &Experiment,
    batch_size: u32,
    examples: u32,
    inputs: InputsIn,
) -> Result<u64, Refusal> {
    let aggregator = experiment.aggregator();
    let needed = aggregator.memory_of(batch_size, examples, inputs);
    needed.map_err(|error| {
        Refusal(format!(
            "{error}; change --batch-size, --examples or --hidden"
        ))
    })
}

/// Memory that a device of a group needs beyond what the boards' budgets were measured with.
///
/// # Units
/// Bytes.
///
/// # Errors
/// A [`Refusal`] if there can be no such training.
pub fn beyond_budget(experiment: &Experiment, group: &FleetGroup) -> Result<u64, Refusal> {
    let needed = group_bytes(experiment, group)?;
    let shape = Shape::new(&REFERENCE_LAYERS).map_err(|error| Refusal(error.to_string()))?;
    let model = Model::new(shape, Activation::Relu);
    let reference = Demand {
        batch_size: REFERENCE_EXAMPLES,
        examples: REFERENCE_EXAMPLES,
        ..Demand::default()
    };
    let budgeted = device_bytes(&model, &[], reference);
    Ok(needed.saturating_sub(budgeted.map_err(|error| Refusal(error.to_string()))?))
}

/// Refuses what certainly does not fit a board, before it is booted to find out.
///
/// # Errors
/// The first [`Refusal`].
pub fn fits(experiment: &Experiment) -> Result<(), Refusal> {
    experiment.groups.iter().try_for_each(|group| {
        let needed = group_bytes(experiment, group)?;
        let (Some(board), Some(memory_mib)) = (&group.board, group.memory_mib()) else {
            return Ok(());
        };
        let available = available(group).unwrap_or(u64::MAX);
        board
            .check_memory(memory_mib)
            .map_err(|problem| Refusal(format!("{}: memory_mib: {problem}", group.name)))?;
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let (take, has) = match free_of_part(board) {
            Some(free) => (format!("{needed} bytes"), format!("{free} bytes for them")),
            None => (mib(needed), format!("{memory_mib}")),
        };
        require(needed <= available, || {
            format!(
                "data and training take {take} on a device, board {} has {has}: {} bytes are missing: \
                 lower --examples, --batch-size or --hidden, take smaller images, or --body native{}",
                group.kind(),
                needed - available,
                copies(experiment)
            )
        })?;
        let Some((lists, flash)) = flash(experiment, group) else {
            return Ok(());
        };
        require(lists <= flash, || {
            format!(
                "the examples of a device take {lists} bytes of flash, board {} has {flash} bytes for them: {} bytes \
                 are missing: lower --examples, take smaller images, or --body native",
                group.kind(),
                lists - flash
            )
        })
    })
}

/// Lists of the examples of a device with flash for them, and that flash, in bytes.
pub fn flash(experiment: &Experiment, group: &FleetGroup) -> Option<(u64, u64)> {
    let firmware = group.board.as_ref()?.firmware.as_ref()?;
    let lists = list_bytes(&experiment.model, group.max_examples);
    Some((lists, firmware.flash_bytes()?))
}

/// Place of the examples of each group that has them in flash, for people.
pub(crate) fn notes(experiment: &Experiment) -> impl Iterator<Item = String> {
    experiment.groups.iter().filter_map(|group| {
        let (lists, flash) = flash(experiment, group)?;
        Some(format!(
            "{}: the examples of a device lie in its flash, {lists} of {flash} bytes at most",
            group.kind()
        ))
    })
}

/// Memory of a group's board that can be free for data and training, in bytes.
pub(crate) fn available(group: &FleetGroup) -> Option<u64> {
    let memory = u64::from(group.memory_mib()?) << 20;
    let free = group.board.as_ref().and_then(|board| free_of_part(board));
    Some(free.unwrap_or(memory.saturating_sub(FIRMWARE_BYTES)))
}

/// Memory for data and training of a board that states a real part's.
fn free_of_part(board: &Board) -> Option<u64> {
    board.firmware.as_ref()?.free_bytes()
}

/// Places of the bytes of RAM on each device of a group: what its firmware takes, where its board states that, then data and
/// training.
///
/// # Errors
/// A [`Refusal`] if there can be no such training.
pub fn parts(experiment: &Experiment, group: &FleetGroup) -> Result<Vec<MemoryPart>, Refusal> {
    let demand = Demand {
        batch_size: group.batch_size.unwrap_or(experiment.batch_size).most(),
        examples: group.max_examples,
        optimizer: experiment.aggregator().optimizer.rule,
        keeps_global: false,
        inputs: inputs_in(group),
    };
    let refused = |error: PlanError| Refusal(error.to_string());
    let (batch, examples) = (demand.batch_size as usize, demand.examples as usize);
    let plan = experiment
        .model
        .training_plan_with(batch, examples, demand.optimizer);
    let plan = plan.map_err(refused)?;
    let plain = device_bytes(&experiment.model, &[], demand).map_err(refused)?;
    let all = group_bytes(experiment, group)?;
    let fixed = group
        .board
        .as_ref()
        .and_then(|board| board.firmware.as_ref()?.fixed());
    let mut parts: Vec<MemoryPart> = fixed.into_iter().flatten().collect();
    parts.extend([
        MemoryPart::new("examples", plain.saturating_sub(plan.total_bytes())),
        MemoryPart::new("model", plan.parameters_bytes),
        MemoryPart::new("gradients", plan.gradients_bytes),
        MemoryPart::new("activations", plan.activations_bytes),
        MemoryPart::new("fixed point", plan.integers_bytes),
        MemoryPart::new("order", plan.order_bytes),
        MemoryPart::new("optimizer", plan.optimizer_bytes),
        MemoryPart::new("rule, codec, bound", all.saturating_sub(plain)),
    ]);
    parts.retain(|part| part.bytes > 0);
    Ok(parts)
}

/// Parts of an experiment that take copies of the model, as advice.
fn copies(experiment: &Experiment) -> String {
    let config = experiment.aggregator();
    let mut those = Vec::new();
    if !config.vectors().is_empty() {
        those.push(format!("strategy {}", experiment.strategy.name()));
    }
    if config.encoding_vectors() > 0 {
        those.push(format!("encoding_up {}", experiment.encoding_up.name()));
    }
    match those.is_empty() {
        true => String::new(),
        false => format!(
            " ({} takes further copies of the model)",
            those.join(" and ")
        ),
    }
}

/// Memory of this machine that a run takes: its devices, the data, and what serves them.
///
/// # Units
/// Bytes.
///
/// # Errors
/// A [`Refusal`] if there can be no such run.
pub fn host_bytes(experiment: &Experiment) -> Result<u64, Refusal> {
    let mut bytes = SERVER_BYTES + DATA_COPIES * experiment.data_bytes;
    let mut sizes = experiment.partition.sizes();
    for group in &experiment.groups {
        let count = group.count as usize;
        let examples: usize = sizes.by_ref().take(count).sum();
        let one = match &group.board {
            Some(board) => needed_bytes(&DeviceSpec {
                extra_bytes: beyond_budget(experiment, group)?,
                ..DeviceSpec::new(0, DeviceBody::Emulated(Arc::clone(board)))
            }),
            // A machine has its memory for the largest device of the group; a thread takes what it needs.
            None => {
                let batch_size = group.batch_size.unwrap_or(experiment.batch_size).most();
                let mean = examples.div_ceil(count.max(1)) as u32;
                let native = needed_bytes(&DeviceSpec::new(0, DeviceBody::Pooled));
                native.max(training_bytes(experiment, batch_size, mean, InputsIn::Ram)?)
            }
        };
        bytes = bytes.saturating_add(one.saturating_mul(count as u64));
    }
    Ok(bytes)
}

pub(crate) fn group_bytes(experiment: &Experiment, group: &FleetGroup) -> Result<u64, Refusal> {
    let batch_size = group.batch_size.unwrap_or(experiment.batch_size).most();
    training_bytes(experiment, batch_size, group.max_examples, inputs_in(group))
}

/// Place of the inputs of a group's devices.
fn inputs_in(group: &FleetGroup) -> InputsIn {
    let firmware = group
        .board
        .as_ref()
        .and_then(|board| board.firmware.as_ref());
    match firmware.is_some_and(|firmware| firmware.flash_bytes().is_some()) {
        true => InputsIn::Flash,
        false => InputsIn::Ram,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Out;
    use crate::root::Root;
    use crate::rule::RuleSettings;
    use crate::settings::{DeviceSettings, Settings};

    fn beyond(examples: u32, hidden: u32) -> u64 {
        beyond_with(Settings {
            clients: Some(1),
            examples_per_client: Some(examples),
            hidden: Some(vec![hidden]),
            ..Settings::default()
        })
    }

    fn beyond_with(mut settings: Settings) -> u64 {
        settings.device.board = Some("microvm".to_owned());
        let root = Root::of_tree(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let (experiment, _) = Experiment::of_run(&settings, Out::New(None), &root).unwrap();
        beyond_budget(&experiment, &experiment.groups[0]).unwrap()
    }

    #[test]
    fn the_plan_of_a_real_part_is_told_to_the_byte_and_refused_with_what_is_missing() {
        let root = Root::of_tree(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let of = |examples: u32| {
            let settings = Settings {
                clients: Some(1),
                examples_per_client: Some(examples),
                device: DeviceSettings {
                    board: Some("nrf52840".to_owned()),
                    ..DeviceSettings::default()
                },
                ..Settings::default()
            };
            Experiment::of_run(&settings, Out::New(None), &root).map(|(experiment, _)| experiment)
        };
        let experiment = of(100).unwrap();
        let group = &experiment.groups[0];
        let board = group.board.as_ref().unwrap();
        let parts = parts(&experiment, group).unwrap();
        let told: u64 = parts.iter().map(|part| part.bytes).sum();
        let (needed, free) = (
            group_bytes(&experiment, group).unwrap(),
            available(group).unwrap(),
        );
        assert_eq!(told, needed + (256 << 10) - free, "{parts:?}");
        assert_eq!(Some(free), free_of_part(board));
        // More than the RAM holds: a list of 784 bytes at most for each, and there are 512 KB.
        let experiment = of(668).unwrap();
        let lists = flash(&experiment, &experiment.groups[0]);
        assert_eq!(lists, Some((668 * 784, 512 << 10)));
        let note = &notes(&experiment).next().unwrap();
        assert!(
            note.contains("lie in its flash, 523712 of 524288"),
            "{note}"
        );
        let refused = of(669).unwrap_err().to_string();
        assert!(
            refused.contains("board nrf52840 has 524288")
                && refused.contains(": 208 bytes are missing"),
            "{refused}"
        );
    }

    #[test]
    fn an_optimizer_keeps_its_models_and_a_bound_one_more() {
        let named = |name: &str| {
            Some(RuleSettings {
                name: Some(name.to_owned()),
                ..RuleSettings::default()
            })
        };
        let with = |optimizer: &str, privacy: Option<&str>| {
            beyond_with(Settings {
                clients: Some(1),
                examples_per_client: Some(2000),
                optimizer: named(optimizer),
                privacy: privacy.and_then(named),
                ..Settings::default()
            })
        };
        let (plain, model) = (with("sgd", None), 4 * 12_730);
        assert_eq!(with("momentum", None), plain + model);
        assert_eq!(with("adam", None), plain + 2 * model);
        assert_eq!(with("sgd", Some("local")), plain + model);
    }

    #[test]
    fn data_and_parameters_beyond_the_reference_count() {
        assert_eq!(beyond(600, 16), 0);
        assert_eq!(beyond(60, 16), 0, "less gives nothing back");
        // An image, its start among the lists, its label, and its place in the order of the examples.
        assert_eq!(beyond(30_000, 16), 29_400 * (784 + 4 + 1 + 4));
        // Parameters, gradients and the integers of the first layer grow with the hidden units.
        assert!(beyond(600, 160) > 4 * 144 * 795);
    }
}
