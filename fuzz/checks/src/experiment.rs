//! Experiment files, from the text to the resolved experiment and its `config.toml`.

use crate::idx::{IMAGES, LABELS};
use crate::{Verdict, folder};
use std::path::Path;
use zfl_experiment::{Experiment, Out, Root, Settings};

/// The board that a device has if the file names none.
const BOARD: &[u8] = include_bytes!("../../../boards/microvm/board.toml");

pub(crate) fn check(input: &[u8]) -> Verdict {
    let folder = folder([
        ("experiment.toml", input),
        ("boards/microvm/board.toml", BOARD),
        ("data/train-images-idx3-ubyte", IMAGES),
        ("data/train-labels-idx1-ubyte", LABELS),
        ("data/t10k-images-idx3-ubyte", IMAGES),
        ("data/t10k-labels-idx1-ubyte", LABELS),
    ]);
    let root = folder.path();
    let Ok(mut settings) = Settings::read(&root.join("experiment.toml")) else {
        return Verdict::Refused;
    };
    // Paths in the input could lead anywhere.
    settings.data = Some(root.join("data"));
    settings.out = None;
    let resolved = resolve(&settings, root);
    if let Ok(experiment) = &resolved {
        let text = experiment
            .to_toml()
            .expect("an experiment can be written down");
        let file = root.join("config.toml");
        std::fs::write(&file, &text).expect("a file in a temporary folder");
        let again = Settings::read(&file).expect("its own config.toml can be read");
        let again = resolve(&again, root).expect("its own config.toml can be resolved");
        assert_eq!(again.to_toml().expect("the same again"), text);
    }
    Verdict::of(&resolved)
}

fn resolve(settings: &Settings, root: &Path) -> Result<Experiment, ()> {
    let out = root.join("out");
    let resolved = Experiment::of_run(settings, Out::New(Some(&out)), &Root::of_tree(root));
    resolved.map(|(experiment, _)| experiment).map_err(drop)
}
