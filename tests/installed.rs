//! A zfl without its tree: the program alone, in a folder of somebody else's.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Said, finish, folder, root};
use tempfile::TempDir;

/// A copy of the program in a folder outside the tree.
fn away() -> TempDir {
    let away = tempfile::tempdir().expect("a temporary folder can be made");
    // By another process: whoever is started meanwhile by another test would hold a copy of this one's open for writing.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_zfl"))
        .arg(away.path().join("zfl"))
        .status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "the program is built"
    );
    fs::create_dir(away.path().join("work")).expect("the folder is new");
    away
}

/// The program that was copied, standing in a folder, with nothing of the environment but where programs are.
fn zfl(away: &TempDir, stands: &Path) -> Command {
    let mut zfl = Command::new(away.path().join("zfl"));
    zfl.current_dir(stands).stdin(Stdio::null()).env_clear();
    let path = std::env::var_os("PATH").unwrap_or_default();
    zfl.env("PATH", path).env("HOME", away.path().join("home"));
    zfl
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there").flatten();
    let names = entries.map(|entry| entry.file_name().into_string().expect("names are text"));
    names.collect()
}

#[track_caller]
fn succeeded(said: &Said) {
    assert_eq!(said.status, Some(0), "{said:?}");
}

#[test]
fn a_program_alone_trains_on_what_is_built_in_and_puts_the_run_where_one_stands() {
    let away = away();
    let work = away.path().join("work");
    // Folders that others have, too.
    for name in ["boards", "links", "data", "data/mnist"] {
        fs::create_dir(work.join(name)).unwrap();
    }
    let arguments =
        "run --body native --clients 3 --rounds 3 --examples 400 --batch-size 40 --name night";
    let said = finish(zfl(&away, &work).args(arguments.split(' ')));
    succeeded(&said);
    let notes = said
        .err
        .lines()
        .filter(|line| line.contains("zfl:digits") || line.contains("digits of 8 x 8"));
    assert_eq!(notes.count(), 1, "{said:?}");
    assert_eq!(names(&work.join("runs")), ["night"]);
    assert!(
        !away.path().join("home").exists(),
        "native devices need no firmware"
    );
    let config = fs::read_to_string(work.join("runs/night/config.toml")).unwrap();
    assert!(config.contains("data = \"zfl:digits\""), "{config}");
    let summary = fs::read_to_string(work.join("runs/night/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert!(summary["final_accuracy"].as_f64() > Some(0.6), "{summary}");

    let shown = finish(zfl(&away, &work).args(["devices", "night", "--json"]));
    succeeded(&shown);
    succeeded(&finish(zfl(&away, &work).args(["report", "night"])));
    let again =
        finish(zfl(&away, away.path()).args(["run", "--dry-run", "work/runs/night/config.toml"]));
    succeeded(&again);
    assert_eq!(again.err, "", "the file says which data are meant");
    let model = |run: &str| {
        let config = work.join("runs/night/config.toml");
        succeeded(&finish(
            zfl(&away, &work)
                .arg("run")
                .arg(config)
                .args(["--name", run]),
        ));
        fs::read(work.join("runs").join(run).join("model.safetensors")).unwrap()
    };
    let first = fs::read(work.join("runs/night/model.safetensors")).unwrap();
    assert_eq!(model("again"), first);
}

#[test]
fn boards_and_links_are_built_in_and_missing_firmware_is_told() {
    let away = away();
    let work = away.path().join("work");
    let dry = |arguments: &str| {
        let arguments = arguments.split(' ');
        finish(zfl(&away, &work).args(["run", "--dry-run"]).args(arguments))
    };
    for (arguments, line) in [
        ("--clients 2", "board = \"microvm\""),
        ("--board q35 --link wifi", "link = \"wifi\""),
        ("--clients 2", "# The results would go to runs/"),
    ] {
        let said = dry(arguments);
        succeeded(&said);
        assert!(said.out.contains(line), "no {line} in {said:?}");
    }
    assert!(names(&work).is_empty(), "a dry run leaves nothing");
    // Firmware of Zephyr is never built in.
    let said = finish(zfl(&away, &work).args(["run", "--clients", "1", "--board", "qemu_x86"]));
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(
        said.err
            .contains("cargo xtask build-guest --board qemu_x86"),
        "{said:?}"
    );
    assert!(names(&work).is_empty(), "{said:?}");
}

#[test]
fn a_tree_is_named_by_a_flag_or_a_variable_and_the_flag_goes_first() {
    let away = away();
    let work = away.path().join("work");
    let tree = folder();
    for name in [".zfl-root", "boards", "links", "data"] {
        symlink(
            root().join(name).canonicalize().unwrap(),
            tree.path().join(name),
        )
        .unwrap();
    }
    let dry = |flags: &[&str], variable: &str| {
        let mut zfl = zfl(&away, &work);
        zfl.env("ZFL_ROOT", variable)
            .args(["run", "--dry-run", "--body", "native"])
            .args(flags);
        finish(&mut zfl)
    };
    let tree = tree.path().to_str().unwrap();
    for said in [dry(&["--root", tree], "/nowhere"), dry(&[], tree)] {
        succeeded(&said);
        assert!(
            said.out.contains("layers = [784, 16, 10]"),
            "MNIST of the tree: {said:?}"
        );
        assert!(
            said.out.contains("# The results would go to runs/"),
            "{said:?}"
        );
    }
    assert!(
        dry(&[], "").out.contains("layers = [64, 16, 10]"),
        "empty is not set"
    );
    let said = dry(&[], "/nowhere");
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.contains("/nowhere is no tree of zfl"), "{said:?}");
}
