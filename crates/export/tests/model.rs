//! Models that leave zfl: to the bit, in every form, and refused where they are damaged.

use fl_nn::{Activation, Model, Shape};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use zfl_export::{Export, File, Format, SavedModel, write};
use zfl_run_dir::{ClientRecord, Meta, RoundEnd, RoundRecord, RunDir, Seal, StateDir};

const LAYERS: [usize; 4] = [5, 4, 3, 3];

fn params() -> Vec<f32> {
    let shape = Shape::new(&LAYERS).unwrap();
    let mut params: Vec<f32> = (0..shape.num_params())
        .map(|n| (n as f32 * 0.37).sin() / 3.0)
        .collect();
    params[0] = -0.0;
    params[1] = f32::MIN_POSITIVE / 8.0;
    params[2] = 1.0e-38;
    params
}

/// A run directory with one round, and its folder.
fn run() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut dir = RunDir::create(&path).unwrap();
    let model = Model::new(Shape::new(&LAYERS).unwrap(), Activation::Relu);
    let config = "seed = 3\nlayers = [5, 4, 3, 3]\nactivation = 'relu'\narithmetic = 'float'\n";
    fs::write(path.join("config.toml"), config).unwrap();
    Meta::default().save(&path).unwrap();
    let record = RoundRecord {
        round: 1,
        test_accuracy: Some(0.25),
        metrics: BTreeMap::from([("drift".to_owned(), 0.5)]),
        ..RoundRecord::default()
    };
    let client = ClientRecord::without_update(1, 0, 7, "late".to_owned());
    let event = serde_json::json!({
        "time_ms": 500, "at": "2026-01-02T03:04:05.500Z", "event": "round_finished",
    });
    let mut line = event.as_object().unwrap().clone();
    line.extend(
        serde_json::to_value(&record)
            .unwrap()
            .as_object()
            .unwrap()
            .clone(),
    );
    let events = format!("{}\n", serde_json::Value::Object(line));
    fs::write(path.join("events.jsonl"), &events).unwrap();
    dir.round(&record, &[client]).unwrap();
    let end = RoundEnd {
        round: 1,
        gone: BTreeMap::new(),
        events: Seal::of(events.as_bytes()),
        state: StateDir::of(&path),
    };
    dir.complete(end, &model, &params()).unwrap();
    folder
}

fn export(folder: &TempDir) -> Vec<File> {
    let run = folder.path().join("run");
    Export::of(&run).unwrap().files(&Format::ALL).unwrap()
}

fn put(folder: &TempDir) -> std::path::PathBuf {
    let out = folder.path().join("out");
    write(&export(folder), &out, false).unwrap();
    out
}

fn bits(params: &[f32]) -> Vec<u32> {
    params.iter().map(|param| param.to_bits()).collect()
}

#[test]
fn safetensors_are_read_back_to_the_bit_and_carry_what_is_needed() {
    let folder = run();
    let out = put(&folder);
    let of_run = SavedModel::of_run(&folder.path().join("run")).unwrap();
    let of_file = SavedModel::of_file(&out.join("model.safetensors")).unwrap();
    assert_eq!(of_run, of_file);
    assert_eq!(bits(&of_file.params), bits(&params()));
    assert_eq!((of_file.about.seed, of_file.about.round), (Some(3), 1));
    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let first = tensors.tensor("0.weight").unwrap();
    assert_eq!(
        first.shape(),
        [4, 5],
        "outputs, inputs: as torch.nn.Linear has them"
    );
    // Row 0, column 1 is the weight from input 1 to unit 0.
    assert_eq!(first.data()[4..8], params()[4].to_le_bytes());
    assert_eq!(tensors.tensor("4.bias").unwrap().shape(), [3]);
}

#[test]
fn an_export_repeats_and_replaces_nothing_without_being_told() {
    let folder = run();
    let out = put(&folder);
    assert_eq!(export(&folder), export(&folder));
    let names: Vec<_> = export(&folder).into_iter().map(|file| file.name).collect();
    for name in [
        "csv/rounds.csv",
        "run.json",
        "parquet/clients.parquet",
        "tensorboard/events.out.tfevents.1767323045.zfl",
        "model.h",
    ] {
        assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
    }
    fs::write(out.join("run.json"), "mine").unwrap();
    let again = write(&export(&folder), &out, false)
        .unwrap_err()
        .to_string();
    assert!(again.contains("--force"), "{again}");
    assert_eq!(fs::read_to_string(out.join("run.json")).unwrap(), "mine");
    write(&export(&folder), &out, true).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(json["tables"]["rounds"][0]["metrics.drift"], 0.5);
    assert_eq!(json["tables"]["clients"][0]["outcome"], "late");
}

