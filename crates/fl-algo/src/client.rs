//! The device half of an algorithm, and the object that a device runs it by.

use core::fmt;
use core::ops::Range;

use fl_nn::{Correction, Inputs, Model};

use crate::registry::{DeviceHalf, find_rule};
use crate::vector::{SectionSpec, Sizes, Stays, VectorSpec, Vectors, Way};
use fl_param::{ParamError, Params};

/// One client's task in a round, and after training what came of it.
#[derive(Clone, Copy, Debug)]
pub struct LocalJob<'a> {
    /// The round, from 1.
    pub round: u32,
    /// The round whose end the kept vectors are of; 0 before the client's first.
    pub state_round: u32,
    /// The training of this round, from 0: more than one if [`ClientRule::end`] asks for it.
    pub pass: u32,
    /// Passes over the client's examples.
    pub local_epochs: u32,
    /// Examples per step.
    pub batch_size: u32,
    /// Step width.
    pub learning_rate: f32,
    /// Seed of this client's random streams in this round.
    pub seed: u64,
    /// The model that is trained.
    pub model: &'a Model,
    /// The client's inputs.
    pub inputs: Inputs<'a>,
    /// The client's labels, `[num_examples]`.
    pub labels: &'a [u8],
    /// Optimiser steps done; 0 before training.
    pub steps: u32,
    /// Mean training loss of the last epoch; before training that of the global model if
    /// [`ClientRule::measures`], else 0.
    pub loss: f32,
}

/// Continuation after a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The round is done: send.
    Done,
    /// Train the parameters as they are now once more.
    Again,
}

/// Plan of one pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassPlan {
    /// Passes over the client's examples.
    pub epochs: u32,
    /// Number of the stream that orders the examples; 0 is that of FedAvg.
    pub stream: u32,
    /// Parameters that move; the others stand still.
    pub trains: Trains,
    /// [`ClientRule::correct`] is called, if the rule corrects at all.
    pub corrects: bool,
    /// Largest norm of the corrected gradient, unless the run has a smaller one.
    pub clip_norm: Option<f32>,
}

impl PassPlan {
    /// A pass of this number over all parameters, as FedAvg's.
    pub fn new(pass: u32, epochs: u32) -> Self {
        Self {
            epochs,
            stream: pass,
            trains: Trains::All,
            corrects: true,
            clip_norm: None,
        }
    }
}

/// Parameters that move in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trains {
    /// All of them.
    All,
    /// Those that travel.
    Travelling,
    /// Those that stay on the device.
    Staying,
}

