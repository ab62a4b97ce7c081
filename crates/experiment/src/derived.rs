//! Values of an experiment that follow from several keys, and refusals of keys that do not go together.

use crate::keys::spread::Spread;
use crate::refusal::{Refusal, require};
use crate::rule::{Hiding, Optimizing, Scheduling, Strategy};
use crate::settings::Settings;
use fl_algo::{Choice, ServerRule};
use fl_data::Splits;
use fl_nn::{Activation, MAX_WIDTH, Model, Shape};
use fl_proto::Arithmetic;
use zfl_aggregator::{LocalOptimizer, Mechanism, PartialWork, Weighting};

/// Weights of the updates; under central privacy all weigh the same.
pub(crate) fn weighting(settings: &Settings, privacy: Option<&Hiding>) -> Weighting {
    let mechanism = privacy.map(|hiding| hiding.privacy().mechanism);
    settings.weighting.unwrap_or(match mechanism {
        Some(Mechanism::Central(_)) => Weighting::Uniform,
        _ => Weighting::NumExamples,
    })
}

/// The schedule of the rate over these rounds.
pub(crate) fn schedule(
    settings: &Settings,
    rounds: u32,
    learning_rate: Spread<f32>,
) -> Result<Scheduling, Refusal> {
    let mut schedule = Scheduling::resolve(settings.schedule.as_ref())?;
    schedule.0.settle(rounds);
    let (least, highest) = (schedule.least_rate(), learning_rate.most());
    require(least as f32 <= highest, || {
        format!(
            "schedule: min_lr = {least} is above the learning rate, {highest}: lower it, or raise --lr"
        )
    })?;
    Ok(schedule)
}

/// Refuses an optimizer under which the algorithm would take the steps for what they are not.
pub(crate) fn fits_optimizer(
    strategy: &Strategy,
    rule: &dyn ServerRule,
    optimizer: &Optimizing,
) -> Result<(), Refusal> {
    let Some(momentum) = rule.assumed_momentum() else {
        return Ok(());
    };
    let expected = LocalOptimizer {
        rule: match momentum as f32 {
            0.0 => fl_nn::Optimizer::Sgd,
            momentum => fl_nn::Optimizer::Momentum { momentum },
        },
        ..LocalOptimizer::default()
    };
    require(optimizer.local() == expected, || {
        let wanted = match momentum {
            0.0 => "--optimizer sgd".to_owned(),
            momentum => format!("--optimizer momentum with momentum={momentum}"),
        };
        format!(
            "strategy {} reckons with the steps of SGD, and those of optimizer {optimizer} are others: take {wanted}, \
             without weight_decay and clip_norm, or another --strategy",
            strategy.algorithm.name
        )
    })
}

/// Refuses integer arithmetic for what is not plain SGD on the device.
pub(crate) fn fits_arithmetic(
    arithmetic: Arithmetic,
    strategy: &Strategy,
    optimizer: &Optimizing,
) -> Result<(), Refusal> {
    if arithmetic != Arithmetic::Integer {
        return Ok(());
    }
    require(optimizer.local() == LocalOptimizer::default(), || {
        format!(
            "arithmetic integer trains by plain SGD, and optimizer {optimizer} is not: take --optimizer sgd without \
             weight_decay and clip_norm, or --arithmetic fixed"
        )
    })?;
    let Choice {
        algorithm,
        device_params,
        ..
    } = &strategy.0;
    require(algorithm.device.client.is_plain(device_params), || {
        format!(
            "arithmetic integer trains by plain SGD, and strategy {} changes the gradient on the device: take a strategy \
             that does not, such as fedavg, or --arithmetic fixed",
            algorithm.name
        )
    })
}

/// Updates that a round aims for, and devices asked beyond that.
pub(crate) fn cohort(settings: &Settings, clients: u32) -> Result<(u32, u32), Refusal> {
    let clients_per_round = settings.clients_per_round.unwrap_or(clients);
    let over_commit = settings.over_commit();
    require(clients_per_round <= clients, || {
        format!(
            "{clients_per_round} clients per round of {clients} clients: lower \
             --clients-per-round or raise --clients"
        )
    })?;
    require(
        clients_per_round.saturating_add(over_commit) <= clients,
        || {
            format!(
                "{clients_per_round} clients per round and {over_commit} more of {clients} clients: \
             lower --over-commit or --clients-per-round"
            )
        },
    )?;
    Ok((clients_per_round, over_commit))
}

