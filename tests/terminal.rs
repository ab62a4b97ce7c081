//! Displays of a run: the full screen of a terminal, and events line by line for a program.

mod support;

use serde_json::Value;
use std::fs;
use std::process::Command;
use support::{LIMIT, Pty, Run, SMALL, by_sh, folder, is_stopped, signal, wait_until, zfl};

/// `zfl run --tui` in a terminal, and the folder that its results are in.
fn start(rounds: &str) -> (Pty, tempfile::TempDir) {
    let folder = folder();
    let mut zfl = zfl();
    zfl.args(["run", "--tui", "--dashboard", "off", "--rounds", rounds]);
    zfl.args(SMALL)
        .args(["--clients", "4"])
        .arg("--out")
        .arg(folder.path().join("run"));
    (Pty::start(&zfl), folder)
}

/// The process that shows the run.
fn display(pty: &Pty) -> u32 {
    let found = pty.processes();
    let display = found
        .iter()
        .find(|process| process.command_line.contains("follow"));
    display.unwrap_or_else(|| panic!("none in {found:?}")).pid
}

#[test]
fn the_screen_shows_the_run_and_q_stops_it() {
    let (mut pty, _folder) = start("100000");
    for text in [
        "Accuracy, %",
        "Rounds, the newest first",
        "/100000 ",
        "[ROUND",
    ] {
        pty.wait_for(text);
    }
    let screen = pty.screen();
    assert!(screen.alternate_screen() && screen.hide_cursor() && !pty.is_sane());
    pty.press("2l");
    pty.wait_for("serial/0.log");
    pty.wait_for("update delivered");
    pty.press("\x1b[C");
    pty.wait_for("serial/1.log");
    pty.press("?");
    pty.wait_for("stop the run; once more: at once");
    pty.press("q");
    assert_eq!(pty.finish(), 130);
    pty.wait_until_restored();
    // The normal screen has what a run without --tui prints.
    for text in ["SIGINT: stopping", "accuracy ", "interrupted by SIGINT"] {
        pty.wait_for(text);
    }
}

#[test]
fn ctrl_c_is_a_key_and_stops_it_as_well() {
    let (mut pty, _folder) = start("100000");
    pty.wait_for("[ROUND");
    pty.press("\x03");
    assert_eq!(pty.finish(), 130);
    pty.wait_until_restored();
}

#[test]
fn ctrl_z_gives_the_terminal_to_the_shell_and_fg_brings_the_screen_back() {
    let folder = folder();
    let mut zfl = zfl();
    zfl.args(["run", "--tui", "--dashboard", "off", "--rounds", "100000"]);
    zfl.args(SMALL).args(["--clients", "4", "--out"]);
    zfl.arg(folder.path().join("run"));
    // A shell with job control, which a person's has and a script's has not.
    let script = r#"set -m; "$@"; echo the shell is back; read go; fg"#;
    let mut pty = Pty::start(&by_sh(script, &zfl));
    pty.wait_for("[ROUND");
    pty.press("\x1a");
    pty.wait_for("the shell is back");
    pty.wait_until_restored();
    let program = zfl.get_program().to_str().unwrap();
    let processes = pty.processes();
    let mut runs = processes
        .iter()
        .filter(|one| one.command_line.starts_with(program));
    let run = runs
        .next()
        .unwrap_or_else(|| panic!("none in {processes:?}"))
        .pid;
    wait_until("the run stands still", LIMIT, || {
        is_stopped(run).then_some(())
    });
    pty.press("\n");
    pty.wait_for("Rounds, the newest first");
    assert!(!pty.is_sane());
    pty.press("q");
    assert_eq!(pty.finish(), 130);
    pty.wait_until_restored();
}

#[test]
fn the_end_of_the_run_ends_the_screen() {
    let (pty, folder) = start("3");
    assert_eq!(pty.finish(), 0);
    pty.wait_until_restored();
    for text in ["[ROUND 1/3]", "[ROUND 3/3]", "3 of 3 completed"] {
        pty.wait_for(text);
    }
    let summary = fs::read_to_string(folder.path().join("run/summary.json")).unwrap();
    assert!(summary.contains("\"success\""), "{summary}");
}

#[test]
fn signals_end_the_run_and_give_the_terminal_back() {
    for (name, status) in [("TERM", 143), ("KILL", 137)] {
        let (pty, _folder) = start("100000");
        pty.wait_for("[ROUND");
        signal(pty.processes()[0].pid, name);
        assert_eq!(pty.finish(), status, "{name}");
        pty.wait_until_restored();
    }
}

#[test]
fn a_screen_that_is_killed_ends_no_run() {
    let (mut pty, _folder) = start("100000");
    pty.wait_for("[ROUND");
    signal(display(&pty), "KILL");
    // The run's next line does it.
    pty.wait_until_restored();
    pty.wait_for("the full screen is gone");
    pty.press("\x03");
    assert_eq!(pty.finish(), 130);
    pty.wait_for("interrupted by SIGINT");
}

#[test]
fn a_screen_that_is_asked_to_go_leaves_the_run_its_lines() {
    let (mut pty, _folder) = start("100000");
    pty.wait_for("[ROUND");
    signal(display(&pty), "TERM");
    pty.wait_until_restored();
    // Now it is a signal that Ctrl-C makes.
    pty.press("\x03");
    assert_eq!(pty.finish(), 130);
    pty.wait_for("interrupted by SIGINT");
}

#[test]
fn a_terminal_too_dumb_for_a_screen_is_refused() {
    let mut zfl = zfl();
    let mut dumb = Command::new("env");
    dumb.current_dir(zfl.get_current_dir().unwrap())
        .arg("TERM=dumb")
        .arg(zfl.get_program());
    zfl = dumb;
    zfl.args(["run", "--tui"]).args(SMALL);
    let pty = Pty::start(&zfl);
    assert_eq!(pty.finish(), 2);
    pty.wait_for("leave it out");
}

#[test]
fn programs_get_every_event_and_the_summary() {
    let run = Run::succeeds(&[&SMALL[..], &["--clients", "4", "--rounds", "2", "--json"]].concat());
    let file = fs::read_to_string(run.out().join("events.jsonl")).unwrap();
    let (events, last) = run.said.out.split_at(file.len().min(run.said.out.len()));
    assert_eq!(events, file, "standard output begins with events.jsonl");
    for line in events.lines() {
        serde_json::from_str::<Value>(line).expect("each line is JSON");
    }
    let mut summary = run.summary();
    summary["event"] = "summary".into();
    assert_eq!(last.lines().count(), 1, "{last:?}");
    assert_eq!(serde_json::from_str::<Value>(last).unwrap(), summary);
    for line in ["[ROUND 2/2]", "2 of 2 completed"] {
        assert!(run.said.err.contains(line), "no {line:?} in {run:?}");
    }
}

#[test]
fn quiet_is_the_summary_only() {
    let run =
        Run::succeeds(&[&SMALL[..], &["--clients", "4", "--rounds", "1", "--quiet"]].concat());
    assert!(run.said.out.contains("1 of 1 completed"), "{run:?}");
    assert!(
        !run.said.out.contains("[ROUND") && run.said.err.is_empty(),
        "{run:?}"
    );
}
