//! Data of the user's own, and what each device gets of them, before a run and in its directory.

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use support::{Run, Said, finish, folder, zfl};

const NATIVE: [&str; 6] = ["--body", "native", "--rounds", "2", "--dashboard", "off"];

/// Sixty examples of three clients, of two classes that one feature tells apart.
fn table(folder: &Path) -> String {
    let mut text = "noise,client,reading,label\n".to_owned();
    for at in 0..60 {
        let class = ["off", "on"][at / 5 % 2];
        let reading = if class == "on" { 40.0 } else { -40.0 } + at as f64 / 7.0;
        text += &format!(
            "{},{},{reading},{class}\n",
            at % 7,
            ["ann", "bob", "cy"][at % 3]
        );
    }
    let file = folder.join("readings.csv");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn read(run: &Run, name: &str) -> String {
    fs::read_to_string(run.out().join(name)).unwrap()
}

fn show(arguments: &[&str]) -> Said {
    finish(zfl().args(["data", "show"]).args(arguments))
}

/// The run is refused before anything is made, and says these words.
#[track_caller]
fn is_refused(arguments: &[&str], words: &str) {
    let run = Run::of(&[&NATIVE[..], arguments].concat());
    assert_eq!(run.said.status, Some(2), "{run:?}");
    assert!(run.said.err.contains(words), "{}", run.said.err);
    assert!(!run.out().exists());
}

#[test]
fn a_table_is_split_by_its_clients_and_its_scales_are_kept() {
    let folder = folder();
    let data = table(folder.path());
    let split = ["--data", &data, "--partition", "natural"];
    let run = Run::of(&[&NATIVE[..], &split].concat());
    assert_eq!(run.said.status, Some(0), "{run:?}");
    let partition = read(&run, "partition.csv");
    assert_eq!(partition.lines().count(), 1 + 3, "{partition}");
    let scaling: Value = serde_json::from_str(&read(&run, "scaling.json")).unwrap();
    assert_eq!(scaling["classes"], serde_json::json!(["off", "on"]));
    assert_eq!(scaling["columns"][1]["name"], "reading");
    let checkpoint = read(&run, "checkpoint.json");
    assert!(
        checkpoint.contains("scaling.json"),
        "it is sealed: {checkpoint}"
    );

    let shown = show(&[&split[..], &["--csv", "--body", "native"]].concat());
    assert_eq!(shown.out, partition);
    let shown = show(&[&split[..], &["--body", "native"]].concat());
    let words = ["ann", "cy", "3 devices by natural", "of 2 classes a device"];
    assert!(
        words.iter().all(|word| shown.out.contains(word)),
        "{}",
        shown.out
    );
}

#[test]
fn a_file_of_indices_says_who_has_what_and_goes_with_the_run() {
    let folder = folder();
    let indices = folder.path().join("mine.txt");
    fs::write(&indices, "# two devices\n0 1 2 3\n10,11\n").unwrap();
    let file = indices.to_str().unwrap();
    let data = ["--data", "digits", "--partition-file", file];
    let run = Run::of(&[&NATIVE[..], &data, &["--partition", "natural"]].concat());
    assert_eq!(run.said.status, Some(0), "{run:?}");
    assert!(read(&run, "partition.csv").contains("\n1,2,"));
    assert!(read(&run, "config.toml").contains("data = \"zfl:digits\""));
    fs::remove_file(&indices).unwrap();
    let config = run.out().join("config.toml");
    let again = Run::of(&[config.to_str().unwrap(), "--dashboard", "off"]);
    assert_eq!(
        (again.said.status, again.model()),
        (Some(0), run.model()),
        "{again:?}"
    );

    fs::write(&indices, "0\n2000\n").unwrap();
    is_refused(
        &[&data[..], &["--partition", "natural"]].concat(),
        "client 1 has example 2000, and the training set has 1438",
    );
    is_refused(&data, "give --partition natural, or leave the file out");
}

#[test]
fn what_cannot_be_dealt_or_loaded_is_refused_with_the_way_out() {
    let folder = folder();
    let data = table(folder.path());
    let digits = ["--data", "digits", "--clients", "200"];
    for (partition, argument, words) in [
        ("shard", "shards_per_client=9", "lower shards_per_client"),
        ("pathological", "classes_per_client=9", "runs out"),
        ("power-law", "sigma=1", "lower min_per_class"),
        ("exponential", "rate=1", "lower rate"),
    ] {
        let split = ["--partition", partition, "--partition-arg", argument];
        is_refused(&[&digits[..], &split].concat(), words);
    }
    is_refused(
        &["--partition", "natural", "--data", "digits"],
        "column `client`",
    );
    is_refused(
        &["--data", &data, "--partition", "natural", "--clients", "4"],
        "take 3 clients or fewer",
    );
    is_refused(&["--data", "zfl:cifar"], "zfl data list");
    fs::write(folder.path().join("bad.csv"), "x,label\n1,a\nnan,b\n").unwrap();
    let bad = folder.path().join("bad.csv");
    is_refused(
        &["--data", bad.to_str().unwrap()],
        "line 3: column `x`: `nan`",
    );
}

#[test]
fn sets_are_listed_with_their_licences_and_one_that_is_not_here_says_how_to_get_it() {
    let empty = folder();
    let cache =
        |arguments: &[&str]| finish(zfl().args(arguments).env("XDG_CACHE_HOME", empty.path()));
    let listed = cache(&["data", "list"]);
    assert_eq!(listed.status, Some(0), "{listed:?}");
    for words in ["fashion-mnist", "MIT", "BSD 3-Clause", "zfl data get watch"] {
        assert!(listed.out.contains(words), "{}", listed.out);
    }
    let refused = cache(&["run", "--data", "watch", "--body", "native"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(
        refused.err.contains("zfl data get watch"),
        "{}",
        refused.err
    );
    let refused = cache(&["data", "get", "mnist"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    let file = empty.path().join("other.npy");
    fs::write(&file, "not it").unwrap();
    let refused = cache(&["data", "get", "watch", "--from", file.to_str().unwrap()]);
    assert!(refused.err.contains("has the SHA-256"), "{}", refused.err);
}
