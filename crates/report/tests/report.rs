//! Reports on scripted runs.

#[path = "../../dashboard/tests/support/mod.rs"]
mod support;

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use support::Script;
use zfl_run_dir::Event;
use zfl_run_dir::Meta;

const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";

/// A finished run of this seed and learning rate.
fn run(root: &Path, name: &str, seed: u64, learning_rate: f64) -> PathBuf {
    let path = root.join(name);
    let mut script = Script::new(&path, 8, 6);
    script.reseed(seed);
    script.boot();
    (1..=6).for_each(|round| script.round(round));
    script.finish();
    change(&path, |meta| {
        meta["name"] = json!(name);
        meta["config"]["seed"] = json!(seed);
        meta["config"]["learning_rate"] = json!(learning_rate);
    });
    fs::write(
        path.join("summary.json"),
        r#"{"model_sha256":"0123456789abcdef0123"}"#,
    )
    .unwrap();
    path
}

fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let file = path.join(Meta::FILE);
    let mut meta: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut meta);
    fs::write(file, meta.to_string()).unwrap();
}

fn figures(out: &Path) -> Vec<String> {
    let entries = fs::read_dir(out.join("figures")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn one_run_has_every_figure_that_it_has_the_numbers_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("report");
    let page = zfl_report::write(&[run(dir.path(), "night", 1, 0.1)], &out)
        .unwrap()
        .page;
    assert_eq!(page, out.join("report.html"));
    let names = figures(&out);
    for name in [
        "accuracy-bytes",
        "accuracy-device-time",
        "accuracy-rounds",
        "accuracy-simulated-time",
        "accuracy-time",
        "bytes-rounds",
        "device-boot",
        "device-bytes",
        "device-computing",
        "device-energy",
        "device-heap",
        "device-host-memory",
        "device-host-processor",
        "device-instructions",
        "device-link",
        "device-link-dropped",
        "device-link-retransmissions",
        "device-retransmissions",
        "device-round",
        "device-stack",
        "device-training",
        "faults-rounds",
        "loss-rounds",
        "simulated-time-mean",
        "simulated-time-rounds",
        "split",
        "time-mean",
        "time-rounds",
    ] {
        for kind in ["svg", "png"] {
            assert!(
                names.contains(&format!("{name}.{kind}")),
                "{name}.{kind} is not in {names:?}"
            );
        }
        let svg = fs::read_to_string(out.join(format!("figures/{name}.svg"))).unwrap();
        assert!(svg.contains("<svg") && !svg.contains("NaN"), "{name}");
        let png = fs::read(out.join(format!("figures/{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}");
    }
    let energy = fs::read_to_string(out.join("figures/device-energy.svg")).unwrap();
    for text in ["cameras", "meters", "sensors", "estimate"] {
        assert!(energy.contains(text), "{text}: the groups of the fleet");
    }
    let html = fs::read_to_string(page).unwrap();
    for text in [
        "Energy (J, estimate)",
        "fleet.meters.link",
        "night",
        "learning_rate",
        "zfl run --clients 8",
        "qemu 7.2.0",
        "0123456789abcdef",
    ] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn edges_have_a_table_of_their_levels_and_a_mesh_has_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tree");
    let mut script = Script::new(&path, 8, 2);
    script.edges = vec![2, 4];
    script.mesh();
    script.boot();
    (1..=2).for_each(|round| script.round(round));
    script.finish();
    // Whoever has other places has another picture, whatever they are.
    let odd = dir.path().join("odd");
    let mut script = Script::new(&odd, 2, 1);
    let places = json!([[0.0, 0.0], [0.0, 0.0], [7.0, 0.0]]);
    let detail = json!({"radio": EVIL, "range_m": -1.0, "places": places, "hops": []});
    script.of_fleet("mesh", detail);
    script.boot();
    script.finish();
    let out = dir.path().join("report");
    let page = zfl_report::write(&[path, odd], &out).unwrap().page;
    let html = fs::read_to_string(page).unwrap();
    for level in [
        "root</td><td>1</td><td>2</td><td>2</td><td>0.20</td><td>0.21</td><td>0.000</td>",
        "level 1</td><td>2</td><td>4</td><td>2</td><td>0.41</td><td>0.42</td>",
        "level 2</td><td>4</td><td>8</td><td>2</td><td>0.82</td><td>0.83</td>",
    ] {
        assert!(html.contains(level), "{level}");
    }
    assert!(!html.contains(EVIL));
    let svg = |name: &str| fs::read_to_string(out.join("figures").join(name)).unwrap();
    let [one, other] = ["mesh.svg", "mesh-2.svg"].map(svg);
    let (mesh, other) = match one.contains("hc-12") {
        true => (one, other),
        false => (other, one),
    };
    assert_eq!(mesh.matches("fill=\"#424a53\"").count(), 8, "{mesh}");
    for said in ["hc-12 reaches 200 m", "2 hops"] {
        assert!(mesh.contains(said), "{said}: {mesh}");
    }
    for svg in [mesh, other] {
        assert!(!svg.contains("NaN") && !svg.contains("<script"), "{svg}");
    }
    assert!(figures(&out).contains(&"mesh-2.png".to_owned()));
}

#[test]
fn what_repeats_a_run_is_its_configuration_and_then_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let with = run(dir.path(), "it's", 1, 0.1);
    fs::write(with.join("config.toml"), "seed = 1\n").unwrap();
    let html = |runs: &[PathBuf]| {
        let page = zfl_report::write(runs, &dir.path().join("report"))
            .unwrap()
            .page;
        fs::read_to_string(page).unwrap()
    };
    let page = html(std::slice::from_ref(&with));
    let exact = format!(
        "zfl run &#39;{}/it&#39;\\&#39;&#39;s/config.toml&#39;",
        dir.path().display()
    );
    let (first, second) = (page.find(&exact), page.find("zfl run --clients 8"));
    assert!(first.is_some() && first < second, "{exact}: {page}");
    // Without the file there is only the command, and a server's devices are elsewhere.
    let without = html(&[run(dir.path(), "without", 2, 0.1)]);
    assert!(!without.contains("/config.toml") && without.contains("zfl run --clients 8"));
    change(&with, |meta| meta["devices_elsewhere"] = json!(true));
    assert!(!html(&[with]).contains("/config.toml"));
}

#[test]
fn runs_of_other_seeds_are_one_group_and_other_settings_are_another() {
    let dir = tempfile::tempdir().unwrap();
    let runs = [
        run(dir.path(), "a1", 1, 0.1),
        run(dir.path(), "a2", 2, 0.1),
        run(dir.path(), "b1", 1, 0.5),
    ];
    let out = dir.path().join("report");
    let html = fs::read_to_string(zfl_report::write(&runs, &out).unwrap().page).unwrap();
    assert!(html.contains("3 runs in 2 groups"), "title");
    assert!(
        html.contains("<td>learning rate 0.1</td><td>2</td>"),
        "two runs in the first group"
    );
    assert!(
        html.contains("<td>learning rate 0.5</td><td>1</td>"),
        "one in the second"
    );
    assert!(
        html.contains("<tr class=\"differs\"><td>learning_rate</td>"),
        "the difference is marked"
    );
    assert_eq!(
        html.matches("class=\"differs\"").count(),
        1,
        "nothing else differs"
    );
    assert!(html.contains(" ± "), "a deviation");
    assert!(figures(&out).contains(&"faults-total.svg".to_owned()));
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "night", 1, 0.1);
    change(&path, |meta| {
        meta["name"] = json!(EVIL);
        meta["command"] = json!(EVIL);
        meta["board"] = json!(EVIL);
        meta["versions"] = json!({EVIL: EVIL});
        meta["config"][EVIL] = json!(EVIL);
    });
    let out = dir.path().join("report");
    let html = fs::read_to_string(zfl_report::write(&[path], &out).unwrap().page).unwrap();
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script"));
    assert_eq!(
        html.matches("<img").count(),
        html.matches("<img alt=\"").count()
    );
    // Every source and link is an image in the page; what is escaped is text.
    let images = html.matches("src=\"data:image/svg+xml;base64,").count();
    let others = html.matches("src=x").count();
    assert_eq!(
        html.matches("src=").count() + html.matches("href=").count(),
        images + others
    );
    for name in figures(&out).iter().filter(|name| name.ends_with(".svg")) {
        let svg = fs::read_to_string(out.join("figures").join(name)).unwrap();
        assert!(!svg.contains("<script") && !svg.contains("<img"), "{name}");
    }
}

#[test]
fn what_was_done_by_hand_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("night");
    let mut script = Script::new(&path, 8, 6);
    script.boot();
    script.round(1);
    let detail = json!({"fault": "crash", "by": "dashboard", "action": "kill"});
    script.fleet(3, "fault", detail);
    script.finish();
    let out = dir.path().join("report");
    let page = fs::read_to_string(zfl_report::write(&[path], &out).unwrap().page).unwrap();
    for told in [
        "changed by remote control: 1 kill",
        "Neither repeats a run that was changed by remote control",
    ] {
        assert!(page.contains(told), "{told}");
    }
    let figure = fs::read_to_string(out.join("figures/faults-rounds.svg")).unwrap();
    assert!(figure.contains("crash by hand"));
    let plain = run(dir.path(), "plain", 1, 0.1);
    let out = dir.path().join("plain-report");
    let page = fs::read_to_string(zfl_report::write(&[plain], &out).unwrap().page).unwrap();
    assert!(!page.contains("remote control"));
}

