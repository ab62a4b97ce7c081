//! An algorithm of one's own: the median of the local models, parameter by parameter. Its device half is
//! FedAvg's, so every device can take part.

use fl_algo::{
    AggregateError, Algorithm, Choice, KeptVectors, Rejected, RoundMetrics, ServerRule, Update,
};
use std::sync::LazyLock;
use zfl_experiment::{BodyChoice, Experiment, Out, Root, Settings};

#[derive(Default)]
struct Median {
    models: Vec<Vec<f32>>,
}

impl ServerRule for Median {
    fn begin(&mut self, _round: u32, _global: &[f32]) {
        self.models.clear();
    }

    fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
        self.models.push(update.model().to_vec());
        Ok(())
    }

    fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
        for (at, param) in global.iter_mut().enumerate() {
            let mut values: Vec<f32> = self.models.iter().map(|model| model[at]).collect();
            values.sort_by(f32::total_cmp);
            *param = values[values.len() / 2];
        }
        Ok(RoundMetrics::new())
    }
}

static MEDIAN: LazyLock<Algorithm> = LazyLock::new(|| Algorithm {
    name: "median",
    doc: "the median of the local models",
    paper: "Yin et al. 2018, https://arxiv.org/abs/1803.01498",
    device: Choice::default().algorithm.device,
    params: &[],
    server: |_| Ok(Box::new(Median::default())),
});

/// Runs it on five native devices.
pub fn main() -> anyhow::Result<()> {
    let mut settings = Settings {
        clients: Some(5),
        rounds: Some(2),
        ..Settings::default()
    };
    settings.device.body = Some(BodyChoice::Native);
    let (mut experiment, data) = Experiment::of_run(&settings, Out::New(None), &Root::find(None)?)?;
    experiment.strategy = Choice::new(&MEDIAN).into();
    let summary = zfl_runner::run((experiment, data), ())?;
    println!(
        "accuracy {:.3}",
        summary.training.final_accuracy.unwrap_or(0.0)
    );
    Ok(())
}
