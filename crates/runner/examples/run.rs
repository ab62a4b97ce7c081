//! A run from Rust: four native devices, three rounds. The results go to runs/ below the current folder.

use zfl_experiment::{BodyChoice, Experiment, Out, Root, Settings};
use zfl_run_dir::Event;
use zfl_runner::{Observer, run};

struct Rounds;

impl Observer for Rounds {
    fn on_event(&self, event: &Event) {
        if let Event::RoundFinished { record } = event {
            println!(
                "round {}: accuracy {:.3}",
                record.round,
                record.test_accuracy.unwrap_or(f64::NAN)
            );
        }
    }
}

/// Runs the experiment, and shows each round.
pub fn main() -> anyhow::Result<()> {
    let mut settings = Settings {
        clients: Some(4),
        rounds: Some(3),
        ..Settings::default()
    };
    settings.device.body = Some(BodyChoice::Native);
    let experiment = Experiment::of_run(&settings, Out::New(None), &Root::find(None)?)?;
    let summary = run(experiment, Rounds)?;
    println!("model {}", summary.training.model_sha256);
    assert!(summary.training.success);
    Ok(())
}
