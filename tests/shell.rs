//! zfl as a good citizen of a shell: what is closed, full, ignored, stopped or too small for it.

mod support;

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{
    Live, Run, SMALL, Said, by_sh, finish, folder, is_stopped, root, signal, wait_until, zfl,
};

/// A run of native devices that ends soon.
const SHORT: [&str; 6] = ["--clients", "2", "--rounds", "2", "--dashboard", "off"];

fn short() -> Command {
    let mut command = zfl();
    command.arg("run").args(SMALL).args(SHORT);
    command
}

/// Runs a command with this standard output.
#[track_caller]
fn printing_to(command: &mut Command, out: impl Into<Stdio>) -> Said {
    let folder = folder();
    let err = folder.path().join("stderr");
    let mut child = command
        .stdout(out)
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap().code();
    let err = fs::read_to_string(err).unwrap();
    assert!(!err.contains("panicked"), "{command:?}: {err}");
    let out = String::new();
    Said { status, out, err }
}

/// Standard output that nobody reads any more.
fn unread() -> io::PipeWriter {
    io::pipe().unwrap().1
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// The commands that print what is asked for, about a run.
fn printing(run: &Path, report: &Path) -> Vec<Command> {
    let words = [
        "--help",
        "--version",
        "run --help",
        "ps",
        "schema",
        "devices RUN",
        "devices RUN --json",
        "logs 0 --run RUN",
        "report RUN --out REPORT",
    ];
    let command = |words: &str| {
        let mut command = zfl();
        for word in words.split(' ') {
            match word {
                "RUN" => command.arg(run),
                "REPORT" => command.arg(report),
                word => command.arg(word),
            };
        }
        command
    };
    let mut commands: Vec<Command> = words.iter().map(|words| command(words)).collect();
    let mut dry = short();
    dry.arg("--dry-run");
    commands.push(dry);
    commands
}

#[test]
fn what_only_prints_ends_quietly_when_nobody_reads_and_fails_on_a_full_disk() {
    let (run, report) = (Run::succeeds(&[&SMALL[..], &SHORT].concat()), folder());
    for mut command in printing(&run.out(), report.path()) {
        let said = printing_to(&mut command, unread());
        assert_eq!(said.status, Some(0), "{command:?}: {said:?}");
        assert!(!said.err.contains("error"), "{command:?}: {said:?}");
    }
    for mut command in printing(&run.out(), report.path()) {
        let said = printing_to(&mut command, full());
        assert_eq!(said.status, Some(1), "{command:?}: {said:?}");
        let why = "standard output: No space left on device";
        assert!(said.err.contains(why), "{command:?}: {said:?}");
    }
}

/// `summary.json` of a run that has completed its rounds.
#[track_caller]
fn assert_complete(out: &Path, said: &Said) {
    let summary = fs::read_to_string(out.join("summary.json"));
    let summary = summary.unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert!(summary.contains(r#""success": true"#), "{summary}");
}

#[test]
fn a_run_goes_on_to_its_end_whoever_reads() {
    for (name, out) in [("unread", Stdio::from(unread())), ("full", full().into())] {
        let temp = folder();
        let run = temp.path().join(name);
        let said = printing_to(short().arg("--out").arg(&run), out);
        assert_eq!(said.status, Some(0), "{name}: {said:?}");
        assert_complete(&run, &said);
        let told = said.err.matches("is no longer shown there").count();
        assert_eq!(told, usize::from(name == "full"), "{said:?}");
    }
}

#[test]
fn events_that_cannot_be_written_fail_the_command_and_not_the_run() {
    for (out, status) in [(Stdio::from(unread()), 0), (full().into(), 1)] {
        let temp = folder();
        let run = temp.path().join("run");
        let said = printing_to(short().arg("--json").arg("--out").arg(&run), out);
        assert_eq!(said.status, Some(status), "{said:?}");
        assert_complete(&run, &said);
        assert_eq!(said.err.contains("No space left"), status == 1, "{said:?}");
    }
}

#[test]
fn closed_descriptors_are_no_place_for_a_file_of_the_run() {
    for closed in [">&-", "2>&-", "<&-", "<&- >&- 2>&-"] {
        let temp = folder();
        let out = temp.path().join("run");
        let mut command = short();
        command.args(["--json", "--out"]).arg(&out);
        let script = format!(r#"exec "$@" {closed}"#);
        let said = finish(&mut by_sh(&script, &command));
        assert_eq!(said.status, Some(0), "{closed}: {said:?}");
        assert_complete(&out, &said);
        let events = fs::read_to_string(out.join("events.jsonl")).unwrap();
        assert!(
            events.lines().all(|line| line.starts_with('{')),
            "{closed}: {events}"
        );
    }
}

/// Longest wait for an update in a run that is stopped for longer.
const DEADLINE: Duration = Duration::from_secs(8);

#[test]
fn a_run_that_is_stopped_for_longer_than_its_deadline_goes_on_as_if_nothing_had_been() {
    let seconds = DEADLINE.as_secs().to_string();
    // A round takes long enough to be stopped in the middle.
    let long = ["--body", "native", "--examples", "300", "--epochs", "100"];
    let run = [&long[..], &SHORT, &["--deadline", &seconds]].concat();
    let mut live = Live::start(&run);
    live.wait_for_round(1);
    signal(live.pid(), "STOP");
    wait_until("it stands still", support::LIMIT, || {
        is_stopped(live.pid()).then_some(())
    });
    // Only time makes a deadline pass.
    std::thread::sleep(DEADLINE + Duration::from_secs(1));
    signal(live.pid(), "CONT");
    let stopped = live.finish();
    assert_eq!(stopped.said.status, Some(0), "{stopped:?}");
    assert_eq!(stopped.results(), [0, 2, 2], "{stopped:?}");
    assert_eq!(stopped.model(), Run::succeeds(&run).model());
}

/// A server that waits for devices that never come.
fn waiting() -> Command {
    let mut command = zfl();
    command.args(["server", "-r", "1", "-c", "1", "--clients", "2"]);
    command.args(["--listen", "127.0.0.1:0", "--dashboard", "off"]);
    command
}

#[test]
fn signals_that_were_ignored_stay_ignored_and_the_others_end_the_run() {
    let script = r#"trap '' HUP INT; exec "$@""#;
    let live = Live::start_as(&mut by_sh(script, &waiting()));
    wait_until("it listens", support::LIMIT, || {
        live.said_so_far().contains("listening").then_some(())
    });
    signal(live.pid(), "HUP");
    signal(live.pid(), "INT");
    signal(live.pid(), "TERM");
    let run = live.finish();
    assert_eq!(run.said.status, Some(143), "{run:?}");
    assert!(!run.said.out.contains("SIGHUP"), "{run:?}");
    assert!(!run.said.out.contains("SIGINT"), "{run:?}");
}

/// `timeout` sets signals back that were ignored.
#[test]
fn without_a_terminal_nothing_hangs_up() {
    let live = Live::start_as(&mut by_sh(r#"exec "$@""#, &waiting()));
    wait_until("it listens", support::LIMIT, || {
        live.said_so_far().contains("listening").then_some(())
    });
    signal(live.pid(), "HUP");
    signal(live.pid(), "TERM");
    let run = live.finish();
    assert_eq!(run.said.status, Some(143), "{run:?}");
}

#[test]
fn a_file_that_grows_beyond_its_limit_is_an_error_with_its_reason() {
    let temp = folder();
    let mut command = short();
    command.arg("--out").arg(temp.path().join("run"));
    // Units of 512 bytes: less than a model.
    let said = finish(&mut by_sh(r#"ulimit -f 16; exec "$@""#, &command));
    assert_eq!(said.status, Some(1), "{said:?}");
    let all = [&*said.out, &*said.err].concat();
    assert!(all.contains("File too large"), "{said:?}");
}

/// The one user of this name has no process but those of the test.
const NOBODY: &str = "65534";

#[test]
fn too_few_threads_are_refused_with_what_is_needed_and_what_there_is() {
    let temp = folder();
    let out = temp.path().join("run");
    let mut command = short();
    command.arg("--out").arg(&out);
    let mut limited = Command::new("prlimit");
    limited.arg("--nproc=8");
    if nix::unistd::Uid::effective().is_root() {
        // Root is not bound by this limit.
        let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        limited.arg("setpriv").args(user).arg("--clear-groups");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(temp.path(), open).unwrap();
    }
    limited.arg(command.get_program()).args(command.get_args());
    let said = finish(limited.current_dir(root()));
    assert_eq!(said.status, Some(2), "{said:?}");
    for part in ["2 devices", "threads", "ulimit -u"] {
        assert!(said.err.contains(part), "no {part:?} in {said:?}");
    }
    assert!(!said.err.contains("panicked") && !out.exists(), "{said:?}");
}

#[test]
fn too_little_address_space_is_refused_and_nothing_is_made() {
    let temp = folder();
    let out = temp.path().join("run");
    let mut command = short();
    command.arg("--out").arg(&out);
    let said = finish(&mut by_sh(r#"ulimit -v 130000; exec "$@""#, &command));
    assert_eq!(said.status, Some(2), "{said:?}");
    // Where even the data do not fit, that is what is told.
    let told = ["ulimit -v", "out of memory"].map(|part| said.err.contains(part));
    assert!(told.contains(&true) && !out.exists(), "{said:?}");
}

/// A folder with a name that is no UTF-8.
fn latin_1(parent: &Path) -> PathBuf {
    let path = parent.join(std::ffi::OsString::from_vec(b"M\xe4rz 'f\xfcr".to_vec()));
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn a_path_that_is_no_utf_8_is_a_path_or_refused_before_anything_is_made() {
    let temp = folder();
    let old = latin_1(temp.path());
    let out = old.join("run");
    let said = finish(short().arg("--out").arg(&out));
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_complete(&out, &said);
    let report = old.join("report");
    for (words, path) in [
        (&["devices"][..], &out),
        (&["logs", "0", "--run"], &out),
        (&["run", "--body", "native", "--resume"], &out),
        (
            &["report", "--out", report.to_str().unwrap_or("REPORT")],
            &out,
        ),
    ] {
        let mut command = zfl();
        for word in words {
            match *word {
                "REPORT" => command.arg(&report),
                word => command.arg(word),
            };
        }
        let said = finish(command.arg(path));
        assert!(matches!(said.status, Some(0 | 2)), "{words:?}: {said:?}");
        assert!(!said.err.contains("panicked"), "{words:?}: {said:?}");
    }
    let experiment = old.join("two.toml");
    fs::write(&experiment, "rounds = 1\nclients = 2\n").unwrap();
    let said = finish(short().arg(&experiment).arg("--dry-run"));
    assert_eq!(said.status, Some(0), "{said:?}");

    let data = old.join("data");
    std::os::unix::fs::symlink(root().join("data/mnist"), old.join("link")).unwrap();
    fs::create_dir(&data).unwrap();
    for entry in fs::read_dir(root().join("data/mnist")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), data.join(entry.file_name())).unwrap();
    }
    let new = temp.path().join("new");
    let said = finish(short().arg("--data").arg(&data).arg("--out").arg(&new));
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.contains("data: the name of"), "{said:?}");
    assert!(!new.exists(), "a refused run left a folder");
}

/// Requests that cannot be meant, and what their refusals name. DESK is the folder that zfl is started
/// in; RUN a run that is over; FILE a file; LOOP a link to itself; TAKEN an address that is in use; LONG
/// a name that no file can have.
const REFUSED: &[(&str, &[&str])] = &[
    ("run nowhere.toml", &["nowhere.toml", "No such file"]),
    ("run LONG", &["LONG", "too long"]),
    ("run LOOP", &["LOOP", "symbolic links"]),
    ("run BAD", &["BAD", "rounds"]),
    ("run --body native --data nowhere", &["nowhere"]),
    ("run --body native --data LOOP", &["LOOP"]),
    ("run --body native --name a/b", &["--name", "letters"]),
    (
        "run --body native --name LONG",
        &["LONG", "too long", "--name"],
    ),
    (
        "run --body native --out FILE",
        &["FILE", "ot a directory", "--out"],
    ),
    (
        "run --body native --out FILE/below",
        &["FILE/below", "ot a directory", "--out"],
    ),
    (
        "run --body native --out LOOP",
        &["LOOP", "symbolic links", "--out"],
    ),
    (
        "run --body native --out new/LONG",
        &["LONG", "too long", "--out"],
    ),
    (
        "run --body native --out RUN",
        &["RUN", "not an empty folder", "--out"],
    ),
    (
        "run --body native --dashboard TAKEN",
        &["TAKEN", "another --dashboard"],
    ),
    ("run --body native --clients 60001", &["lower --clients"]),
    ("run --resume nowhere", &["nowhere", "no run directory"]),
    ("run --resume LONG", &["LONG", "too long"]),
    ("run --resume LOOP", &["LOOP", "symbolic links"]),
    (
        "run --resume RUN --seed 9",
        &["RUN", "seed", "leave out the flags"],
    ),
    (
        "server -r 1 -c 1 --listen TAKEN",
        &["TAKEN", "another port"],
    ),
    (
        "server -r 1 -c 1 --listen 127.0.0.1:0 --dashboard TAKEN",
        &["TAKEN", "another --dashboard"],
    ),
    ("server -r 1 -c 1 --data nowhere", &["nowhere"]),
    (
        "server -r 1 -c 1 --name LONG",
        &["LONG", "too long", "--name"],
    ),
    (
        "server -r 1 -c 1 --out FILE/below",
        &["FILE/below", "ot a directory", "--out"],
    ),
    (
        "client -c 1 -e 1 -b 1 --out FILE/below",
        &["FILE/below", "ot a directory", "--out"],
    ),
    (
        "client -c 1 -e 1 -b 1 --out LOOP",
        &["LOOP", "symbolic links", "--out"],
    ),
    (
        "client -c 1 -e 1 -b 1 --out RUN",
        &["RUN", "not an empty folder", "--out"],
    ),
    ("view nowhere", &["nowhere", "no run directory"]),
    ("view LONG", &["LONG", "too long"]),
    ("view RUN --listen TAKEN", &["TAKEN", "another"]),
    ("view RUN --tui", &["--tui needs a terminal"]),
    ("logs 0 --run nowhere", &["nowhere", "no run directory"]),
    ("logs 99 --run RUN", &["RUN", "no log of a device 99"]),
    ("devices nowhere", &["nowhere", "no run directory"]),
    ("stop nowhere", &["nowhere", "no run directory"]),
    ("stop RUN", &["RUN", "is not under way"]),
    ("report nowhere", &["nowhere", "no run directory"]),
    (
        "report RUN --out FILE/below",
        &["FILE/below", "ot a directory"],
    ),
    ("report RUN --out LOOP", &["LOOP", "symbolic links"]),
];

#[test]
fn what_can_be_refused_is_refused_with_status_2_before_a_folder_is_made() {
    let (desk, run) = (folder(), Run::succeeds(&[&SMALL[..], &SHORT].concat()));
    let at = |name: &str| desk.path().join(name);
    fs::write(at("file"), "").unwrap();
    fs::write(at("bad.toml"), "rounds = \"many\"\n").unwrap();
    std::os::unix::fs::symlink("loop", at("loop")).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let names = [
        ("RUN", run.out().to_str().unwrap().to_owned()),
        ("FILE", "file".to_owned()),
        ("LOOP", "loop".to_owned()),
        ("BAD", "bad.toml".to_owned()),
        ("LONG", "n".repeat(256)),
        ("TAKEN", taken.local_addr().unwrap().to_string()),
    ];
    let meant = |text: &str| {
        let put = |text: String, (name, meant): &(&str, String)| text.replace(name, meant);
        names.iter().fold(text.to_owned(), put)
    };
    let there = || {
        let entries = fs::read_dir(desk.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = there();
    for (command, parts) in REFUSED {
        let words = command.split(' ').map(meant);
        let said = finish(zfl().current_dir(desk.path()).args(words));
        assert_eq!(said.status, Some(2), "{command}: {said:?}");
        for part in parts.iter().map(|part| meant(part)) {
            assert!(
                said.err.contains(&part),
                "{command}: no {part:?} in {said:?}"
            );
        }
        assert_eq!(there(), before, "{command} made something");
    }
}
