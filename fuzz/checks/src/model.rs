//! Models that `zfl export` has written as safetensors, read back.

use crate::seeds::complete;
use crate::{Verdict, folder, run_dir};
use fl_data::Dataset;
use std::fs;
use zfl_export::{Export, Format, SavedModel};
use zfl_run_dir::{Event, Record, RunDir};

pub(crate) fn check(input: &[u8]) -> Verdict {
    let folder = folder([("model.safetensors", input)]);
    let saved = SavedModel::of_file(&folder.path().join("model.safetensors"));
    if let Ok(SavedModel {
        model,
        params,
        about,
    }) = &saved
    {
        assert_eq!(params.len(), model.shape().num_params());
        assert_eq!(model.shape().num_inputs(), about.layers[0]);
        let arithmetic = about.arithmetic().expect("a model that was read has one");
        let example = Dataset {
            inputs: vec![255; model.shape().num_inputs()],
            labels: vec![0],
            num_inputs: model.shape().num_inputs(),
            num_classes: model.shape().num_classes(),
        };
        let _ = zfl_aggregator::evaluate(model, params, &example, arithmetic);
    }
    Verdict::of(&saved)
}

/// Seeds: a model whole, and damaged in its head, its facts and its numbers.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let whole = exported();
    let head = usize::from(whole[0]) + 256 * usize::from(whole[1]);
    let flipped = |at: usize| {
        let mut octets = whole.clone();
        octets[at] ^= 1;
        octets
    };
    let text = String::from_utf8_lossy(&whole[8..8 + head]).into_owned();
    let huge = text.replace("[2,2]", "[9999,9999]");
    let huge = [
        &(huge.len() as u64).to_le_bytes()[..],
        huge.as_bytes(),
        &whole[8 + head..],
    ]
    .concat();
    vec![
        ("torn-head", whole[..6].to_vec()),
        ("torn-numbers", whole[..whole.len() - 3].to_vec()),
        ("hostile-head-length", flipped(7)),
        ("hostile-layers", huge),
        ("hostile-number", flipped(whole.len() - 1)),
        ("valid-model", whole),
    ]
}

/// The file that a run of one round exports.
fn exported() -> Vec<u8> {
    let folder = folder([]);
    let mut run = RunDir::create(folder.path()).expect("a run directory");
    let mut events = run.events().expect("a file");
    let config = "seed = 3\nlayers = [2, 2]\nactivation = 'relu'\narithmetic = 'float'\n";
    fs::write(folder.path().join("config.toml"), config).expect("a file");
    zfl_run_dir::Meta::default()
        .save(folder.path())
        .expect("a file");
    events.append(&Record {
        time_ms: 0,
        at: "2026-11-26T12:00:00.000Z".into(),
        event: Event::ClientReady { client: 0 },
    });
    complete(&mut run, 0, &events);
    assert_eq!(
        run_dir::model().shape().num_params(),
        6,
        "the layers of the file above"
    );
    let files = Export::of(folder.path()).and_then(|run| run.files(&[Format::Safetensors]));
    let mut files = files.expect("an export");
    files.remove(0).bytes
}
