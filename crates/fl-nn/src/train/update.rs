//! Update of the parameters by anything but plain SGD: correct the mean gradient, clip it, let the weights
//! decay, then take the optimizer's step, a segment at a time.
//!
//! Plain SGD without correction, decay or clipping never comes here: the kernels apply its gradient as
//! they sum it ([`super::batch`]).

use core::ops::Range;

use super::TrainConfig;
use super::optimizer::{AdamStep, Optimizer, Powers, momentum_step};
use crate::error::TrainError;

/// Hook of an algorithm between the mean gradient of a batch and the optimizer's step.
///
/// The parameters come in segments, each once per step, in an order that does not depend on how the work
/// is cut. With clipping each segment comes twice, and both calls must do the same.
pub trait Correction {
    /// Changes the gradient of one segment.
    ///
    /// An element that is left as it is moves by plain SGD to the same bits as without a correction.
    ///
    /// # Shapes
    /// `weights` (before the step), `gradient`: `[len]`, the parameters `first..first + len`.
    fn correct(&mut self, first: usize, weights: &[f32], gradient: &mut [f32]);

    /// Tells if [`Correction::correct`] does anything. If not, and all parameters move, training is as fast as
    /// without a correction.
    fn changes_gradients(&self) -> bool {
        true
    }

    /// Changes the derivative of one example's loss by its logits, which are those before the step.
    ///
    /// # Shapes
    /// `logits`, `deltas`: `[num_classes]`; `label` is below that.
    fn outputs(&mut self, label: usize, logits: &[f32], deltas: &mut [f32]) {
        let _ = (label, logits, deltas);
    }

    /// The parameters that move, the same for a whole training; the others stand still, and nothing is
    /// called for them.
    fn trained(&self) -> Range<usize> {
        0..usize::MAX
    }
}

/// The part of a segment of `len` parameters from `first` on that moves.
fn moving(hook: &Hook<'_>, first: usize, len: usize) -> Range<usize> {
    let Some(correction) = hook else {
        return 0..len;
    };
    let Range { start, end } = correction.trained();
    let end = end.saturating_sub(first).min(len);
    start.saturating_sub(first).min(end)..end
}

/// The correction of one training, if there is one.
pub(crate) type Hook<'a> = Option<&'a mut (dyn Correction + 'a)>;

/// Numbers that an update carries from segment to segment and from step to step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    powers: Powers,
    /// Sum of squares of the gradient that is to be clipped.
    square_sum: f64,
    /// Factor that clips it.
    clip_factor: f32,
}

impl Carried {
    pub const fn new() -> Self {
        Self {
            powers: Powers::new(),
            square_sum: 0.0,
            clip_factor: 1.0,
        }
    }

    /// Begins one step of the optimizer.
    pub fn begin_step(&mut self, optimizer: Optimizer) {
        self.powers.advance(optimizer);
        self.square_sum = 0.0;
        self.clip_factor = 1.0;
    }

    /// Ends the measurement of the gradient.
    pub fn clip(&mut self, clip_norm: Option<f32>) -> Result<(), TrainError> {
        if !self.square_sum.is_finite() {
            return Err(TrainError::Diverged);
        }
        let norm = libm::sqrt(self.square_sum);
        if let Some(longest) = clip_norm.map(f64::from).filter(|&longest| norm > longest) {
            self.clip_factor = (longest / norm) as f32;
        }
        Ok(())
    }
}

/// Purpose of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Add to the norm of the corrected gradient.
    Measure,
    /// Move the weights.
    Apply,
}

/// Purpose of the visits to come, and their correction.
pub(crate) struct Rule<'a, 'c> {
    visit: Visit,
    carried: &'a mut Carried,
    hook: &'a mut Hook<'c>,
}

impl<'a, 'c> Rule<'a, 'c> {
    pub fn new(visit: Visit, carried: &'a mut Carried, hook: &'a mut Hook<'c>) -> Self {
        Self {
            visit,
            carried,
            hook,
        }
    }
}

/// An update on its way through the segments.
pub(super) struct Update<'a, 'c> {
    config: &'a TrainConfig,
    rule: Rule<'a, 'c>,
    /// State vectors of the optimizer, one behind the other.
    state: &'a mut [f32],
    /// Scratch for the gradient of a segment.
    gradient: &'a mut [f32],
}

impl<'a, 'c> Update<'a, 'c> {
    pub fn new(
        config: &'a TrainConfig,
        rule: Rule<'a, 'c>,
        state: &'a mut [f32],
        gradient: &'a mut [f32],
    ) -> Self {
        Self {
            config,
            rule,
            state,
            gradient,
        }
    }

    /// Measures or moves one segment.
    ///
    /// # Shapes
    /// `weights`, `steps` (the mean gradient times minus [`TrainConfig::scale`]): `[len]`.
    pub fn visit(&mut self, first: usize, weights: &mut [f32], steps: &[f32]) {
        let part = moving(self.rule.hook, first, steps.len());
        let first = first + part.start;
        let (weights, steps) = (&mut weights[part.clone()], &steps[part]);
        let scale = self.config.scale();
        let gradient = &mut self.gradient[..steps.len()];
        for (g, &step) in gradient.iter_mut().zip(steps) {
            *g = mean(step, scale);
        }
        if let Some(correction) = self.rule.hook {
            correction.correct(first, weights, gradient);
        }
        match self.rule.visit {
            Visit::Measure => {
                for &g in &*gradient {
                    self.rule.carried.square_sum += f64::from(g) * f64::from(g);
                }
            }
            Visit::Apply => self.apply(first, weights, steps),
        }
    }

    /// Moves a segment by the gradient in the scratch.
    fn apply(&mut self, first: usize, weights: &mut [f32], steps: &[f32]) {
        let Carried {
            powers,
            clip_factor,
            ..
        } = *self.rule.carried;
        let gradient = &mut self.gradient[..steps.len()];
        if clip_factor != 1.0 {
            gradient.iter_mut().for_each(|g| *g *= clip_factor);
        }
        if self.config.weight_decay != 0.0 {
            for (g, w) in gradient.iter_mut().zip(&*weights) {
                *g += self.config.weight_decay * w;
            }
        }
        let place = first..first + steps.len();
        let rate = self.config.learning_rate;
        match self.config.optimizer {
            Optimizer::Sgd => sgd_step(weights, gradient, steps, rate),
            Optimizer::Momentum { momentum } => {
                momentum_step(weights, gradient, &mut self.state[place], rate, momentum);
            }
            Optimizer::Adam {
                beta_1,
                beta_2,
                epsilon,
            } => {
                let (means, squares) = self.state.split_at_mut(self.state.len() / 2);
                let (means, squares) = (&mut means[place.clone()], &mut squares[place]);
                AdamStep::new([beta_1, beta_2], epsilon, rate, powers)
                    .apply(weights, gradient, means, squares);
            }
        }
    }
}

/// Mean gradient of a step.
fn mean(step: f32, scale: f32) -> f32 {
    -step / scale
}

/// `w -= rate * g`, and the very step of plain SGD where nothing has changed the gradient.
fn sgd_step(weights: &mut [f32], gradient: &[f32], steps: &[f32], rate: f32) {
    for ((w, &g), &step) in weights.iter_mut().zip(gradient).zip(steps) {
        // From the step to the gradient and back there are two roundings.
        if g == mean(step, rate) {
            *w += step;
        } else {
            *w -= rate * g;
        }
    }
}
