//! Run directories, torn or forged: replayed, and resumed. The input is an archive of the files; of those that
//! its file `links` names, links to a file outside.

use crate::archive::unpack;
use crate::{Verdict, folder};
use fl_nn::{Activation, Model, Shape};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use zfl_run_dir::{RunDir, RunHistory, damage, replay};

/// Files that a run writes; an archive may hold these only.
const FILES: [&str; 13] = [
    "checkpoint.json",
    "clients.csv",
    "config.toml",
    "events.jsonl",
    "meta.json",
    "model.safetensors",
    "partition.csv",
    "rounds.csv",
    "state/client-0-1.safetensors",
    "state/rule-0.safetensors",
    "state/rule-1.safetensors",
    "summary.json",
    "traffic.csv",
];

/// Content of the file outside.
const VICTIM: &[u8] = b"precious\n";

/// The model of all runs here: small, so that an archive is.
pub(crate) fn model() -> Model {
    let shape = Shape::new(&[2, 2]).expect("a shape");
    Model::new(shape, Activation::Relu)
}

pub(crate) fn check(input: &[u8]) -> Verdict {
    let (files, links): (Vec<_>, Vec<_>) = unpack(input)
        .into_iter()
        .filter(|(name, _)| *name == "links" || FILES.contains(name))
        .partition(|(name, _)| *name != "links");
    let (run, outside) = (folder(files), folder([("victim", VICTIM)]));
    let victim = outside.path().join("victim");
    for name in links
        .into_iter()
        .flat_map(|(_, names)| names.split(|octet| *octet == b'\n'))
    {
        let name = std::str::from_utf8(name).unwrap_or_default();
        if FILES.contains(&name) {
            let _ = fs::remove_file(run.path().join(name));
            let _ = symlink(&victim, run.path().join(name));
        }
    }
    let verdict = resume(run.path());
    assert_eq!(
        fs::read(&victim).ok().as_deref(),
        Some(VICTIM),
        "a link led out of the run"
    );
    verdict
}

fn resume(run: &Path) -> Verdict {
    let _ = (replay(run), damage(run));
    let Ok(broken_off) = RunDir::broken_off(run, &model()) else {
        return Verdict::Refused;
    };
    let round = broken_off.round;
    assert_eq!(broken_off.params.len(), model().shape().num_params());
    assert_eq!(broken_off.table.last().map(|last| last.round), Some(round));
    let Ok(resumed) = RunDir::resume(run, &broken_off.complete) else {
        return Verdict::Refused;
    };
    let state = resumed.state().clone();
    drop(resumed);
    // A run that was resumed and did nothing is the same run.
    let again = RunDir::broken_off(run, &model()).expect("what was resumed can be resumed");
    assert_eq!(again.round, round);
    assert_eq!(bits(&again.params), bits(&broken_off.params));
    assert_eq!(again.table.len(), broken_off.table.len());
    assert_eq!(again.failures.len(), broken_off.failures.len());
    assert_eq!(again.complete, broken_off.complete);
    let _ = RunHistory::of(run, &again);
    if let Ok(parts) = state.read() {
        state.tidy().expect("what was read can be tidied up");
        let tidy = state.read().expect("what was tidied up can be read");
        assert!(tidy.keys().eq(parts.keys()));
    }
    if let Ok(fold) = replay(run) {
        assert!(!fold.is_over());
    }
    Verdict::Accepted
}

fn bits(params: &[f32]) -> Vec<u32> {
    params.iter().map(|param| param.to_bits()).collect()
}