/// The device half of an algorithm. It has no state but its vectors, so that state is what can be kept,
/// counted and sent.
pub trait ClientRule: Sync {
    /// The vectors that it needs with these parameters.
    fn vectors(&self, params: &Params) -> &'static [VectorSpec] {
        let _ = params;
        &[]
    }

    /// Tells if [`ClientRule::correct`] has anything to do in the pass that was begun. If not, training
    /// is that of FedAvg, as fast and to the bit.
    fn corrects(&self, params: &Params, vectors: &Vectors) -> bool {
        let _ = (params, vectors);
        false
    }

    /// Tells if the loss of the global model on the client's examples is to be measured before the first
    /// pass: it is [`LocalJob::loss`] when that begins.
    fn measures(&self, params: &Params) -> bool {
        let _ = params;
        false
    }

    /// Part of the model that stays on the device. The rest travels as section `model`, both ways.
    fn stays(&self, params: &Params) -> Stays {
        let _ = params;
        Stays::Nothing
    }

    /// Plans a pass, of a round with so many epochs.
    fn plan(&self, params: &Params, pass: u32, local_epochs: u32) -> PassPlan {
        let _ = params;
        PassPlan::new(pass, local_epochs)
    }

    /// Tells if every pass moves all parameters by the mean gradient as it is, as FedAvg's does: what integer arithmetic
    /// asks for.
    fn is_plain(&self, params: &Params) -> bool {
        let PassPlan {
            trains, clip_norm, ..
        } = self.plan(params, 0, 1);
        let moves_all = trains == Trains::All && clip_norm.is_none();
        moves_all && !self.watches_outputs() && !self.corrects(params, &Vectors::default())
    }

    /// Prepares a pass. Vectors that came down are in place, `weights` is the model to train.
    fn begin(
        &self,
        params: &Params,
        job: &LocalJob<'_>,
        weights: &mut [f32],
        vectors: &mut Vectors,
    ) {
        let _ = (params, job, weights, vectors);
    }

    /// Corrects a part of the mean gradient, as [`Correction::correct`].
    fn correct(
        &self,
        params: &Params,
        vectors: &mut Vectors,
        first: usize,
        weights: &[f32],
        gradient: &mut [f32],
    ) {
        let _ = (params, vectors, first, weights, gradient);
    }

    /// Tells if [`ClientRule::outputs`] is to be called.
    fn watches_outputs(&self) -> bool {
        false
    }

    /// Sees the logits of every example that is trained on, and may change the derivative of its loss by
    /// them, as [`Correction::outputs`].
    fn outputs(
        &self,
        params: &Params,
        vectors: &mut Vectors,
        label: usize,
        logits: &[f32],
        deltas: &mut [f32],
    ) {
        let _ = (params, vectors, label, logits, deltas);
    }

    /// Ends a pass: `weights` and the vectors that go up are to be what is sent.
    fn end(
        &self,
        params: &Params,
        job: &LocalJob<'_>,
        weights: &mut [f32],
        vectors: &mut Vectors,
    ) -> Pass {
        let _ = (params, job, weights, vectors);
        Pass::Done
    }

    /// Tells numbers about the round, for the results' open `metrics`.
    fn metrics(&self, params: &Params, vectors: &Vectors, report: &mut dyn FnMut(&str, f32)) {
        let _ = (params, vectors, report);
    }

    /// Writes the client's personal model into `out`; `false` if the rule makes none.
    ///
    /// # Shapes
    /// `global` and `out` are `[num_params]`.
    fn personal(
        &self,
        params: &Params,
        global: &[f32],
        vectors: &Vectors,
        out: &mut [f32],
    ) -> bool {
        let _ = (params, global, vectors, out);
        false
    }
}

/// A client rule at work on one device: its parameters, its vectors, and the round that they are of.
#[derive(Clone)]
pub struct LocalRule {
    half: &'static DeviceHalf,
    params: Params,
    vectors: Vectors,
    sizes: Sizes,
    /// The round whose end the kept vectors hold: 0 is before the first; `None` amid a training
    /// or a fetch.
    state_round: Option<u32>,
    /// Plan of the pass at hand.
    plan: PassPlan,
}

impl LocalRule {
    /// A rule by its name on the wire, for a model of these sizes.
    ///
    /// # Errors
    /// [`RuleError::Unknown`].
    pub fn named(name: &str, sizes: impl Into<Sizes>) -> Result<Self, RuleError> {
        let half = find_rule(name).ok_or(RuleError::Unknown)?;
        Ok(Self::new(half, sizes))
    }

