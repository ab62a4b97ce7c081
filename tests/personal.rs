//! Algorithms that keep on devices what nobody else has, on native devices: it stays there over crashes and
//! resumes, and does not travel.

mod support;

use std::fs;
use std::path::Path;
use support::{Live, Run, folder, signal};

/// Algorithms with something on the device: a vector, the end of the model, all of it.
const STRATEGIES: [&[&str]; 4] = [
    &["--strategy", "ditto"],
    &[
        "--strategy",
        "fedrep",
        "--strategy-arg",
        "personal_epochs=2",
    ],
    &["--strategy", "feddyn"],
    &["--strategy", "distillation"],
];

/// Four devices with digits, of which this one crashes in this round.
fn crashing(folder: &Path, client: u32, round: u32) -> String {
    let file = folder.join("crash.toml");
    let text = format!(
        "body = \"native\"\ndata = \"zfl:digits\"\nrounds = 5\nquorum = 1\nclients = 4\nbatch_size = 32\n\
         [[faults.schedule]]\nround = {round}\nclient = {client}\nfault = \"crash\"\nreboot = true\n"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn what_a_device_keeps_is_the_same_after_a_crash_a_kill_and_a_resume() {
    let folder = folder();
    let file = crashing(folder.path(), 1, 3);
    for strategy in STRATEGIES {
        let arguments = [&[file.as_str(), "--dashboard", "off"], strategy].concat();
        let whole = Run::succeeds(&arguments);
        let kept = whole.kept_on_devices();
        assert_eq!(kept.len(), 4);
        assert!(kept.iter().all(|(_, round, _)| *round == 5), "{strategy:?}");
        let log = fs::read_to_string(whole.out().join("serial/1.log")).unwrap();
        assert!(log.contains("kept state of round 2 loaded"), "{log}");
        let mut live = Live::start(&arguments);
        live.wait_for_round(4);
        signal(live.pid(), "KILL");
        let resumed = Live::resume(live.finish(), &["--dashboard", "off"]).finish();
        assert_eq!(resumed.said.status, Some(0), "{strategy:?} {resumed:?}");
        assert_eq!(resumed.model(), whole.model(), "{strategy:?}");
        assert_eq!(resumed.kept_on_devices(), kept, "{strategy:?}");
    }
}

#[test]
fn a_run_whose_devices_lost_what_they_kept_is_not_resumed() {
    let folder = folder();
    let file = crashing(folder.path(), 1, 2);
    let mut live = Live::start(&[&file, "--strategy", "ditto", "--dashboard", "off"]);
    live.wait_for_round(4);
    signal(live.pid(), "KILL");
    let killed = live.finish();
    let image = killed.out().join("storage/2.img");
    let whole = fs::read(&image).unwrap();
    fs::write(&image, vec![0; whole.len()]).unwrap();
    let refused = Live::resume(killed, &["--dashboard", "off"]).finish();
    assert_eq!(refused.said.status, Some(2), "{refused:?}");
    assert!(
        refused.said.err.contains("2.img: nothing of round"),
        "{refused:?}"
    );
    fs::write(&image, whole).unwrap();
    let resumed = Live::resume(refused, &["--dashboard", "off"]).finish();
    assert_eq!(resumed.said.status, Some(0), "{resumed:?}");
}

/// Bytes up and down of each round but the first, which has joining and data in it, and its accuracy.
fn rounds(run: &Run) -> Vec<(u64, u64, String)> {
    let table = fs::read_to_string(run.out().join("rounds.csv")).unwrap();
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let at = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let (up, down, accuracy) = (at("bytes_up"), at("bytes_down"), at("test_accuracy"));
    let rows = lines.skip(2).map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |at: usize| cells[at].parse().unwrap();
        (number(up), number(down), cells[accuracy].to_owned())
    });
    rows.collect()
}

#[test]
fn distillation_sends_labels_in_place_of_a_model() {
    let sizes = [
        "--body",
        "native",
        "--clients",
        "2",
        "--rounds",
        "3",
        "--examples",
        "100",
    ];
    let of = |strategy: &str| {
        let chosen = ["--strategy", strategy, "--dashboard", "off"];
        Run::succeeds(&[&sizes[..], &chosen].concat())
    };
    let (fedavg, fd) = (of("fedavg"), of("distillation"));
    // Of each device: 400 octets of labels, their header, a control message and HTTP.
    for (up, down, accuracy) in rounds(&fd) {
        assert!((2 * 400..2 * 1_500).contains(&up), "{up}");
        assert!((2 * 400..2 * 1_500).contains(&down), "{down}");
        assert_eq!(accuracy, "", "there is no global model to test");
    }
    for (up, down, accuracy) in rounds(&fedavg) {
        assert!(up > 2 * 50_000 && down > 2 * 50_000, "{up} {down}");
        assert!(accuracy.parse::<f64>().is_ok(), "{accuracy}");
    }
    assert!(!fedavg.out().join("storage").exists());
}
