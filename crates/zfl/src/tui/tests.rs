//! Pictures of the views, of runs that are made up.

use super::app::{App, KeyEffect, Tab};
use super::draw;
use expect_test::{ExpectFile, expect_file};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};
use zfl_run_dir::{ClientRecord, Event, Record, RoundPhase, RoundRecord};
use zfl_run_dir::{Fold, Meta};

/// A run of so many devices in the middle of round 7 of 20, some of them in trouble.
fn app(clients: u32) -> App {
    let meta = Meta {
        name: format!("night-{clients}"),
        body: Some("bare".into()),
        board: Some("microvm".into()),
        clients,
        rounds: 20,
        ..Meta::default()
    };
    let mut app = App::new(Fold::new(meta), std::path::Path::new("/nowhere"), true);
    for round in 0..=6 {
        tell(&mut app, finished(round, clients));
    }
    for client in 0..clients {
        let detail = json!({"boot_ms": 80 + client % 7, "address": "10.77.0.2:80"});
        fleet(&mut app, client, "running", detail);
        let address = "10.77.0.2:80".to_owned();
        let again = false;
        tell(
            &mut app,
            Event::ClientJoined {
                client,
                address,
                again,
            },
        );
        tell(&mut app, Event::ClientReady { client });
        tell(&mut app, received(client, 6));
    }
    let round = 7;
    let cohort = (0..clients).collect();
    tell(&mut app, Event::RoundStarted { round, cohort });
    let phase = RoundPhase::Training;
    tell(&mut app, Event::PhaseEntered { round, phase });
    for client in 0..clients {
        under_way(&mut app, client, clients);
    }
    app
}

/// Activity of a device in round 7: another for each.
fn under_way(app: &mut App, client: u32, clients: u32) {
    let round = 7;
    if client % 8 != 7 {
        tell(app, Event::ClientStarted { client, round });
    }
    match client % 8 {
        0 => tell(app, received(client, round)),
        1 => {
            let reason = "\x1b[31mno update\x07 within 120 s".to_owned();
            tell(
                app,
                Event::ClientFailed {
                    client,
                    round,
                    reason,
                },
            );
        }
        2 if client % 16 == 2 => {
            fleet(
                app,
                client,
                "died",
                json!({"reason": "QEMU was killed by SIGKILL"}),
            );
        }
        3 => tell(app, Event::ClientExpected { client }),
        7 => {}
        _ => {
            let (done_examples, total_examples) = (client * 6000 / clients, 6000);
            tell(
                app,
                Event::ClientProgress {
                    client,
                    round,
                    done_examples,
                    total_examples,
                },
            );
        }
    }
}

fn tell(app: &mut App, event: Event) {
    // Long ago, so that the clock of the picture is that of the last event.
    let (time_ms, at) = (14_500, String::new());
    app.fold.apply(Record { time_ms, at, event });
}

fn fleet(app: &mut App, client: u32, what: &str, detail: Value) {
    let client = Some(client);
    let record = serde_json::from_value(json!({"what": what, "detail": detail})).unwrap();
    tell(app, Event::Fleet { client, record });
}

fn received(client: u32, round: u32) -> Event {
    let cost = json!({
        "train_us": 58_000 + 1000 * client, "instructions": 81_234_567, "heap_peak_bytes": 2_345_678,
        "stack_peak_bytes": 12_288, "bytes_received": 34_000, "bytes_sent": 17_000,
        "segments_sent": 30, "segments_received": 41, "retransmissions": 1
    });
    Event::ResultReceived {
        record: ClientRecord {
            round,
            client,
            outcome: "received".into(),
            num_examples: 1200,
            loss: Some(0.4321),
            round_s: Some(0.31),
            bytes_up: 17_000,
            bytes_down: 34_000,
            cost: serde_json::from_value(cost).ok(),
            host: None,
            chosen: None,
        },
    }
}

fn finished(round: u32, clients: u32) -> Event {
    let learned = 1.0 - 0.6_f64.powi(round as i32);
    Event::RoundFinished {
        record: RoundRecord {
            round,
            cohort_size: clients,
            results: clients - round % 2,
            failures: round % 2,
            test_loss: Some(2.35 - 2.0 * learned),
            test_accuracy: Some(0.1 + 0.8 * learned),
            bytes_up: 17_000 * u64::from(clients),
            bytes_down: 34_000 * u64::from(clients),
            round_s: 2.0,
            elapsed_s: 2.0 * f64::from(round),
            ..RoundRecord::default()
        },
    }
}

fn picture(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(usize::from(width));
    let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    rows.map(|row| row.trim_end().to_owned() + "\n").collect()
}

