//! Run directories, torn or forged: replayed, and resumed. The input is an archive of the files.

use crate::archive::unpack;
use crate::{Verdict, folder};
use fl_nn::{Activation, Model, Shape};
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

/// The model of all runs here: small, so that an archive is.
pub(crate) fn model() -> Model {
    let shape = Shape::new(&[2, 2]).expect("a shape");
    Model::new(shape, Activation::Relu)
}

pub(crate) fn check(input: &[u8]) -> Verdict {
    let files = unpack(input).into_iter();
    let run = folder(files.filter(|(name, _)| FILES.contains(name)));
    let run = run.path();
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
