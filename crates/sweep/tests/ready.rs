//! The sweeps that come with zfl, and what a sweep file asks for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use zfl_sweep::Sweep;

fn read(text: &str) -> Result<Sweep, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("try.toml");
    std::fs::write(&path, text).unwrap();
    Sweep::read(&path).map_err(|refusal| refusal.to_string())
}

fn names(sweep: &Sweep) -> Vec<String> {
    sweep.points().into_iter().map(|point| point.name).collect()
}

#[test]
fn the_ready_sweeps_are_read_and_no_two_of_their_runs_are_alike() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/sweeps");
    let files: Vec<PathBuf> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() >= 3);
    for file in files {
        let sweep = Sweep::read(&file).unwrap_or_else(|problem| panic!("{problem}"));
        let names = names(&sweep);
        assert!(names.len() > 1, "{}", file.display());
        assert_eq!(
            names.iter().collect::<BTreeSet<_>>().len(),
            names.len(),
            "{}",
            file.display()
        );
    }
}

#[test]
fn the_runs_are_every_case_with_every_draw_and_every_combination() {
    let text = "[grid]\nseed = [1, 2]\nclients = [3, 4, 5]\n[random]\ndraws = 4\nlearning_rate = {uniform = [0, 1]}\n\
                [[cases]]\nname = 'a'\n[[cases]]\nrounds = 3\n";
    let names = names(&read(text).unwrap());
    assert_eq!(names.len(), 2 * 3 * 4 * 2);
    assert!(
        names[0].starts_with("a_clients-3_learning_rate-0.") && names[0].ends_with("_seed-1"),
        "{names:?}"
    );
    assert!(
        names[1].ends_with("_seed-2"),
        "the seed changes fastest: {names:?}"
    );
    assert!(names[47].contains("rounds-3"), "{names:?}");
}

#[test]
fn what_is_added_later_renames_nothing_and_redraws_nothing() {
    let text = "[random]\ndraws = 3\nseed = 5\nlearning_rate = {log_uniform = [0.01, 1]}\n";
    let before = names(&read(text).unwrap());
    let more = read(&text.replace("draws = 3", "draws = 9")).unwrap();
    assert_eq!(names(&more)[..3], before);
    let key = read(&format!("{text}batch_size = {{choice = [10, 20]}}\n")).unwrap();
    for (with, without) in names(&key).iter().zip(&before) {
        assert!(with.ends_with(without.as_str()), "{with} {without}");
    }
    let other = read(&text.replace("seed = 5", "seed = 6")).unwrap();
    assert_ne!(names(&other), before);
}

#[test]
fn values_that_are_listed_twice_are_one_run() {
    assert_eq!(
        names(&read("[grid]\nseed = [1, 1, 2]\n").unwrap()),
        ["seed-1", "seed-2"]
    );
}

#[test]
fn names_with_and_without_quotes_are_the_same_key() {
    let quoted =
        read("[grid]\n\"strategy.name\" = ['fedavg', 'scaffold']\n\"faults.drop_out\" = [0.1]\n")
            .unwrap();
    let plain =
        read("[grid]\nstrategy.name = ['fedavg', 'scaffold']\nfaults.drop_out = [0.1]\n").unwrap();
    let short =
        read("[grid]\nstrategy = ['fedavg', 'scaffold']\nfaults.drop_out = [0.1]\n").unwrap();
    assert_eq!(names(&quoted), names(&plain));
    assert_eq!(names(&quoted), names(&short));
}

#[test]
fn mistakes_in_the_base_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("base.toml"),
        "rounds = 3\nlearning_rat = 1\n",
    )
    .unwrap();
    let path = folder.path().join("try.toml");
    std::fs::write(&path, "base = 'base.toml'\n").unwrap();
    let refused = Sweep::read(&path).unwrap_err().to_string();
    assert!(refused.contains("base.toml: line 2, column 1"), "{refused}");
    let refused = read("[base]\nrounds = 0\n").unwrap_err();
    assert!(refused.contains("line 2"), "{refused}");
}
