//! Files from strangers: they are data. None starts a program, keeps zfl waiting, fills its memory, or leads
//! it out of a folder. And a run directory belongs to one run at a time.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{Guarded, Live, Run, SMALL, Said, finish, folder, root, signal, wait_until, zfl};
use tempfile::TempDir;

/// Time limit of what only hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// A folder with a stranger's board, and with an emulator that tells that it was started.
struct Stranger(TempDir);

impl Stranger {
    fn new() -> Self {
        let stranger = Self(folder());
        let script = format!(
            "#!/bin/sh\ntouch '{}'\necho 'QEMU emulator version 7.2.0'\n",
            stranger.mark().display()
        );
        let program = stranger.at("qemu-system-evil");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        stranger
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mark(&self) -> PathBuf {
        self.at("was-started")
    }

    /// Says what zfl says to an experiment with a board that is like microvm but for this line.
    fn run(&self, key: &str, line: &str, flags: &[&str]) -> Said {
        let board = fs::read_to_string(root().join("boards/microvm/board.toml")).unwrap();
        let lines = board.lines().map(|old| match old.starts_with(key) {
            true => line,
            false => old,
        });
        fs::write(self.at("board.toml"), lines.collect::<Vec<_>>().join("\n")).unwrap();
        let experiment = self.at("experiment.toml");
        fs::write(
            &experiment,
            "clients = 1\nrounds = 1\nboard = \"./\"\nout = \"out\"\n",
        )
        .unwrap();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.0.path().display());
        finish(
            zfl()
                .args(["run", "--dashboard", "off"])
                .arg(experiment)
                .args(flags)
                .env("PATH", path),
        )
    }
}

