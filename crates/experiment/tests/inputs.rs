//! Files that an experiment names by their path: a run keeps copies, and is the same with them.

use std::fs;
use std::path::{Path, PathBuf};
use zfl_experiment::{Experiment, Out, Root, Settings, versions};

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Writes an experiment whose board, links and trace are files of `folder`.
fn write(folder: &Path) -> PathBuf {
    let copy = |from: &str, to: &str| fs::copy(tree().join(from), folder.join(to)).unwrap();
    copy("boards/microvm/board.toml", "board.toml");
    copy("links/wifi.toml", "air.toml");
    fs::create_dir(folder.join("far")).unwrap();
    copy("links/lte-m.toml", "far/air.toml");
    let trace = "{\"unit\":\"rounds\",\"devices\":[{\"client\":0,\"on\":[[2,9]]}]}";
    fs::write(folder.join("phones.json"), trace).unwrap();
    let group = |link: &str| format!("[[fleet]]\ncount = 1\nlink = \"{link}\"\n");
    let text = [
        "data = \"zfl:digits\"\nboard = \"./board.toml\"\nbody = \"bare\"\n",
        "[faults]\ntrace = \"phones.json\"\n",
        &group("./air.toml"),
        &group("far/air.toml"),
        &group("wifi"),
    ];
    let file = folder.join("experiment.toml");
    fs::write(&file, text.concat()).unwrap();
    file
}

fn resolve(file: &Path, out: Out<'_>) -> Experiment {
    let settings = Settings::read(file).unwrap();
    let resolved = Experiment::of_run(&settings, out, &Root::of_tree(tree()));
    resolved.unwrap().0
}

#[test]
fn a_run_is_repeated_with_its_copies_when_the_originals_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (originals, run) = (folder.path().join("a"), folder.path().join("run"));
    fs::create_dir(&originals).unwrap();
    let mut first = resolve(&write(&originals), Out::New(Some(&run)));
    let links = |experiment: &Experiment| {
        let groups = experiment.groups.iter();
        groups.map(|group| group.link).collect::<Vec<_>>()
    };
    let trace = first.trace.clone();
    let copies = first.keep_inputs("inputs/");
    let names: Vec<_> = copies.keys().map(String::as_str).collect();
    let expected = [
        "inputs/2-air.toml",
        "inputs/air.toml",
        "inputs/microvm.board.toml",
        "inputs/phones.json",
    ];
    assert_eq!(names, expected);
    fs::create_dir_all(run.join("inputs")).unwrap();
    for (name, text) in &copies {
        fs::write(run.join(name), text).unwrap();
    }
    let config = run.join("config.toml");
    fs::write(&config, first.to_toml().unwrap()).unwrap();
    fs::remove_dir_all(&originals).unwrap();

    let resumed = resolve(&config, Out::Resumed(&run));
    assert_eq!(resumed.to_toml().unwrap(), first.to_toml().unwrap());
    let moved = folder.path().join("moved");
    fs::rename(&run, &moved).unwrap();
    let new = folder.path().join("new");
    let mut again = resolve(&moved.join("config.toml"), Out::New(Some(&new)));
    for experiment in [&resumed, &again] {
        assert_eq!(links(experiment), links(&first));
        assert_eq!(experiment.trace, trace);
    }
    assert_eq!(again.keep_inputs("inputs/"), copies);
    assert_eq!(again.to_toml().unwrap(), first.to_toml().unwrap());
}

#[test]
fn an_input_that_is_another_now_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path());
    let out = folder.path().join("run");
    let of = || versions::texts(&resolve(&file, Out::New(Some(&out))));
    let before = of();
    assert!(versions::changed_inputs(&before, &of()).is_empty());
    let change = |name: &str| {
        let path = folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "\n").unwrap();
    };
    for (name, input) in [
        ("far/air.toml", "link air.toml"),
        ("board.toml", "board microvm"),
        ("phones.json", "trace"),
    ] {
        let before = of();
        change(name);
        assert_eq!(versions::changed_inputs(&before, &of()), [input]);
    }
}