#[test]
fn a_run_that_was_broken_off_is_reported_as_far_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short");
    Script::new(&path, 3, 5).boot();
    let out = dir.path().join("report");
    let html = fs::read_to_string(
        zfl_report::write(std::slice::from_ref(&path), &out)
            .unwrap()
            .page,
    )
    .unwrap();
    assert!(html.contains(">broken off<") && html.contains("0 of 5"));
    // Not even a first model.
    let empty = dir.path().join("empty");
    drop(Script::new(&empty, 3, 5));
    zfl_report::write(&[empty, path], &out).unwrap();
}

#[test]
fn a_run_under_way_is_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("going");
    Script::new(&path, 3, 5).boot();
    let out = dir.path().join("report");
    let html = || {
        let report = zfl_report::write(std::slice::from_ref(&path), &out).unwrap();
        fs::read_to_string(report.page).unwrap()
    };
    let lock = zfl_run_dir::lock(&path).unwrap();
    let page = html();
    assert!(page.contains(">under way<") && !page.contains(">broken off<"));
    // A number that nobody holds the lock of: it may be another process's now.
    drop(lock);
    fs::write(path.join("pid"), format!("{}\n", std::process::id())).unwrap();
    assert!(html().contains(">broken off<"));
}

#[test]
fn what_a_crash_left_half_written_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "cut", 1, 0.1);
    let file = path.join("events.jsonl");
    let events = fs::read(&file).unwrap();
    let end = events[..events.len() - 1]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .unwrap();
    fs::write(&file, &events[..end + 30]).unwrap();
    fs::write(path.join("summary.json"), r#"{"model_sha"#).unwrap();
    let out = dir.path().join("report");
    let html = fs::read_to_string(zfl_report::write(&[path], &out).unwrap().page).unwrap();
    assert!(html.contains(">broken off<") && html.contains("6 of 6"));
}