    /// A rule for a model of these sizes.
    pub fn new(half: &'static DeviceHalf, sizes: impl Into<Sizes>) -> Self {
        Self {
            half,
            params: Params::defaults(half.params),
            vectors: Vectors::default(),
            sizes: sizes.into(),
            state_round: Some(0),
            plan: PassPlan::new(0, 1),
        }
    }

    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        self.half.rule
    }

    /// Takes the parameters of a `/start` and makes room for the vectors; those that are kept stay.
    /// Parameters that the rule does not know are not its own and are passed over.
    ///
    /// # Errors
    /// [`RuleError::Param`] if one is out of its bounds, [`RuleError::OutOfMemory`].
    pub fn prepare<'n>(
        &mut self,
        given: impl IntoIterator<Item = (&'n str, f32)>,
    ) -> Result<(), RuleError> {
        let mut params = Params::defaults(self.half.params);
        for (name, value) in given {
            match params.set(name, value.into()) {
                Ok(()) | Err(ParamError::Unknown) => {}
                Err(error) => return Err(RuleError::Param(error)),
            }
        }
        self.params = params;
        self.vectors.prepare(self.specs(), &self.sizes)
    }

    /// Gives back the memory of the vectors that are not kept, or that are kept and of no round yet.
    pub fn rest(&mut self) {
        let (specs, is_new) = (self.specs(), self.is_new());
        self.vectors.give_back(specs, |spec| is_new || !spec.kept);
    }

    /// True if the client has trained in no round: what is kept begins with the first.
    pub fn is_new(&self) -> bool {
        self.state_round == Some(0)
    }

    /// Makes room for the vectors again; those that are kept stay.
    ///
    /// # Errors
    /// [`RuleError::OutOfMemory`].
    pub fn wake(&mut self) -> Result<(), RuleError> {
        self.vectors.prepare(self.specs(), &self.sizes)
    }

    /// Vectors of the rule with its parameters.
    pub fn specs(&self) -> &'static [VectorSpec] {
        self.half.client.vectors(&self.params)
    }

    /// Bytes that the vectors take.
    pub fn bytes(&self) -> u64 {
        Vectors::bytes(self.specs(), &self.sizes)
    }

    /// Buffer for a section that came with `/start`.
    pub fn down_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let index = self.position(|spec| spec.down && spec.name == name)?;
        Some(self.vectors.get_mut(index))
    }

    /// Buffer for a section that came with `/state`; until [`LocalRule::state_arrived`] the kept vectors
    /// are those of no round.
    pub fn state_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let index = self.position(|spec| spec.is_mirrored() && spec.name == name)?;
        self.state_round = None;
        Some(self.vectors.get_mut(index))
    }

    /// Tells if the kept vectors have to be fetched before a training on the state of `round`; for round
    /// 0 they are zeroed here and now.
    pub fn needs_state(&mut self, round: u32) -> bool {
        let is_mirrored = self.position(|spec| spec.is_mirrored()).is_some();
        if !(is_mirrored || self.keeps_personal()) || self.state_round == Some(round) {
            return false;
        }
        if round > 0 {
            return true;
        }
        for (index, spec) in self.specs().iter().enumerate() {
            if spec.kept {
                self.vectors.get_mut(index).fill(0.0);
            }
        }
        self.state_round = Some(0);
        false
    }

    /// Says that the kept vectors and what stays of the model are those of `round`.
    pub fn state_arrived(&mut self, round: u32) {
        self.state_round = Some(round);
    }

    /// Tells if the loss of the global model is to be measured before the first pass.
    pub fn measures(&self) -> bool {
        self.half.client.measures(&self.params)
    }

    /// Parameters of the model that travel: the first so many.
    pub fn travelling(&self) -> usize {
        let stays = self.half.client.stays(&self.params);
        stays.travelling(&self.sizes)
    }

    /// Tells if anything stays on the device from round to round that nobody else has.
    pub fn keeps_personal(&self) -> bool {
        self.half.keeps_personal(&self.params, &self.sizes)
    }

    /// Numbers that stay on the device and nobody else has, in their order: the end of the model, then vectors.
    pub fn personal_part<'a>(&'a self, weights: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        let model = weights.get(self.travelling()..).unwrap_or(&[]);
        let own = (0..)
            .zip(self.specs())
            .filter(|(_, spec)| spec.is_personal());
        core::iter::once(model).chain(own.map(|(index, _)| self.vectors.get(index)))
    }

    /// [`LocalRule::personal_part`], to write; until [`LocalRule::state_arrived`] it is of no round.
    pub fn personal_part_mut<'a>(
        &'a mut self,
        weights: &'a mut [f32],
    ) -> impl Iterator<Item = &'a mut [f32]> {
        let model = weights.get_mut(self.travelling()..).unwrap_or(&mut []);
        let specs = self.specs();
        self.state_round = None;
        let own = self.vectors.iter_mut().zip(specs);
        let own = own.filter(|(_, spec)| spec.is_personal());
        core::iter::once(model).chain(own.map(|(vector, _)| vector))
    }

    /// Plan of a pass, of a round with so many epochs.
    pub fn plan(&self, pass: u32, local_epochs: u32) -> PassPlan {
        self.half.client.plan(&self.params, pass, local_epochs)
    }

    /// Prepares a pass; until [`LocalRule::end`] the kept vectors are those of no round.
    pub fn begin(&mut self, job: &LocalJob<'_>, weights: &mut [f32]) {
        self.state_round = None;
        self.plan = self.plan(job.pass, job.local_epochs);
        let client = self.half.client;
        client.begin(&self.params, job, weights, &mut self.vectors);
    }

    /// The correction to train with, if the rule has one.
    pub fn correction(&mut self) -> Option<RuleCorrection<'_>> {
        let PassPlan {
            trains, corrects, ..
        } = self.plan;
        let client = self.half.client;
        let corrects = corrects && client.corrects(&self.params, &self.vectors);
        let hooks = corrects || client.watches_outputs() || trains != Trains::All;
        hooks.then_some(RuleCorrection {
            rule: self,
            corrects,
        })
    }

    /// Ends a pass that trained all its epochs.
    pub fn end(&mut self, job: &LocalJob<'_>, weights: &mut [f32]) -> Pass {
        let client = self.half.client;
        let next = client.end(&self.params, job, weights, &mut self.vectors);
        if next == Pass::Done {
            self.state_round = Some(job.round);
        }
        next
    }

    /// Sections of a message, in their order.
    pub fn sections(&self, way: Way) -> impl Iterator<Item = SectionSpec> + use<> {
        self.half.sections(&self.params, way, &self.sizes)
    }

    /// Numbers of a vector by its name; empty if the rule has none of it.
    pub fn vector(&self, name: &str) -> &[f32] {
        let index = self.position(|spec| spec.name == name);
        index.map_or(&[], |index| self.vectors.get(index))
    }

    /// Numbers about the round, for the results' open `metrics`.
    pub fn metrics(&self, report: &mut dyn FnMut(&str, f32)) {
        self.half
            .client
            .metrics(&self.params, &self.vectors, report);
    }

    /// Tells if the kept vectors, or what stays of the model, are of a round that the client trained in.
    pub fn has_trained(&self) -> bool {
        self.state_round.is_some_and(|round| round > 0)
    }

    /// Writes the client's personal model into `out`; `false` if there is none: the rule makes none, or
    /// the client has trained in no round yet.
    ///
    /// # Shapes
    /// `global` and `out` are `[num_params]`.
    pub fn personal(&self, global: &[f32], out: &mut [f32]) -> bool {
        let client = self.half.client;
        self.has_trained() && client.personal(&self.params, global, &self.vectors, out)
    }

    fn position(&self, wanted: impl Fn(&VectorSpec) -> bool) -> Option<usize> {
        self.specs().iter().position(wanted)
    }
}