#[test]
fn damaged_runs_and_models_are_refused() {
    let folder = run();
    let path = folder.path().join("run");
    let refused = |why: &str| {
        let error = Export::of(&path).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
    };
    let spoil = |name: &str, why: &str| {
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        let mut other = whole.clone();
        let last = other.len() - 2;
        other[last] ^= 1;
        fs::write(&file, other).unwrap();
        refused(why);
        fs::write(&file, whole).unwrap();
    };
    spoil("model.safetensors", "model.safetensors");
    spoil("rounds.csv", "rounds.csv");
    Export::of(&path).unwrap();
    fs::remove_file(path.join("rounds.csv")).unwrap();
    refused("rounds.csv");
    assert!(Export::of(folder.path()).is_err(), "no run");
    let model = put_model(&run());
    for at in [0, 100, model.len() / 2, model.len() - 1] {
        let mut other = model.clone();
        other[at] ^= 1;
        let file = folder.path().join("other.safetensors");
        fs::write(&file, &other).unwrap();
        assert!(SavedModel::of_file(&file).is_err(), "octet {at}");
        fs::write(&file, &model[..at]).unwrap();
        assert!(SavedModel::of_file(&file).is_err(), "cut at {at}");
    }
}

fn put_model(folder: &TempDir) -> Vec<u8> {
    fs::read(put(folder).join("model.safetensors")).unwrap()
}

/// Prints the bits of all parameters, in order.
const MAIN_RS: &str = r#"
include!("model.rs");
fn main() {
    assert_eq!((LAYERS, ACTIVATION), ([5, 4, 3, 3], "relu"));
    let all = [&WEIGHT_0[..], &BIAS_0, &WEIGHT_1, &BIAS_1, &WEIGHT_2, &BIAS_2];
    for number in all.concat() {
        println!("{:08x}", number.to_bits());
    }
}
"#;

const MAIN_C: &str = r#"
#include <stdio.h>
#include <string.h>
#include "model.h"
static void say(const float *numbers, unsigned long count) {
    for (unsigned long i = 0; i < count; i++) {
        unsigned int bits;
        memcpy(&bits, &numbers[i], 4);
        printf("%08x\n", bits);
    }
}
#define SAY(array) say(array, sizeof(array) / sizeof(float))
int main(void) {
    if (ZFL_MODEL_NUM_LAYERS != 3 || zfl_model_layers[0] != 5 || !ZFL_MODEL_ACTIVATION_RELU) return 1;
    SAY(zfl_model_weight_0); SAY(zfl_model_bias_0);
    SAY(zfl_model_weight_1); SAY(zfl_model_bias_1);
    SAY(zfl_model_weight_2); SAY(zfl_model_bias_2);
    return 0;
}
"#;

#[track_caller]
fn said(compiler: &mut Command, program: &Path) -> Vec<u32> {
    let compiled = compiler.arg("-o").arg(program).output().unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let said = Command::new(program).output().unwrap();
    assert!(said.status.success());
    let text = String::from_utf8(said.stdout).unwrap();
    text.lines()
        .map(|line| u32::from_str_radix(line, 16).unwrap())
        .collect()
}

#[test]
fn arrays_of_rust_compile_to_the_same_bits() {
    let folder = run();
    let out = put(&folder);
    fs::write(out.join("main.rs"), MAIN_RS).unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2021"]).arg(out.join("main.rs"));
    assert_eq!(said(&mut rustc, &out.join("main")), bits(&params()));
}

#[test]
fn arrays_of_c_compile_to_the_same_bits() {
    let folder = run();
    let out = put(&folder);
    fs::write(out.join("main.c"), MAIN_C).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-Wall", "-Werror", "-pedantic"])
        .arg(out.join("main.c"));
    assert_eq!(said(&mut cc, &out.join("main")), bits(&params()));
}
