//! Sweeps: runs of one experiment with other values, several at once, killed and going on; and their comparison.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;
use support::{
    Guarded, LIMIT, Live, Run, Said, descendants, finish, folder, is_alive, signal, wait_until, zfl,
};
use tempfile::TempDir;

/// A sweep of native devices on the small data set; its folder goes when the test ends.
struct Sweep {
    folder: TempDir,
}

/// The experiment that the runs have in common.
const BASE: &str = "[base]\nbody = 'native'\ndata = 'zfl:digits'\nclients = 3\nlocal_epochs = 1\nexamples_per_client = 60\n\
                    batch_size = 20\nhidden = [8]\nlearning_rate = 0.1\n";

impl Sweep {
    fn of(axes: &str) -> Self {
        let folder = folder();
        fs::write(folder.path().join("try.toml"), format!("{BASE}{axes}")).unwrap();
        Self { folder }
    }

    fn command(&self, more: &[&str]) -> std::process::Command {
        let mut command = zfl();
        command
            .arg("sweep")
            .arg(self.folder.path().join("try.toml"));
        command.arg("--out").arg(self.out()).args(more);
        command
    }

    #[track_caller]
    fn run(&self, more: &[&str]) -> Said {
        finish(&mut self.command(more))
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn directory(&self, run: &str) -> PathBuf {
        self.out().join("runs").join(run)
    }

    /// The table: of each run its cells by the names of their columns.
    fn table(&self) -> Vec<BTreeMap<String, String>> {
        rows(&fs::read(self.out().join("runs.csv")).unwrap())
    }

    /// Runs whose summary is there.
    fn done(&self) -> Vec<PathBuf> {
        let runs = fs::read_dir(self.out().join("runs"))
            .into_iter()
            .flatten()
            .flatten();
        let runs = runs
            .map(|entry| entry.path())
            .filter(|run| run.join("summary.json").is_file());
        runs.collect()
    }
}

fn rows(csv: &[u8]) -> Vec<BTreeMap<String, String>> {
    let mut table = csv::Reader::from_reader(csv);
    table.deserialize().map(|row| row.unwrap()).collect()
}

fn written(run: &Path) -> SystemTime {
    run.join("summary.json")
        .metadata()
        .unwrap()
        .modified()
        .unwrap()
}

#[test]
fn every_combination_is_a_run_and_a_row_of_the_table() {
    let sweep = Sweep::of(
        "rounds = 2\n[grid]\nstrategy = ['fedavg', {name = 'fedprox', proximal_mu = 0.5}]\nseed = [1, 2]\n",
    );
    let said = sweep.run(&["--jobs", "2"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    let table = sweep.table();
    let names: Vec<&str> = table.iter().map(|row| row["run"].as_str()).collect();
    let expected = [
        "strategy-fedavg_seed-1",
        "strategy-fedavg_seed-2",
        "strategy-fedprox_proximal_mu-0.5_seed-1",
        "strategy-fedprox_proximal_mu-0.5_seed-2",
    ];
    assert_eq!(names, expected);
    for row in &table {
        assert_eq!(
            (row["status"].as_str(), row["rounds"].as_str()),
            ("done", "2"),
            "{row:?}"
        );
        assert!(
            row["accuracy"].parse::<f64>().unwrap() > 0.05 && row["model_sha256"].len() == 64,
            "{row:?}"
        );
    }
    assert_eq!(table[2]["strategy.proximal_mu"], "0.5");
    assert_eq!(table[0]["strategy.proximal_mu"], "");

    // A run of a sweep is the run that its experiment makes alone.
    let file = sweep.out().join(format!("runs/{}.toml", expected[0]));
    let alone = Run::succeeds(&[
        file.to_str().unwrap(),
        "--body",
        "native",
        "--dashboard",
        "off",
    ]);
    assert_eq!(alone.model(), table[0]["model_sha256"]);

    // The file in the folder goes on as well, and there is nothing to do.
    let before = written(&sweep.directory(expected[0]));
    let again = finish(
        zfl()
            .arg("sweep")
            .arg(sweep.out())
            .arg("--out")
            .arg(sweep.out()),
    );
    assert_eq!(again.status, Some(0), "{again:?}");
    assert!(again.out.contains("4 done, 0 to go on with"), "{again:?}");
    assert_eq!(written(&sweep.directory(expected[0])), before);

    // Values that are added are runs that are added.
    let more = fs::read_to_string(sweep.folder.path().join("try.toml"))
        .unwrap()
        .replace("[1, 2]", "[1, 2, 3]");
    fs::write(sweep.folder.path().join("try.toml"), more).unwrap();
    assert_eq!(sweep.run(&[]).status, Some(0));
    assert_eq!(sweep.table().len(), 6);
    assert_eq!(written(&sweep.directory(expected[0])), before);

    let compared = finish(
        zfl()
            .arg("compare")
            .arg(sweep.out())
            .args(["--csv", "--target", "0.01"]),
    );
    let groups = rows(compared.out.as_bytes());
    assert_eq!(groups.len(), 2, "{compared:?}");
    for group in &groups {
        assert_eq!(
            (group["runs"].as_str(), group["reached"].as_str()),
            ("3", "3"),
            "{group:?}"
        );
        let of_group = |row: &&BTreeMap<String, String>| row["strategy"] == group["strategy.name"];
        let table = sweep.table();
        let accuracies = table
            .iter()
            .filter(of_group)
            .map(|row| row["accuracy"].parse::<f64>().unwrap());
        let mean = 100.0 * accuracies.sum::<f64>() / 3.0;
        assert!(
            (group["accuracy_mean"].parse::<f64>().unwrap() - mean).abs() < 1e-9,
            "{group:?}"
        );
        assert_eq!(
            group["rounds_to_target_mean"], "0",
            "the initial model has that much"
        );
    }
}

/// Lines of a run's events that have this word, torn ones aside.
fn events(run: &Path, word: &str) -> usize {
    let text = fs::read_to_string(run.join("events.jsonl")).unwrap();
    text.lines().filter(|line| line.contains(word)).count()
}

#[test]
fn a_sweep_of_24_runs_that_was_killed_goes_on_and_redoes_nothing() {
    const RUNS: &str = "rounds = 3\n[grid]\nlearning_rate = [0.05, 0.1, 0.2]\nactivation = ['relu', 'sigmoid']\n\
                        seed = [1, 2, 3, 4]\n";
    let sweep = Sweep::of(RUNS);
    let mut killed = Guarded::start(
        sweep
            .command(&["--jobs", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    wait_until("half of the runs are done", LIMIT, || {
        (sweep.done().len() >= 12).then_some(())
    });
    let all = descendants(killed.pid());
    signal(killed.pid(), "KILL");
    killed.finish();
    wait_until("its runs are gone with it", LIMIT, || {
        (!all.iter().any(is_alive)).then_some(())
    });
    let before: Vec<(PathBuf, SystemTime)> = sweep
        .done()
        .into_iter()
        .map(|run| (run.clone(), written(&run)))
        .collect();
    assert!((12..24).contains(&before.len()), "{before:?}");
    // Every setting has had its turn before any has its third.
    for setting in ["0.05", "0.1", "0.2"] {
        let of = before.iter().filter(|(run, _)| {
            run.to_str()
                .unwrap()
                .contains(&format!("learning_rate-{setting}_"))
        });
        assert!(of.count() >= 2, "{before:?}");
    }
    let said = sweep.run(&["--jobs", "2"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(
        said.out.contains(&format!("{} done, ", before.len())),
        "{said:?}"
    );
    for (run, then) in &before {
        let name = run.display();
        assert_eq!(written(run), *then, "{name} was done again");
        assert_eq!(
            events(run, "\"run_started\""),
            1,
            "{name} was started again"
        );
        assert_eq!(events(run, "\"run_resumed\""), 0, "{name} was gone on with");
    }
    // Two were under way; the others began once.
    let runs = sweep.done();
    assert_eq!(runs.len(), 24);
    let begun = runs.iter().map(|run| events(run, "\"run_started\""));
    assert!((24..=26).contains(&begun.sum::<usize>()));
    let whole = Sweep::of(RUNS);
    assert_eq!(whole.run(&[]).status, Some(0));
    let models = |sweep: &Sweep| -> Vec<String> {
        sweep
            .table()
            .iter()
            .map(|row| row["model_sha256"].clone())
            .collect()
    };
    assert_eq!(models(&sweep), models(&whole));
}

#[test]
fn a_run_that_fails_is_told_and_the_others_go_on() {
    // Nobody answers within the deadline of the one, and its quorum is never met.
    let sweep = Sweep::of("rounds = 2\n[grid]\n\"faults.drop_out\" = [0, 1]\n");
    let said = sweep.run(&["--jobs", "1"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.err.contains("drop_out-1 failed"), "{said:?}");
    let table = sweep.table();
    let status = |drop_out: &str| {
        let row = table
            .iter()
            .find(|row| row["faults.drop_out"] == drop_out)
            .unwrap();
        row["status"].clone()
    };
    assert_eq!(
        (status("0").as_str(), status("1").as_str()),
        ("done", "failed"),
        "{table:?}"
    );
}

#[test]
fn ctrl_c_stops_the_runs_and_they_go_on_to_the_same_models() {
    let sweep = Sweep::of("rounds = 100000\n[grid]\nseed = [1, 2]\n");
    let mut live = Guarded::start(
        sweep
            .command(&["--jobs", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let begun = |seed: u32| {
        sweep
            .directory(&format!("seed-{seed}"))
            .join("model.safetensors")
            .is_file()
    };
    wait_until("both runs have a model", LIMIT, || {
        (begun(1) && begun(2)).then_some(())
    });
    let second = sweep.run(&[]);
    assert_eq!(second.status, Some(2), "one sweep at a time: {second:?}");
    signal(live.pid(), "INT");
    assert_eq!(live.finish().code(), Some(130));
    let table = sweep.table();
    assert!(
        table.iter().all(|row| row["status"] == "interrupted"),
        "{table:?}"
    );
    let most = table
        .iter()
        .map(|row| row["rounds"].parse::<u32>().unwrap())
        .max()
        .unwrap();
    let text = fs::read_to_string(sweep.folder.path().join("try.toml")).unwrap();
    let fewer = format!("rounds = {}\n", most + 2);
    fs::write(
        sweep.folder.path().join("try.toml"),
        text.replace("rounds = 100000\n", &fewer),
    )
    .unwrap();
    assert_eq!(sweep.run(&[]).status, Some(0));
    let alone = sweep.out().join("runs/seed-1.toml");
    let alone = Run::succeeds(&[
        alone.to_str().unwrap(),
        "--body",
        "native",
        "--dashboard",
        "off",
    ]);
    assert_eq!(sweep.table()[0]["model_sha256"], alone.model());
}

#[test]
fn what_cannot_be_is_refused_with_its_place_before_anything_starts() {
    for (axes, line, words) in [
        (
            "[grid]\nlearning_rat = [1]\n",
            11,
            "did you mean `learning_rate`?",
        ),
        ("[grid]\nlearning_rate = 1\n", 11, "a list in brackets"),
        ("[grid]\nlearning_rate = ['high']\n", 11, "a number"),
        ("[grid]\nlearning_rate = []\n", 11, "the list is empty"),
        (
            "[grid]\n\"strategy.proximal\" = [1]\n",
            11,
            "did you mean `strategy.proximal_mu`?",
        ),
        (
            "[grid]\nstrategy.name = ['fedavg', 'fedpox']\n",
            11,
            "did you mean \"fedprox\"?",
        ),
        ("[grid]\nout = ['x']\n", 11, "no key `out`"),
        // Each alone is sound, and together they are not.
        (
            "[grid]\nclients_per_round = [1, 9]\n",
            11,
            "clients_per_round = 9",
        ),
        (
            "[random]\ndraws = 2\nlearning_rate = {uniform = [2, 1]}\n",
            12,
            "the smaller one first",
        ),
        ("[random]\ndraws = 2\n", 10, "nothing is drawn"),
        (
            "[[cases]]\nname = 'a'\n[[cases]]\nname = 'a'\n",
            13,
            "two cases have this name",
        ),
        ("[grids]\n", 10, "did you mean `grid`?"),
    ] {
        let sweep = Sweep::of(axes);
        let said = sweep.run(&[]);
        assert_eq!(said.status, Some(2), "{axes}: {said:?}");
        assert!(said.err.contains(words), "{axes}: {said:?}");
        assert!(
            said.err.contains(&format!("try.toml: line {line}, ")),
            "{axes}: {said:?}"
        );
        assert!(!sweep.out().exists(), "{axes}");
    }
}

#[test]
fn a_folder_with_other_runs_is_refused() {
    let sweep = Sweep::of("rounds = 2\n[grid]\nseed = [1]\n");
    assert_eq!(sweep.run(&[]).status, Some(0));
    let file = sweep.folder.path().join("try.toml");
    let text = fs::read_to_string(&file).unwrap();
    let refused = |from: &str, to: &str, words: &str| {
        fs::write(&file, text.replace(from, to)).unwrap();
        let said = sweep.run(&[]);
        assert_eq!(said.status, Some(2), "{said:?}");
        assert!(said.err.contains(words), "{said:?}");
    };
    refused(
        "learning_rate = 0.1",
        "learning_rate = 0.2",
        "other settings (learning_rate)",
    );
    refused("rounds = 2", "rounds = 1", "has 2 rounds");
    // More rounds continue the run.
    fs::write(&file, text.replace("rounds = 2", "rounds = 4")).unwrap();
    assert_eq!(sweep.run(&[]).status, Some(0));
    let alone = sweep.out().join("runs/seed-1.toml");
    let alone = Run::succeeds(&[
        alone.to_str().unwrap(),
        "--body",
        "native",
        "--dashboard",
        "off",
    ]);
    assert_eq!(sweep.table()[0]["model_sha256"], alone.model());
}

#[test]
fn a_list_of_the_runs_starts_none() {
    let sweep = Sweep::of(
        "[random]\ndraws = 5\nseed = 3\nlearning_rate = {log_uniform = [0.01, 1]}\nhidden = {choice = [[8], [16, 8]]}\n",
    );
    let said = sweep.run(&["--dry-run"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(said.out.matches("learning_rate-0.").count(), 5, "{said:?}");
    assert!(said.out.contains("5 runs, "), "{said:?}");
    assert_eq!(said.out, sweep.run(&["--dry-run"]).out, "draws repeat");
    assert!(!sweep.out().exists());
}

#[test]
fn more_rounds_on_resume_give_the_model_of_a_run_that_had_them_from_the_start() {
    let base = "--body native --data zfl:digits --clients 4 --epochs 1 --examples 60 --batch-size 20 --lr 0.1 \
                --hidden 8 --dashboard off --clients-per-round 2";
    let run = |rounds: &str, more: &str| {
        let flags = format!("{base} --rounds {rounds} {more}");
        Run::succeeds(&flags.split_whitespace().collect::<Vec<_>>())
    };
    let cosine = "--schedule cosine --schedule-arg t_max";
    for (flags, from_the_start) in [
        ("", String::new()),
        ("--strategy scaffold", "--strategy scaffold".to_owned()),
        ("--strategy fedadam", "--strategy fedadam".to_owned()),
        // Its length is that with which the run began.
        ("--schedule cosine", format!("{cosine}=3")),
    ] {
        let fewer = run("3", flags);
        let more = Live::resume(fewer, &["--rounds", "6", "--dashboard", "off"]).finish();
        assert_eq!(more.said.status, Some(0), "{flags}: {more:?}");
        assert_eq!(more.model(), run("6", &from_the_start).model(), "{flags}");
        let config = fs::read_to_string(more.out().join("config.toml")).unwrap();
        assert!(config.contains("rounds = 6\n"), "{config}");
    }
}