fn press(app: &mut App, code: KeyCode) -> Option<KeyEffect> {
    app.on_event(&Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn say(app: &mut App) {
    for line in [
        "[ROUND  5/20] accuracy 83.78 %, loss 0.5055, received 49 results and 1 failures, 2.0 s",
        "warning: client 2 died: QEMU was killed by SIGKILL",
        "[ROUND  6/20] accuracy 86.27 %, loss 0.4433, received 50 results and 0 failures, 2.0 s",
    ] {
        app.log.push(line);
    }
}

/// The three views at both sizes.
fn check(clients: u32, width: u16, height: u16, expected: ExpectFile) {
    let mut app = app(clients);
    say(&mut app);
    let mut pictures = String::new();
    for tab in Tab::ALL {
        app.tab = tab;
        pictures += &picture(&mut app, width, height);
    }
    expected.assert_eq(&pictures);
}

#[test]
fn a_few_devices_on_a_small_screen() {
    check(8, 80, 24, expect_file!["snapshots/8-80x24.txt"]);
}

#[test]
fn a_few_devices_on_a_large_screen() {
    check(8, 120, 40, expect_file!["snapshots/8-120x40.txt"]);
}

#[test]
fn some_devices_on_a_small_screen() {
    check(100, 80, 24, expect_file!["snapshots/100-80x24.txt"]);
}

#[test]
fn many_devices_on_a_small_screen() {
    check(500, 80, 24, expect_file!["snapshots/500-80x24.txt"]);
}

#[test]
fn many_devices_on_a_large_screen() {
    check(500, 120, 40, expect_file!["snapshots/500-120x40.txt"]);
}

#[test]
fn the_picture_in_the_documentation() {
    let mut app = app(50);
    say(&mut app);
    expect_file!["../../../../docs/terminal.txt"].assert_eq(&picture(&mut app, 110, 36));
}

#[test]
fn keys_are_explained() {
    let mut app = app(8);
    press(&mut app, KeyCode::Char('?'));
    expect_file!["snapshots/help.txt"].assert_eq(&picture(&mut app, 80, 24));
    press(&mut app, KeyCode::Esc);
    assert!(!app.help);
}

#[test]
fn no_size_is_too_small_to_draw() {
    let mut app = app(500);
    say(&mut app);
    app.help = true;
    for (width, height) in [
        (1, 1),
        (40, 10),
        (41, 11),
        (60, 12),
        (80, 10),
        (300, 10),
        (40, 100),
    ] {
        for (tab, selected) in Tab::ALL.into_iter().zip([0, 499, 1000]) {
            (app.tab, app.selected) = (tab, selected);
            picture(&mut app, width, height);
        }
    }
}

#[test]
fn every_device_can_be_selected_and_is_seen() {
    let mut app = app(500);
    app.tab = Tab::Fleet;
    // Too few rows for all: the grid follows the selection.
    let seen = |app: &mut App| picture(app, 60, 14);
    assert!(seen(&mut app).contains(" Device 0 "));
    for (key, selected) in [
        (KeyCode::Left, 0),
        (KeyCode::Right, 1),
        (KeyCode::Down, 21),
        (KeyCode::Up, 1),
        (KeyCode::Up, 1),
        (KeyCode::End, 499),
        (KeyCode::Right, 499),
    ] {
        press(&mut app, key);
        assert_eq!(app.selected, selected, "{key:?}");
        let picture = seen(&mut app);
        let row = selected / 20 * 20;
        assert!(
            picture.contains(&format!(" {row:>3} ")),
            "{row} in {picture}"
        );
        assert!(picture.contains(&format!(" Device {selected} ")));
    }
}

#[test]
fn q_stops_a_run_of_ones_own_and_only_leaves_another() {
    let mut app = app(8);
    let control_c = Input::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert_eq!(app.on_event(&control_c), Some(KeyEffect::Stop));
    assert!(picture(&mut app, 80, 24).contains("q stop at once"));
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(KeyEffect::Stop));
    app.owned = false;
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(KeyEffect::Leave));
    assert_eq!(app.on_event(&control_c), Some(KeyEffect::Leave));
}

#[test]
fn serial_lines_come_clean_when_asked_for() {
    let run = tempfile::tempdir().unwrap();
    std::fs::create_dir(run.path().join("serial")).unwrap();
    let log = "booting\n\x1b[2J\x1b[31mtraining\x1b[0m 5 epochs\n";
    std::fs::write(run.path().join("serial/1.log"), log).unwrap();
    let mut app = app(8);
    app.run = run.path().to_owned();
    for key in [KeyCode::Tab, KeyCode::Right] {
        press(&mut app, key);
    }
    assert!(!picture(&mut app, 80, 24).contains("serial/1.log"));
    press(&mut app, KeyCode::Char('l'));
    let picture_with = picture(&mut app, 80, 24);
    for text in ["serial/1.log", "booting", "│training 5 epochs"] {
        assert!(picture_with.contains(text), "no {text:?} in {picture_with}");
    }
    press(&mut app, KeyCode::Char('l'));
    assert!(!picture(&mut app, 80, 24).contains("serial/1.log"));
}

#[test]
fn what_is_the_same_is_not_drawn_again() {
    let mut app = app(8);
    tell(
        &mut app,
        Event::RunFinished {
            success: true,
            reason: None,
        },
    );
    assert!(app.is_changed());
    assert!(!app.is_changed());
    say(&mut app);
    assert!(app.is_changed());
    tell(&mut app, Event::ClientReady { client: 3 });
    assert!(app.is_changed());
    press(&mut app, KeyCode::Tab);
    assert!(app.is_changed());
    assert!(!app.is_changed());
}

#[test]
fn the_log_scrolls_within_itself() {
    let mut app = app(8);
    for number in 0..1100 {
        app.log.push(&format!("line {number}"));
    }
    app.tab = Tab::Log;
    assert!(picture(&mut app, 80, 24).contains("line 1099"));
    press(&mut app, KeyCode::Home);
    let first = picture(&mut app, 80, 24);
    assert!(
        first.contains("line 100\u{20}") && first.contains("100 older"),
        "{first}"
    );
    press(&mut app, KeyCode::End);
    press(&mut app, KeyCode::PageUp);
    let back = picture(&mut app, 80, 24);
    assert!(
        back.contains("line 1089") && !back.contains("line 1090"),
        "{back}"
    );
}