#[test]
fn a_run_that_is_named_twice_counts_once_and_the_same_seed_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let one = run(dir.path(), "one", 1, 0.1);
    let again = dir.path().join("../").join(dir.path().file_name().unwrap());
    let again = again.join("one/.");
    let out = dir.path().join("report");
    let report = zfl_report::write(&[one.clone(), one.clone(), again], &out).unwrap();
    let html = fs::read_to_string(report.page).unwrap();
    assert!(html.contains("<td>one</td><td>1</td>") && !html.contains("0.00 ±"));
    assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
    assert!(report.warnings[0].contains("counts once"));

    // A copy of a run, or a repetition with its seed, says nothing about chance.
    let runs = [
        one,
        run(dir.path(), "copy", 1, 0.1),
        run(dir.path(), "other", 2, 0.1),
    ];
    let report = zfl_report::write(&runs, &out).unwrap();
    let [warning] = &report.warnings[..] else {
        panic!("{:?}", report.warnings)
    };
    let same = format!(
        "{0}/one, {0}/copy have the same seed 1",
        dir.path().display()
    );
    assert!(warning.contains(&same), "{warning}");
    let html = fs::read_to_string(report.page).unwrap();
    assert!(html.contains(&same), "on the page");
}

#[test]
fn another_firmware_in_a_group_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let runs = [1, 2].map(|seed| {
        let path = run(dir.path(), &format!("of-{seed}"), seed, 0.1);
        change(&path, |meta| {
            meta["versions"] =
                json!({"firmware microvm": format!("sha256:{seed}"), "data": "mnist"});
        });
        path
    });
    let out = dir.path().join("report");
    let report = zfl_report::write(&runs, &out).unwrap();
    let [warning] = &report.warnings[..] else {
        panic!("{:?}", report.warnings)
    };
    assert!(
        warning.contains("2 different versions of the firmware microvm"),
        "{warning}"
    );
}

#[test]
fn a_run_that_was_resumed_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("night");
    let mut script = Script::new(&path, 3, 3);
    script.boot();
    script.round(1);
    let round = 1;
    script.emit(Event::RunResumed { round, lost_s: 0.5 });
    script.boot();
    (2..=3).for_each(|round| script.round(round));
    script.finish();
    let out = dir.path().join("report");
    let html = fs::read_to_string(zfl_report::write(&[path], &out).unwrap().page).unwrap();
    assert!(html.contains("finished, resumed after round 1"));
    assert!(html.contains("3 of 3"));
}

#[test]
fn what_is_no_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(zfl_report::write(&[], dir.path()).is_err());
    let nothing = dir.path().join("nothing");
    let error = format!(
        "{:#}",
        zfl_report::write(&[nothing], dir.path()).unwrap_err()
    );
    assert!(
        error.contains("nothing") && error.contains("events.jsonl"),
        "{error}"
    );
}

#[test]
fn what_was_not_measured_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "native", 1, 0.1);
    let file = path.join("events.jsonl");
    let strip = |line: &str| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        let event_of = event.as_object_mut().unwrap();
        for key in ["host", "simulated_s", "simulated_elapsed_s"] {
            event_of.remove(key);
        }
        format!("{event}\n")
    };
    let events: String = fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(strip)
        .collect();
    fs::write(&file, events).unwrap();
    let out = dir.path().join("report");
    zfl_report::write(&[path], &out).unwrap();
    let names = figures(&out);
    for name in ["simulated", "energy", "computing", "link", "processor"] {
        assert!(
            !names.iter().any(|known| known.contains(name)),
            "{name}: {names:?}"
        );
    }
    assert!(names.contains(&"device-training.svg".to_owned()));
}
