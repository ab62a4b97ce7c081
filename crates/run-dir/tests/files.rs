//! The files of a run directory: written whole or not at all, and read back to the bit.

use fl_nn::{Activation, Init, Model, Shape};
use std::fs;
use std::os::unix::fs::symlink;
use zfl_run_dir::{ClientRecord, ClientRow, Ending, RoundRecord, RunDir};

fn model() -> Model {
    Model::new(Shape::new(&[4, 3, 2]).unwrap(), Activation::Relu)
}

fn params() -> Vec<f32> {
    let mut params = vec![0.0; model().shape().num_params()];
    model().init_params(Init::He, 7, &mut params).unwrap();
    params
}

#[test]
fn a_link_where_a_new_file_would_be_written_first_is_not_followed() {
    let (dir, outside) = (
        tempfile::tempdir().unwrap(),
        tempfile::NamedTempFile::new().unwrap(),
    );
    let run = RunDir::create(dir.path()).unwrap();
    symlink(outside.path(), dir.path().join(".summary.json.new")).unwrap();
    symlink(outside.path(), dir.path().join("summary.json")).unwrap();
    run.json("summary.json", &1).unwrap();
    symlink(outside.path(), dir.path().join("events.jsonl")).unwrap();
    assert!(run.events().is_err());
    assert_eq!(fs::read_to_string(outside.path()).unwrap(), "");
    let place = dir.path().join("summary.json");
    assert!(place.symlink_metadata().unwrap().is_file());
}

#[test]
fn results_are_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/run");
    RunDir::create(&path).unwrap();
    let error = RunDir::create(&path).unwrap_err().to_string();
    assert!(
        error.contains("not empty") && error.contains("--out"),
        "{error}"
    );
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(format!("{:#}", RunDir::create(&file).unwrap_err()).contains("file"));
}

#[test]
fn a_model_is_read_back_to_the_bit_and_only_in_its_own_shape() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let params = params();
    run.model("m.safetensors", &model(), &params, 5).unwrap();
    let path = dir.path().join("m.safetensors");
    assert_eq!(RunDir::read_model(&path, &model()).unwrap(), (params, 5));

    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape) in [
        ("layers.0.weight", &[4, 3][..]),
        ("layers.0.bias", &[3]),
        ("layers.1.weight", &[3, 2]),
        ("layers.1.bias", &[2]),
    ] {
        assert_eq!(tensors.tensor(name).unwrap().shape(), shape, "{name}");
    }
    let other = Model::new(Shape::new(&[4, 2, 2]).unwrap(), Activation::Relu);
    assert!(RunDir::read_model(&path, &other).is_err());
    for len in 0..bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(RunDir::read_model(&path, &model()).is_err(), "cut at {len}");
    }
}

#[test]
fn the_same_model_gives_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let params = params();
    let files: std::collections::BTreeSet<Vec<u8>> = (0..20)
        .map(|_| {
            run.model("m", &model(), &params, 1).unwrap();
            fs::read(dir.path().join("m")).unwrap()
        })
        .collect();
    assert_eq!(files.len(), 1, "different bytes for one model");
}

#[test]
fn a_table_of_an_older_version_keeps_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    drop(RunDir::create(dir.path()).unwrap());
    for name in ["rounds.csv", "clients.csv"] {
        let path = dir.path().join(name);
        let head = fs::read_to_string(&path).unwrap();
        let (older, newest) = head.rsplit_once(',').unwrap();
        assert!(!newest.is_empty());
        fs::write(&path, format!("{older}\n")).unwrap();
    }
    let mut run = RunDir::reopen(dir.path()).unwrap();
    let client = ClientRecord::without_update(1, 7, 600, "gone".into());
    let round = RoundRecord {
        round: 1,
        metrics: [("drift".to_owned(), 0.5)].into(),
        ..RoundRecord::default()
    };
    run.round(&round, &[client]).unwrap();
    let (rows, ending) = ClientRow::read(dir.path()).unwrap();
    assert_eq!((rows[0].client, ending), (7, Ending::Whole));
    let rounds = csv::Reader::from_path(dir.path().join("rounds.csv")).unwrap();
    let rounds: Vec<RoundRecord> = rounds.into_deserialize().collect::<Result<_, _>>().unwrap();
    assert_eq!((rounds[0].round, rounds[0].metrics.len()), (1, 0));
}