#[test]
fn a_board_by_path_starts_no_program_unless_it_is_allowed() {
    let stranger = Stranger::new();
    let installed = "qemu = \"qemu-system-evil\"";
    let said = stranger.run("qemu =", installed, &[]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.contains("--allow-board"), "{said:?}");
    let said = stranger.run("qemu =", installed, &["--dry-run"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.err.contains("--allow-board"), "{said:?}");
    for evil in [
        format!("qemu = \"{}\"", stranger.at("qemu-system-evil").display()),
        "qemu = \"./qemu-system-evil\"".to_owned(),
        "qemu = \"sh\"".to_owned(),
    ] {
        let said = stranger.run("qemu =", &evil, &["--allow-board"]);
        assert_eq!(said.status, Some(2), "{said:?}");
        assert!(said.err.contains("bare name"), "{said:?}");
    }
    assert!(!stranger.mark().exists() && !stranger.at("out").exists());
    // Proof that the mark tells: this board is allowed.
    stranger.run("qemu =", installed, &["--allow-board"]);
    assert!(stranger.mark().exists());
}

#[test]
fn a_board_by_path_asks_qemu_for_nothing_that_reaches_files() {
    let stranger = Stranger::new();
    for (key, line) in [
        (
            "extra_args =",
            "extra_args = [\"-chardev\", \"file,id=a,path=x\",",
        ),
        ("extra_args =", "extra_args = [\"-plugin\", \"evil.so\","),
        ("machine =", "machine = \"microvm,dumpdtb=x\""),
        ("cpu =", "cpu = \"qemu32 -D x\""),
        ("model =", "model = \"virtio-net-device,romfile=x\""),
    ] {
        let said = stranger.run(key, line, &["--allow-board"]);
        assert_eq!(said.status, Some(2), "{line}: {said:?}");
    }
    assert!(!stranger.mark().exists() && !stranger.at("out").exists());
}

/// Files that do not end, never begin, or are larger than any that is meant.
fn hostile(folder: &Path) -> Vec<PathBuf> {
    let at = |name: &str| folder.join(name);
    let made = Command::new("mkfifo").arg(at("fifo")).status().unwrap();
    assert!(made.success());
    File::create(at("sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    symlink("/dev/zero", at("zero")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    let mut all = ["fifo", "sparse", "zero", "folder"].map(at).to_vec();
    all.push("/proc/self/environ".into());
    all
}

#[test]
fn no_file_that_is_named_keeps_zfl_waiting_or_fills_its_memory() {
    let folder = folder();
    let experiment = folder.path().join("experiment.toml");
    for file in hostile(folder.path()) {
        let file = file.to_str().unwrap();
        let refused = |text: &str, command: &mut Command| {
            fs::write(&experiment, text).unwrap();
            let said = finish(command);
            assert_eq!(said.status, Some(2), "{text} {file}: {said:?}");
            assert!(
                said.err.contains("ordinary file") || said.err.contains("at most"),
                "{said:?}"
            );
        };
        refused("", zfl().args(["run", file, "--dry-run"]));
        for text in [
            format!("body = \"native\"\nclients = 2\n[faults]\ntrace = {file:?}\n"),
            format!("body = \"bare\"\nclients = 2\nlink = {file:?}\n"),
        ] {
            refused(&text, zfl().args(["run", "--dry-run"]).arg(&experiment));
        }
        // A folder may be a board.
        if !file.ends_with("folder") {
            let text = format!("clients = 2\nboard = {file:?}\n");
            refused(&text, zfl().args(["run", "--dry-run"]).arg(&experiment));
        }
    }
}

/// A run on native devices that was killed in a round.
fn broken_off() -> Run {
    let mut live = Live::start(&[&SMALL[..], &["--clients", "3", "--rounds", "100000"]].concat());
    live.wait_for_round(3);
    signal(live.pid(), "KILL");
    live.finish()
}

fn resume(run: &Path) -> Command {
    let mut command = zfl();
    command
        .args(["run", "--dashboard", "off", "--resume"])
        .arg(run);
    command
}

/// Puts a link to a file outside in the place of a file of a run.
fn link(run: &Path, name: &str, victim: &Path) {
    let place = run.join(name);
    let _ = fs::remove_file(&place);
    symlink(victim, place).unwrap();
}

#[test]
fn no_link_leads_out_of_a_run_directory() {
    let run = broken_off();
    let outside = folder();
    let victim = outside.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let out = run.out();
    for name in [
        "serial/0.log",
        "pid",
        "events.jsonl",
        "rounds.csv",
        "clients.csv",
        "traffic.csv",
        "model.safetensors",
        "config.toml",
        "meta.json",
    ] {
        let kept = fs::read(out.join(name)).unwrap_or_default();
        link(&out, name, &victim);
        link(&out, ".events.jsonl.new", &victim);
        let said = finish(&mut resume(&out));
        assert_eq!(said.status, Some(2), "{name}: {said:?}");
        assert!(said.err.contains("a link"), "{name}: {said:?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name}");
        if name == "serial/0.log" {
            let said = finish(zfl().args(["logs", "0", "--run"]).arg(&out));
            assert!(
                said.status != Some(0) && !said.out.contains("precious"),
                "{said:?}"
            );
        }
        fs::remove_file(out.join(name)).unwrap();
        fs::write(out.join(name), kept).unwrap();
    }
}

#[test]
fn nothing_in_a_run_directory_keeps_its_readers_waiting() {
    let run = broken_off();
    let strange = folder();
    let out = run.out();
    for name in [
        "meta.json",
        "config.toml",
        "events.jsonl",
        "model.safetensors",
    ] {
        let kept = fs::read(out.join(name)).unwrap();
        for file in hostile(strange.path()) {
            fs::remove_file(out.join(name)).unwrap();
            if fs::rename(&file, out.join(name)).is_err() {
                symlink(&file, out.join(name)).unwrap();
            }
            let said = finish(&mut resume(&out));
            assert!(
                matches!(said.status, Some(1 | 2)),
                "{name} {file:?}: {said:?}"
            );
            if name != "model.safetensors" {
                let report = strange.path().join("report");
                let said = finish(zfl().arg("report").arg(&out).arg("--out").arg(&report));
                assert!(
                    matches!(said.status, Some(1 | 2)),
                    "{name} {file:?}: {said:?}"
                );
            }
            if out.join(name).is_dir() {
                fs::remove_dir(out.join(name)).unwrap();
            } else {
                fs::remove_file(out.join(name)).unwrap();
            }
            fs::write(out.join(name), &kept).unwrap();
        }
    }
}

/// Starts three of a command, waits until two are refused, stops the third, and tells what was said.
fn three(of: impl Fn() -> Command, run: &Path) {
    let log = |number: usize| run.with_extension(format!("said-{number}"));
    let mut all: Vec<Guarded> = (0..3)
        .map(|number| {
            let file = File::create(log(number)).unwrap();
            Guarded::start(of().stdout(Stdio::null()).stderr(file))
        })
        .collect();
    wait_until("two of three are refused", LIMIT, || {
        let ended: Vec<_> = all.iter_mut().map(Guarded::ended).collect();
        let ended = ended.into_iter().enumerate();
        let ended: Vec<_> = ended
            .filter_map(|(number, status)| Some((number, status?)))
            .collect();
        for (number, status) in &ended {
            let said = fs::read_to_string(log(*number)).unwrap();
            assert_eq!(status.code(), Some(2), "{said}");
            assert!(
                said.contains("under way") || said.contains("not an empty folder"),
                "{said}"
            );
        }
        (ended.len() == 2).then_some(())
    });
    let mut last = all
        .into_iter()
        .find_map(|mut one| one.ended().is_none().then_some(one))
        .unwrap();
    wait_until("the run is under way", LIMIT, || {
        let said = finish(zfl().arg("stop").arg(run));
        (said.status == Some(0)).then_some(())
    });
    // By SIGTERM, which it may not have begun to handle.
    assert!(matches!(last.finish().code(), None | Some(143)));
}

#[test]
fn of_three_runs_into_one_folder_exactly_one_goes() {
    let folder = folder();
    let out = folder.path().join("run");
    let start = || {
        let mut command = zfl();
        command
            .arg("run")
            .args(SMALL)
            .args(["--clients", "3", "--rounds", "100000", "--out"]);
        command.arg(&out).args(["--dashboard", "off"]);
        command
    };
    three(start, &out);
}

#[test]
fn of_three_resumes_of_one_run_exactly_one_goes() {
    let run = broken_off();
    three(|| resume(&run.out()), &run.out());
}

#[test]
fn stop_ends_no_process_but_one_that_makes_the_run() {
    let run = broken_off();
    let mut stranger = Guarded::start(Command::new("sleep").arg("1000"));
    let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.pid())).unwrap();
    let started = stat.split(' ').nth(21).unwrap();
    fs::write(
        run.out().join("pid"),
        format!("{} {started}\n", stranger.pid()),
    )
    .unwrap();
    let said = finish(zfl().arg("stop").arg(run.out()));
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.contains("not under way"), "{said:?}");
    assert!(stranger.ended().is_none());
}
