//! The runs of a sweep, each resolved and checked.

use crate::file::Sweep;
use crate::name::text;
use crate::points::Point;
use crate::settings::with;
use std::collections::BTreeMap;
use zfl_experiment::estimate::{memory, wire};
use zfl_experiment::{Experiment, Out, Refusal, Root, Settings};

/// A run that was checked.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name and its values.
    pub point: Point,
    /// The experiment, with every value resolved.
    pub toml: String,
    /// Rounds.
    pub rounds: u32,
    /// Devices.
    pub clients: u32,
    /// Parameters of the model.
    pub num_params: u64,
    /// Memory of this machine that it takes, as an estimate in bytes.
    pub host_bytes: u64,
    /// Bytes of the model to devices and of updates back, as an estimate.
    pub wire_bytes: u64,
    /// Processors that it keeps busy: an emulated device one, a native run one for all of them, since several
    /// runs side by side take less time than one whose devices are spread.
    pub processors: usize,
}

/// Every run of a sweep.
#[derive(Debug)]
pub struct Plan {
    /// The runs.
    pub runs: Vec<Planned>,
    /// Keys that the sweep sets in some run.
    pub columns: Vec<String>,
    /// Lines for people about some of the runs, each once.
    pub notes: Vec<String>,
}

impl Plan {
    /// Resolves and checks every run that a sweep asks for.
    ///
    /// # Errors
    /// The [`Refusal`] of the first that cannot be, with its values and the place of the key that is wrong, where
    /// one key is.
    pub fn of(sweep: &Sweep, root: &Root) -> Result<Self, Refusal> {
        let mut notes = Vec::new();
        let mut runs = Vec::new();
        for point in sweep.points() {
            runs.push(planned(sweep, point, root, &mut notes)?);
        }
        Ok(Self {
            runs,
            columns: sweep.columns(),
            notes,
        })
    }

    /// Places of the runs in the order in which they are made: every setting with its first seed, then every setting
    /// with its second, so that a sweep that is broken off has something of each.
    pub fn by_turns(&self) -> Vec<usize> {
        let mut seen = BTreeMap::<String, usize>::new();
        let mut turn = |run: &Planned| {
            let seen = seen.entry(run.point.setting()).or_default();
            *seen += 1;
            *seen
        };
        let mut places: Vec<(usize, usize)> = self.runs.iter().map(&mut turn).zip(0..).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, at)| at).collect()
    }
}

fn planned(
    sweep: &Sweep,
    point: Point,
    root: &Root,
    notes: &mut Vec<String>,
) -> Result<Planned, Refusal> {
    let refused = |key: &str, problem: &str| {
        let values: Vec<String> = point
            .values
            .iter()
            .map(|(key, value)| format!("{key} = {}", text(value)))
            .collect();
        let of = match &values[..] {
            [] => String::new(),
            values => format!(" (the run with {})", values.join(", ")),
        };
        sweep.refused(key, &format!("{problem}{of}"))
    };
    let table = with(&sweep.base, &point.values).map_err(|key| {
        refused(
            &key,
            &format!("`{key}` is none that the experiment can have"),
        )
    })?;
    let settings = Settings::of_table(&table, &sweep.folder);
    let mut settings = settings.map_err(|problem| refused(&culprit(&point, &problem), &problem))?;
    settings.name = Some(point.name.clone());
    let resolved = Experiment::of_run(&settings, Out::New(None), root);
    let (experiment, _) = resolved.map_err(|error| {
        let problem = format!("{error:#}");
        refused(&culprit(&point, &problem), &problem)
    })?;
    let new: Vec<_> = experiment
        .notes
        .iter()
        .filter(|note| !notes.contains(note))
        .cloned()
        .collect();
    notes.extend(new);
    summed_up(point, &experiment)
}

fn summed_up(point: Point, experiment: &Experiment) -> Result<Planned, Refusal> {
    let per_device = wire::start_bytes(experiment) + wire::update_bytes(experiment);
    let updates = u64::from(experiment.rounds) * u64::from(experiment.clients_per_round);
    let is_emulated = |group: &&zfl_experiment::FleetGroup| group.board.is_some();
    let machines: u32 = experiment
        .groups
        .iter()
        .filter(is_emulated)
        .map(|group| group.count)
        .sum();
    Ok(Planned {
        point,
        toml: experiment.to_toml().map_err(Refusal::of)?,
        rounds: experiment.rounds,
        clients: experiment.clients,
        num_params: experiment.num_params(),
        host_bytes: memory::host_bytes(experiment)?,
        wire_bytes: per_device.saturating_mul(updates),
        processors: (machines as usize).max(1),
    })
}

/// The key of a run that a problem is about, as far as its words tell; else the first that the sweep sets.
fn culprit(point: &Point, problem: &str) -> String {
    let mut keys = point.values.keys().rev();
    let named = |key: &&String| {
        let last = key.strip_suffix(".name").unwrap_or(key);
        let last = last.rsplit('.').next().unwrap_or(last);
        problem.contains(last)
            || problem.contains(&last.replace('_', " "))
            || problem.contains(&last.replace('_', "-"))
    };
    keys.find(named)
        .or_else(|| point.values.keys().next())
        .cloned()
        .unwrap_or_default()
}
