//! The files of a run directory: written whole or not at all, and read back to the bit.

use fl_nn::{Activation, Init, Model, Shape};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zfl_run_dir::{
    ClientRecord, CompleteRound, Event, PARTITION, RoundEnd, RoundRecord, RunClock, RunDir, Seal,
    StatePart,
};

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
    run.replace("summary.json", b"1\n").unwrap();
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

/// Ends a round of a run.
fn complete(run: &mut RunDir, round: u32, params: &[f32]) {
    let record = RoundRecord {
        round,
        ..RoundRecord::default()
    };
    let gone = ClientRecord::without_update(round, 1, 600, "it crashed".into());
    run.round(&record, &[gone]).unwrap();
    let mut state = run.state().clone();
    let part = StatePart {
        text: String::new(),
        round,
        numbers: [("step".to_owned(), 0.1)].into(),
        vectors: [("momentum".to_owned(), vec![0.5; 3])].into(),
    };
    state.write("rule", &part).unwrap();
    let mut log = run.events().unwrap();
    let clock = RunClock::new(Duration::ZERO);
    log.append(&clock.stamp(Event::RoundFinished { record }));
    let end = RoundEnd {
        round,
        gone: [(1, "it crashed".to_owned())].into(),
        events: log.seal(),
        state,
    };
    run.complete(end, &model(), params).unwrap();
}

#[test]
fn a_model_is_read_back_to_the_bit_and_only_in_its_own_shape() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(dir.path()).unwrap();
    let params = params();
    complete(&mut run, 5, &params);
    let read = || RunDir::read_model(dir.path(), &model());
    assert_eq!(read().unwrap(), (params, 5));

    let path = dir.path().join(RunDir::MODEL);
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
    assert!(RunDir::read_model(dir.path(), &other).is_err());
    for len in 0..bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(read().is_err(), "cut at {len}");
    }
    // Of a parameter a file vouches for every bit by itself.
    let mut turned = bytes.clone();
    *turned.last_mut().unwrap() ^= 1;
    fs::write(&path, turned).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("model.safetensors is damaged"), "{error}");
}

#[test]
fn the_same_model_gives_the_same_file() {
    let params = params();
    let file = |_| {
        let dir = tempfile::tempdir().unwrap();
        let mut run = RunDir::create(dir.path()).unwrap();
        complete(&mut run, 1, &params);
        fs::read(dir.path().join(RunDir::MODEL)).unwrap()
    };
    let files: BTreeSet<Vec<u8>> = (0..20).map(file).collect();
    assert_eq!(files.len(), 1, "different bytes for one model");
}

/// A run that was broken off in round 4: rows, an event and a part of the state of that round are there.
fn broken_off() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(dir.path()).unwrap();
    run.keep(PARTITION, b"client,0,1\n0,3,4\n").unwrap();
    run.keep("inputs/phones.json", b"{}").unwrap();
    for round in 0..4 {
        let params = params().into_iter().map(|param| param + round as f32);
        complete(&mut run, round, &params.collect::<Vec<_>>());
    }
    let record = RoundRecord {
        round: 4,
        ..RoundRecord::default()
    };
    run.round(&record, &[]).unwrap();
    let clock = RunClock::new(Duration::ZERO);
    let mut log = run.events().unwrap();
    log.append(&clock.stamp(Event::ClientReady { client: 0 }));
    let mut state = run.state().clone();
    let part = StatePart {
        text: String::new(),
        round: 4,
        ..StatePart::default()
    };
    state.write("rule", &part).unwrap();
    dir
}

/// State of a run that was resumed: its facts, its tables and what its algorithm goes on with.
fn resumed(run: &Path) -> anyhow::Result<impl PartialEq + use<>> {
    let from = RunDir::broken_off(run, &model())?;
    let dir = RunDir::resume(run, &from.complete)?;
    dir.state().tidy()?;
    let bits: Vec<u32> = from.params.iter().map(|param| param.to_bits()).collect();
    let file = |name: &str| fs::read(run.join(name)).unwrap();
    let files = from
        .complete
        .files
        .keys()
        .map(|name| (name.clone(), file(name)));
    let files: Vec<_> = files.collect();
    Ok((
        from.round,
        bits,
        from.table,
        from.complete,
        dir.state().read()?,
        files,
    ))
}