impl fmt::Debug for LocalRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRule")
            .field("rule", &self.half.rule)
            .field("params", &self.params)
            .field("state_round", &self.state_round)
            .finish_non_exhaustive()
    }
}

/// A rule's correction, for a trainer.
#[derive(Debug)]
pub struct RuleCorrection<'a> {
    rule: &'a mut LocalRule,
    corrects: bool,
}

impl Correction for RuleCorrection<'_> {
    fn correct(&mut self, first: usize, weights: &[f32], gradient: &mut [f32]) {
        let LocalRule {
            half,
            params,
            vectors,
            ..
        } = self.rule;
        if self.corrects {
            half.client
                .correct(params, vectors, first, weights, gradient);
        }
    }

    fn changes_gradients(&self) -> bool {
        self.corrects || self.rule.plan.trains != Trains::All
    }

    fn outputs(&mut self, label: usize, logits: &[f32], deltas: &mut [f32]) {
        let LocalRule {
            half,
            params,
            vectors,
            ..
        } = self.rule;
        half.client.outputs(params, vectors, label, logits, deltas);
    }

    fn trained(&self) -> Range<usize> {
        let (travelling, all) = (self.rule.travelling(), self.rule.sizes.num_params);
        match self.rule.plan.trains {
            Trains::All => 0..all,
            Trains::Travelling => 0..travelling,
            Trains::Staying => travelling..all,
        }
    }
}

/// Reason why a device cannot run a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RuleError {
    /// No rule of this name.
    Unknown,
    /// A parameter out of its bounds.
    Param(ParamError),
    /// Not enough memory for the vectors.
    OutOfMemory {
        /// Bytes that all vectors of the rule take.
        bytes: u64,
    },
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "this device does not know the rule"),
            Self::Param(error) => error.fmt(f),
            Self::OutOfMemory { bytes } => {
                write!(
                    f,
                    "the rule needs {bytes} bytes, this device has not so many"
                )
            }
        }
    }
}

impl core::error::Error for RuleError {}
