//! The check of a device's capabilities when it joins: what cannot work is refused before a round.

use crate::shared::Shared;
use fl_algo::{InputsIn, list_bytes};

/// Checks that a device can take part in the experiment.
///
/// # Errors
/// The reason, for a person: the codec, the rule or the bytes that it lacks.
pub(crate) fn check(shared: &Shared, query: &fl_proto::Query) -> Result<(), String> {
    let config = &shared.config;
    for encoding in [config.encoding_up, config.encoding_down] {
        let name = encoding.codec().name();
        if !query.speaks(name) {
            return Err(format!(
                "the device has no codec {name}, the experiment needs it"
            ));
        }
    }
    let rule = config.rule();
    if !query.has_rule(&rule) {
        return Err(format!(
            "the device has no rule {rule}, the experiment needs it"
        ));
    }
    if !config.optimizer.is_plain() && !query.understands("optimizer") {
        return Err("the device has plain SGD alone, the experiment needs another optimizer: build its firmware \
                    from this zfl"
            .to_owned());
    }
    if config.privacy.is_some() && !query.understands("privacy") {
        return Err("the device cannot bound its update, which privacy asks for: build its firmware from this zfl"
            .to_owned());
    }
    let Some(memory) = query.memory else {
        return Ok(());
    };
    if let Some(cluster) = query.client.and_then(|id| shared.cluster(id)) {
        let needed = config.gateway_memory(cluster.len() as u32).total();
        return match needed > memory {
            true => Err(format!(
                "the sums of {} clients need {needed} bytes, {memory} are free: {} are missing",
                cluster.len(),
                needed - memory
            )),
            false => Ok(()),
        };
    }
    // Who has not wished for an ID may get any: the least that one of them needs.
    let clients = match query.client {
        Some(client) if client < config.clients => client..client + 1,
        _ => 0..config.clients,
    };
    let holds_out = query.can_evaluate();
    let examples = |client| {
        let held = if holds_out {
            config.holdout(client).len()
        } else {
            0
        };
        (shared.partition.indices(client as usize).len() + held) as u32
    };
    let inputs = match query.flash {
        Some(_) => InputsIn::Flash,
        None => InputsIn::Ram,
    };
    let needs = |client| {
        let examples = examples(client);
        let ram = config.memory_bytes(client, examples, inputs).ok()?;
        Some((ram, list_bytes(&config.model, examples)))
    };
    let (ram, lists) = clients.filter_map(needs).min().unwrap_or_default();
    let has_room = |what: &str, needed: u64, free: u64| match needed.checked_sub(free) {
        None | Some(0) => Ok(()),
        Some(missing) => Err(format!(
            "{what} need {needed} bytes, {free} are free: {missing} are missing"
        )),
    };
    has_room("model, data and training", ram, memory)?;
    query
        .flash
        .map_or(Ok(()), |flash| has_room("examples in flash", lists, flash))
}
