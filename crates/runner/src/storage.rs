//! Storage of the devices of a run: what the algorithm keeps on them and nobody else has.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use zfl_experiment::{Experiment, require};
use zfl_orchestrator::{Owner, StorageConfig, storage_octets, stored_rounds};
use zfl_run_dir::Resumed;

/// Folder of the devices' storage in the run directory.
const FOLDER: &str = "storage";

/// Storage that the devices of an experiment need; none if the algorithm keeps nothing there.
pub(crate) fn of(experiment: &Experiment) -> Option<StorageConfig> {
    let count = numbers(experiment);
    (count > 0).then(|| StorageConfig {
        dir: experiment.out.join(FOLDER),
        octets: storage_octets(count),
    })
}

/// Numbers that stay on a device.
fn numbers(experiment: &Experiment) -> u32 {
    // A model has far fewer.
    u32::try_from(experiment.personal_numbers()).unwrap_or(u32::MAX)
}

/// Sets the folder of the devices' storage.
pub(crate) fn place(config: &mut StorageConfig, run_dir: &Path) {
    config.dir = run_dir.join(FOLDER);
}

/// Checks that the storage of each device has the state that a run goes on from.
///
/// # Errors
/// A refusal with the devices whose has not.
pub(crate) fn check(experiment: &Experiment, run: &Path, resumed: &Resumed) -> Result<()> {
    let Some(mut config) = of(experiment) else {
        return Ok(());
    };
    place(&mut config, run);
    let kept = resumed.complete.kept_rounds(run);
    let lacking = kept
        .map(|kept| lacking(experiment, &config, resumed, kept))
        .context("the state of the clients")?;
    require(lacking.is_empty(), || {
        format!(
            "{} is not as the devices wrote it ({}): put it back from a copy, or do the run anew",
            config.dir.display(),
            lacking.join(", ")
        )
    })?;
    Ok(())
}

/// Files that lack the state of their device.
fn lacking(
    experiment: &Experiment,
    config: &StorageConfig,
    resumed: &Resumed,
    kept: BTreeMap<u32, u32>,
) -> Vec<String> {
    let mut lacking = Vec::new();
    for (client, round) in kept {
        let has_disk = experiment.group(client).is_some_and(|group| {
            let board = group.board.as_ref();
            board.is_none_or(|board| board.storage.is_some())
        });
        let is_gone = resumed.complete.gone.contains_key(&client);
        if round == 0 || !has_disk || is_gone {
            continue;
        }
        let owner = Owner {
            client,
            seed: experiment.seed,
            rule: experiment.strategy.algorithm.device.rule,
            count: numbers(experiment),
        };
        let stored = stored_rounds(config, owner);
        if !stored.is_ok_and(|mut rounds| rounds.any(|stored| stored == round)) {
            lacking.push(format!("{client}.img: nothing of round {round}"));
        }
    }
    lacking
}
