//! `zfl export` and `zfl eval`: what a run found is what its files and its model say elsewhere.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use support::{finish, folder, zfl};

const TABLE: &str = "x,y,label,split\n0,9,no,train\n1,8,no,train\n8,1,yes,train\n9,0,yes,train\n0,8,no,test\n9,1,yes,test\n";

#[track_caller]
fn done(command: &mut Command) {
    let said = finish(command);
    assert_eq!(said.status, Some(0), "{}", said.err);
}

fn run(data: &str, out: &Path) -> serde_json::Value {
    let mut command = zfl();
    command.args([
        "run",
        "--body",
        "native",
        "--clients",
        "2",
        "--rounds",
        "2",
        "--data",
        data,
    ]);
    command.args(["--hidden", "4", "--out"]).arg(out);
    done(&mut command);
    serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn a_model_is_worth_the_same_wherever_it_is_read_from() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("mine.csv"), TABLE).unwrap();
    let data = at("mine.csv").to_str().unwrap().to_owned();
    let summary = run(&data, &at("run"));
    let export = || {
        let mut command = zfl();
        command.arg("export").arg(at("run"));
        command
    };
    done(&mut export());
    let again = finish(&mut export());
    assert!(
        again.status == Some(2) && again.err.contains("--force"),
        "{}",
        again.err
    );
    done(export().args(["--force", "--format", "safetensors,csv"]));
    let eval = |model: &str, data: &str| {
        let mut command = zfl();
        command.arg("eval").arg(at(model)).args(["--data", data]);
        finish(&mut command)
    };
    let accuracy = summary["final_accuracy"].as_f64().unwrap();
    let loss = summary["final_loss"].as_f64().unwrap();
    for model in [
        "run",
        "run/model.safetensors",
        "run-export/model.safetensors",
    ] {
        let said = eval(model, &data);
        assert_eq!(said.status, Some(0), "{}", said.err);
        for part in [
            format!("accuracy   {accuracy:.4}"),
            format!("loss       {loss:.6}"),
            summary["model_sha256"].as_str().unwrap().to_owned(),
        ] {
            assert!(said.out.contains(&part), "{part}: {}", said.out);
        }
    }
    let other = at("other.csv");
    fs::write(&other, TABLE.replace("x,y", "x,z")).unwrap();
    let octets = at("octets");
    fs::create_dir(&octets).unwrap();
    for (name, count) in [("train", 4u8), ("t10k", 2)] {
        let images = [
            &[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 2][..],
            &[9; 16][..4 * usize::from(count)],
        ];
        let labels = [
            &[0, 0, 8, 1, 0, 0, 0, count][..],
            &[0, 1, 0, 1][..usize::from(count)],
        ];
        fs::write(
            octets.join(format!("{name}-images-idx3-ubyte")),
            images.concat(),
        )
        .unwrap();
        fs::write(
            octets.join(format!("{name}-labels-idx1-ubyte")),
            labels.concat(),
        )
        .unwrap();
    }
    for (data, why) in [
        ("zfl:digits", "digits has 64 inputs, and the model takes 4"),
        // As wide as two scaled columns, and no octets of theirs.
        (
            octets.to_str().unwrap(),
            "has scales of 0 columns, and the model of 2",
        ),
        (other.to_str().unwrap(), "give data with the same ones"),
    ] {
        let said = eval("run", data);
        assert!(
            said.status == Some(2) && said.err.contains(why),
            "{}",
            said.err
        );
    }
}