/// All files of a folder, by name.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let each = entries.flat_map(|path| match path.is_dir() {
        true => files(&path),
        false => vec![(path.clone(), fs::read(&path).unwrap())],
    });
    each.collect()
}

/// Damaged forms of a file: a bit turned, an end cut off, something more, nothing.
fn damaged(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let step = (bytes.len() / 16).max(1);
    let places = (0..bytes.len()).step_by(step);
    let turned = places.clone().map(|at| {
        let mut other = bytes.to_vec();
        other[at] ^= 1 << (at % 8);
        Some(other)
    });
    let cut = places.map(|end| Some(bytes[..end].to_vec()));
    let more = [None, Some([bytes, b"x"].concat())];
    turned.chain(cut).chain(more).collect()
}

#[test]
fn a_run_goes_on_from_what_was_written_or_says_what_is_damaged() {
    let run = broken_off();
    let run = run.path();
    let intact = files(run);
    let expected = resumed(run).unwrap();
    let put_back = || {
        for (file, bytes) in &intact {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
    };
    let (mut refused, mut resumable) = (0, 0);
    for (file, bytes) in &intact {
        let name = file.file_name().unwrap().to_str().unwrap();
        for other in damaged(bytes) {
            put_back();
            match other {
                Some(bytes) => fs::write(file, bytes).unwrap(),
                None => fs::remove_file(file).unwrap(),
            }
            let said = zfl_run_dir::damage(run);
            match resumed(run) {
                Ok(found) => {
                    assert!(found == expected, "{name}");
                    assert!(said.is_empty(), "{name}: {said:?}");
                    resumable += 1;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    let named = error.contains(name) || error.contains("no complete round");
                    assert!(named && error.contains("anew: zfl run"), "{name}: {error}");
                    refused += 1;
                }
            }
        }
    }
    // What came after the last complete round is done again, and may be anything.
    assert!(refused > 200 && resumable > 8, "{refused}, {resumable}");
}

#[test]
fn a_run_of_a_zfl_with_other_columns_is_refused() {
    let tables = ["rounds.csv", "clients.csv", "traffic.csv"];
    for name in tables {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path()).unwrap();
        drop(run.events().unwrap());
        let table = dir.path().join(name);
        let head = fs::read_to_string(&table).unwrap();
        fs::write(&table, head.replacen("round,", "round,gone,", 1)).unwrap();
        let file = |name: &str| (name.to_owned(), fs::read(dir.path().join(name)).unwrap());
        let files = tables.into_iter().chain(["events.jsonl"]).map(file);
        let begun = CompleteRound {
            files: files
                .map(|(name, bytes)| (name, Seal::of(&bytes)))
                .collect(),
            ..CompleteRound::default()
        };
        let mut run = RunDir::resume(dir.path(), &begun).unwrap();
        complete(&mut run, 0, &params());
        let error = RunDir::broken_off(dir.path(), &model()).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains(&format!("{name} has other columns")),
            "{error}"
        );
    }
}

#[test]
fn a_kill_at_any_step_of_a_round_leaves_one_round_or_the_next() {
    let whole = broken_off();
    // Between the checkpoint and the model of a round the model of the round before is there.
    let before = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(before.path()).unwrap();
    for round in 0..3 {
        let params = params().into_iter().map(|param| param + round as f32);
        complete(&mut run, round, &params.collect::<Vec<_>>());
    }
    let model_of_2 = fs::read(before.path().join(RunDir::MODEL)).unwrap();
    fs::write(whole.path().join(RunDir::MODEL), model_of_2).unwrap();
    let part = "state/rule-2.safetensors";
    fs::copy(before.path().join(part), whole.path().join(part)).unwrap();
    let from = RunDir::broken_off(whole.path(), &model()).unwrap();
    assert_eq!((from.round, from.table.len()), (2, 3));
    let mut run = RunDir::resume(whole.path(), &from.complete).unwrap();
    complete(&mut run, 3, &params());
    let from = RunDir::broken_off(whole.path(), &model()).unwrap();
    assert_eq!((from.round, from.params), (3, params()));
    assert_eq!(from.complete.gone[&1], "it crashed");
}
