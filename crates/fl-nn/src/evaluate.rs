//! Evaluation: loss and accuracy over a set of examples.

use crate::arithmetic::Arithmetic;
use crate::error::{PlanError, SizeError, TrainError};
use crate::examples::Examples;
use crate::inputs::Inputs;
use crate::loss;
use crate::memory::{Layout, MemoryPlan, Regions, Workspace};
use crate::model::Model;
use crate::train::Step;

/// Findings of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Examples seen.
    pub num_examples: u32,
    /// Examples whose label has the largest logit.
    pub correct: u32,
    /// Sum of the cross-entropy over all examples.
    ///
    /// # Units
    /// Nats.
    pub loss_sum: f64,
}

impl Evaluation {
    /// Cross-entropy per example, 0 if there was none.
    ///
    /// # Units
    /// Nats.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / f64::from(self.num_examples.max(1))
    }

    /// Share of correct predictions in `0..=1`, 0 if there was no example.
    pub fn accuracy(&self) -> f64 {
        f64::from(self.correct) / f64::from(self.num_examples.max(1))
    }
}

/// One evaluation: a state machine over the caller's parameters, examples and workspace.
#[derive(Clone, Debug)]
pub struct Evaluator {
    model: Model,
    arithmetic: Arithmetic,
    plan: MemoryPlan,
    /// The next example; none before the first step.
    next: Option<u32>,
    found: Evaluation,
    #[cfg(feature = "host")]
    host: Option<crate::host::Host>,
}

impl Evaluator {
    /// Prepares an evaluation, with the first layer in the given arithmetic.
    ///
    /// # Errors
    /// As [`Model::evaluation_plan`].
    pub fn new(model: &Model, arithmetic: Arithmetic) -> Result<Self, PlanError> {
        let arithmetic = arithmetic.of_evaluation();
        Ok(Self {
            model: *model,
            arithmetic,
            plan: model.evaluation_plan()?,
            next: None,
            found: Evaluation::default(),
            #[cfg(feature = "host")]
            host: crate::host::Host::new(model, arithmetic),
        })
    }

    /// Memory that [`Evaluator::step`] asks for.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Findings so far.
    pub fn found(&self) -> Evaluation {
        self.found
    }

    /// Evaluates at most `max_examples` examples, at least one, and tells label and prediction of each.
    ///
    /// Every call gets the same arguments but the last two. The result does not depend on how the work was cut.
    ///
    /// # Shapes
    /// As [`Model::evaluate`].
    ///
    /// # Errors
    /// As [`Model::evaluate`].
    pub fn step<'i>(
        &mut self,
        params: &[f32],
        inputs: impl Into<Inputs<'i>>,
        labels: &[u8],
        workspace: &mut Workspace<'_>,
        max_examples: u32,
        tell: &mut dyn FnMut(usize, usize),
    ) -> Result<Step, TrainError> {
        self.step_on(params, inputs.into(), labels, workspace, max_examples, tell)
    }

    fn step_on(
        &mut self,
        params: &[f32],
        inputs: Inputs<'_>,
        labels: &[u8],
        workspace: &mut Workspace<'_>,
        max_examples: u32,
        tell: &mut dyn FnMut(usize, usize),
    ) -> Result<Step, TrainError> {
        // Lists are for the plain form.
        #[cfg(feature = "host")]
        if matches!(inputs, Inputs::Lists(_)) {
            self.host = None;
        }
        let (model, arithmetic) = (&self.model, self.arithmetic);
        let shape = model.shape();
        SizeError::check(shape.num_params(), params.len()).map_err(TrainError::Params)?;
        let examples = Examples::new(shape, inputs, labels)?;
        let num_examples = u32::try_from(labels.len()).map_err(|_| PlanError::TooLarge)?;
        self.plan.check(workspace)?;
        let first = model.first();
        let Regions {
            mut octets,
            outputs,
            ..
        } = Layout::evaluation(model).cut(workspace.floats, workspace.ints);
        let first_params = &params[first.params];
        if self.next.is_none() {
            examples.check_labels()?;
            let is_finite = || first_params.iter().all(|param| param.is_finite());
            // The integers refuse what is not finite; f32 would pass over it where inputs are 0.
            if arithmetic == Arithmetic::Float && !is_finite() {
                return Err(TrainError::Diverged);
            }
            #[cfg(feature = "host")]
            let ready = self.host.as_mut().map(|host| host.prepare(params));
            #[cfg(not(feature = "host"))]
            let ready: Option<Result<(), TrainError>> = None;
            match ready {
                Some(ready) => ready?,
                None => first
                    .layer
                    .prepare_forward(arithmetic, first_params, &mut octets)?,
            }
        }
        let begin = self.next.unwrap_or(0);
        let end = num_examples.min(begin.saturating_add(max_examples.max(1)));
        let layers = model.placed();
        for n in begin..end {
            #[cfg(feature = "host")]
            let done = self
                .host
                .as_ref()
                .map(|host| host.forward(params, &examples, n, outputs));
            #[cfg(not(feature = "host"))]
            let done: Option<()> = None;
            if done.is_none() {
                let sums = &mut outputs[..first.layer.num_outputs()];
                let example = (&examples, n);
                first
                    .layer
                    .forward_octets(arithmetic, first_params, example, &mut octets, sums);
                model.finish_forward(&layers, params, outputs);
            }
            let logits = &outputs[outputs.len() - shape.num_classes()..];
            let label = examples.label(n)?;
            let loss = loss::cross_entropy(logits, label);
            if !loss.is_finite() {
                return Err(TrainError::Diverged);
            }
            let prediction = loss::prediction(logits);
            tell(label, prediction);
            self.found.num_examples += 1;
            self.found.correct += u32::from(prediction == label);
            self.found.loss_sum += f64::from(loss);
        }
        self.next = Some(end);
        Ok(if end < num_examples {
            Step::Working
        } else {
            Step::Done
        })
    }
}

impl Model {
    /// Loss and accuracy of `params`, with the first layer in the given arithmetic.
    ///
    /// # Shapes
    /// `params`: `[num_params]`; `inputs`: of `[num_examples]`; `labels`: `[num_examples]`;
    /// `workspace`: by [`Model::evaluation_plan`].
    ///
    /// # Errors
    /// [`TrainError`] if a length or a label does not fit, or [`TrainError::Diverged`] if a weight or a
    /// loss is not finite.
    pub fn evaluate<'i>(
        &self,
        params: &[f32],
        inputs: impl Into<Inputs<'i>>,
        labels: &[u8],
        mut workspace: Workspace<'_>,
        arithmetic: Arithmetic,
    ) -> Result<Evaluation, TrainError> {
        let mut evaluator = Evaluator::new(self, arithmetic)?;
        let workspace = &mut workspace;
        evaluator.step(params, inputs, labels, workspace, u32::MAX, &mut |_, _| {})?;
        Ok(evaluator.found)
    }
}
