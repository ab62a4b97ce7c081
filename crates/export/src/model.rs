//! A model with all that is needed to use it.

use crate::tensors;
use anyhow::{Context, Result, bail, ensure};
use fl_data::Scaling;
use fl_nn::{Activation, Arithmetic, MAX_LAYERS, Model, Shape};
use serde::{Deserialize, Serialize};
use std::path::Path;
use zfl_files::Dir;
use zfl_run_dir::{MAX_FACTS, Meta, RunDir, SCALING, model_sha256};

/// Facts about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Units of all layers, inputs first.
    pub layers: Vec<usize>,
    /// Function of the hidden units: `relu` or `sigmoid`.
    pub activation: String,
    /// Arithmetic with which it was trained: `fixed`, `float` or `integer`.
    pub arithmetic: String,
    /// Round after which it was so.
    pub round: u32,
    /// Seed of the run.
    pub seed: Option<u64>,
    /// SHA-256 of the parameters as little-endian f32, layer by layer: weights `[inputs, outputs]`, then biases.
    pub sha256: String,
    /// The version of zfl.
    pub zfl_version: Option<String>,
    /// Data set and its hash.
    pub data: Option<String>,
    /// Scales by which features become octets, and names of classes; none where the inputs are octets.
    #[serde(default)]
    pub scaling: Option<Scaling>,
}

/// A model, its parameters, and facts about it.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedModel {
    /// Layers and activation.
    pub model: Model,
    /// The parameters, in the order of [`About::sha256`].
    pub params: Vec<f32>,
    /// Facts.
    pub about: About,
}

impl SavedModel {
    /// Reads the model of a run directory.
    ///
    /// # Errors
    /// If there is none yet, or it is not as zfl wrote it.
    pub fn of_run(run: &Path) -> Result<Self> {
        let meta = Meta::load(run)?;
        let text = |key: &str| meta.config.get(key)?.as_str().map(str::to_owned);
        let named = |key: &str| {
            let found = text(key);
            found.with_context(|| format!("{}: config.toml names no {key}", run.display()))
        };
        let layers = meta.config.get("layers").cloned().unwrap_or_default();
        let layers: Vec<usize> = serde_json::from_value(layers)
            .with_context(|| format!("{}: config.toml names no layers", run.display()))?;
        let dir = Dir::open(run)?;
        ensure!(
            dir.is_file(RunDir::MODEL),
            "{} holds no model: no round of it is complete",
            run.display()
        );
        let scaling = match dir.read(SCALING, MAX_FACTS) {
            Err(error) if error.is_missing() => None,
            text => Some(serde_json::from_slice(&text?).context("read scaling.json")?),
        };
        let mut about = About {
            layers,
            activation: named("activation")?,
            arithmetic: named("arithmetic")?,
            round: 0,
            seed: meta.config.get("seed").and_then(serde_json::Value::as_u64),
            sha256: String::new(),
            zfl_version: meta.zfl_version.clone(),
            data: meta.versions.get("data").cloned(),
            scaling,
        };
        let (params, round) = RunDir::read_model(run, &about.model()?)?;
        (about.round, about.sha256) = (round, model_sha256(&params));
        Self::of(about, params)
    }

    /// Reads a file that was exported as safetensors, of at most as many bytes as zfl writes.
    ///
    /// # Errors
    /// If it is another file, or its parameters are not those of its hash.
    pub fn of_file(file: &Path) -> Result<Self> {
        let bytes = zfl_files::read(file, tensors::MAX_BYTES)?;
        tensors::read(&bytes).with_context(|| file.display().to_string())
    }

    pub(crate) fn of(about: About, params: Vec<f32>) -> Result<Self> {
        let model = about.model()?;
        let (is, needs) = (params.len(), model.shape().num_params());
        ensure!(
            is == needs,
            "it has {is} parameters, and layers of {:?} need {needs}",
            about.layers
        );
        ensure!(
            params.iter().all(|param| param.is_finite()),
            "it has diverged: a parameter is not finite"
        );
        ensure!(
            model_sha256(&params) == about.sha256,
            "its parameters are not those of the hash in it"
        );
        about.arithmetic()?;
        if let Some(scaling) = &about.scaling {
            let finite = |x: f64| x.is_finite();
            let columns = &scaling.columns;
            let sound = columns
                .iter()
                .all(|one| finite(one.offset) && finite(one.step) && one.step > 0.0);
            ensure!(sound, "a scale of its inputs is no number");
        }
        Ok(Self {
            model,
            params,
            about,
        })
    }

    /// Layers in their order: inputs, outputs, weights `[inputs, outputs]`, biases.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (usize, usize, &[f32], &[f32])> {
        let mut rest = &*self.params;
        self.about.layers.windows(2).map(move |pair| {
            let (d_in, d_out) = (pair[0], pair[1]);
            let (weights, behind) = rest.split_at(d_in * d_out);
            let (biases, behind) = behind.split_at(d_out);
            rest = behind;
            (d_in, d_out, weights, biases)
        })
    }
}

impl About {
    pub(crate) fn model(&self) -> Result<Model> {
        ensure!(
            self.layers.len() <= MAX_LAYERS + 1,
            "it has too many layers"
        );
        let shape = Shape::new(&self.layers).map_err(|error| anyhow::anyhow!("{error}"))?;
        let activation = match self.activation.as_str() {
            "relu" => Activation::Relu,
            "sigmoid" => Activation::Sigmoid,
            other => bail!("there is no activation `{}`", other.escape_debug()),
        };
        Ok(Model::new(shape, activation))
    }

    /// Arithmetic of the training.
    ///
    /// # Errors
    /// If it is none that zfl knows.
    pub fn arithmetic(&self) -> Result<Arithmetic> {
        match self.arithmetic.as_str() {
            "fixed" => Ok(Arithmetic::Fixed),
            "float" => Ok(Arithmetic::Float),
            "integer" => Ok(Arithmetic::Integer),
            other => bail!("there is no arithmetic `{}`", other.escape_debug()),
        }
    }
}