/// Share of examples held out.
pub(crate) fn holdout(settings: &Settings) -> Result<f64, Refusal> {
    let holdout = settings.holdout();
    require(holdout < 1.0, || {
        "holdout: a device that holds all of its examples out has none to train on: give less than 1"
            .to_owned()
    })?;
    let asks = settings.evaluate_fraction.is_some_and(|share| share > 0.0);
    require(holdout > 0.0 || !asks, || {
        "evaluate_fraction: devices evaluate on examples that they hold out: give --holdout, too, such as 0.2"
            .to_owned()
    })?;
    Ok(holdout)
}

/// Units per layer; those that a file says must be the same.
pub(crate) fn layers_of(
    settings: &Settings,
    hidden: &[u32],
    data: &Splits,
) -> Result<Vec<u32>, Refusal> {
    let layers = layers(hidden, data)?;
    let said = settings.layers.as_ref();
    require(said.is_none_or(|said| *said == layers), || {
        format!(
            "layers = {:?}, but hidden and the data make {layers:?}: give the layers between inputs \
             and classes as `hidden`, and leave `layers` out",
            said.into_iter().flatten().collect::<Vec<_>>()
        )
    })?;
    Ok(layers)
}

/// Updates of a round that count: those of stragglers may be left out.
pub(crate) fn counted(
    settings: &Settings,
    clients_per_round: u32,
    buffer_size: Option<u32>,
) -> Result<u32, Refusal> {
    if !settings.drop_stragglers() {
        return Ok(clients_per_round);
    }
    let waits = buffer_size.is_none() && settings.over_commit() == 0 && !settings.use_late();
    require(waits, || {
        "drop_stragglers is for rounds of one cohort that all end together: leave --over-commit, --use-late and \
         buffers out"
            .to_owned()
    })?;
    let work = PartialWork {
        share: settings.stragglers(),
        is_dropped: true,
    };
    let dropped = work.count(clients_per_round as usize) as u32;
    require(dropped < clients_per_round, || {
        format!(
            "all {clients_per_round} devices of a round would be stragglers, and dropped: lower --stragglers, or \
             leave --drop-stragglers out"
        )
    })?;
    Ok(clients_per_round - dropped)
}

/// Updates without which a round fails, where `buffer_size` may end it before its whole cohort has.
pub(crate) fn quorum(
    settings: &Settings,
    clients_per_round: u32,
    counted: u32,
    buffer_size: Option<u32>,
) -> Result<u32, Refusal> {
    let half = counted.div_ceil(2);
    let usual = half.min(buffer_size.unwrap_or(half));
    let quorum = settings.quorum.unwrap_or(usual);
    require(quorum <= counted, || {
        let dropped = match clients_per_round - counted {
            0 => String::new(),
            dropped => format!(", of whom {dropped} are stragglers that are dropped,"),
        };
        format!(
            "a quorum of {quorum} of {clients_per_round} clients per round{dropped} can never be met: \
             lower --quorum or raise --clients-per-round"
        )
    })?;
    let Some(buffer_size) = buffer_size else {
        return Ok(quorum);
    };
    require(quorum <= buffer_size, || {
        format!(
            "a quorum of {quorum} can never be met where {buffer_size} updates end a round: lower \
             --quorum or raise buffer_size"
        )
    })?;
    require(!settings.use_late(), || {
        "--use-late is for rounds that wait for their cohort, and those of this strategy do not: \
         leave it out"
            .to_owned()
    })?;
    Ok(quorum)
}

/// The model of these layers.
pub(crate) fn model(layers: &[u32], activation: Activation) -> Result<Model, Refusal> {
    let inputs = layers.first().copied().unwrap_or(0) as usize;
    require(inputs <= MAX_WIDTH, || {
        format!(
            "the images have {inputs} pixels, and a model has at most {MAX_WIDTH} inputs: make the images smaller, \
             such as 28 x 28, and give that data set with --data"
        )
    })?;
    let sizes: Vec<_> = layers.iter().map(|&size| size as usize).collect();
    let shape = Shape::new(&sizes)
        .map_err(|error| Refusal(format!("a network of {layers:?}: {error}; change --hidden")))?;
    let (params, most) = (shape.num_params(), fl_proto::MAX_PARAMS);
    require(params <= most as usize, || {
        format!("a network of {params} parameters, a message holds {most}: lower --hidden")
    })?;
    Ok(Model::new(shape, activation))
}

/// Units per layer, inputs and classes as the data have them.
fn layers(hidden: &[u32], data: &Splits) -> Result<Vec<u32>, Refusal> {
    let size = |size: usize| {
        u32::try_from(size).map_err(|_| Refusal("the examples are too wide: change --data".into()))
    };
    let mut layers = vec![size(data.train.num_inputs)?];
    layers.extend(hidden);
    layers.push(size(data.train.num_classes)?);
    Ok(layers)
}
