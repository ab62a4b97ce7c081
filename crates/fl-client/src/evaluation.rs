//! The evaluation of a model on the examples that a client holds out.

use crate::job::{Scratch, resize};
use alloc::boxed::Box;
use alloc::vec::Vec;
use fl_algo::LocalRule;
use fl_nn::{Arithmetic, Evaluator, Inputs, Model, Step, TrainError, Workspace};
use fl_proto::message::{confusion_at, confusion_len};
use fl_proto::{Evaluated, Results};

/// An evaluation at work: of the global model, then of the personal one, where the rule makes one.
#[derive(Debug)]
pub(crate) struct LocalEvaluation {
    model: Model,
    arithmetic: Arithmetic,
    evaluator: Evaluator,
    /// `[num_params]`; empty if there is no personal model.
    personal: Vec<f32>,
    /// The global model is done.
    is_personal: bool,
    found: Box<Findings>,
}

/// Findings of an evaluation, as they are sent.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub num_evaluated: u32,
    pub loss: f32,
    pub personal_loss: Option<f32>,
    /// Numbers of [`confusion_len`].
    pub confusion: Vec<f32>,
    /// The same of the personal model; empty if there is none.
    pub confusion_own: Vec<f32>,
}

impl Findings {
    /// The control message that answers the `/start` of these results, which have its cost.
    pub fn message(&self, results: &Results) -> Evaluated {
        Evaluated {
            round: results.round,
            token: results.token.clone(),
            num_evaluated: self.num_evaluated,
            loss: self.loss,
            personal_loss: self.personal_loss,
            cost: results.cost.clone(),
        }
    }
}

impl LocalEvaluation {
    /// Takes memory for an evaluation of that model; the error is the bytes that are needed.
    pub fn new(
        model: &Model,
        arithmetic: Arithmetic,
        evaluator: Evaluator,
    ) -> Result<(Self, Scratch), u64> {
        let classes = model.shape().num_classes();
        let bytes = || evaluator.plan().total_bytes() + 4 * confusion_len(classes) as u64;
        let mut found = Box::new(Findings::default());
        let scratch = Scratch::new(evaluator.plan(), &[])?;
        if !resize(&mut found.confusion, confusion_len(classes)) {
            return Err(bytes());
        }
        let evaluation = Self {
            model: *model,
            arithmetic,
            evaluator,
            personal: Vec::new(),
            is_personal: false,
            found,
        };
        Ok((evaluation, scratch))
    }

    /// Evaluates at most `max_examples` examples, of `inputs`; true while there is more
    /// to do.
    pub fn step(
        &mut self,
        global: &[f32],
        rule: &LocalRule,
        (inputs, labels): (Inputs<'_>, &[u8]),
        workspace: &mut Workspace<'_>,
        max_examples: u32,
    ) -> Result<bool, TrainError> {
        let classes = self.model.shape().num_classes();
        let (params, confusion) = match self.is_personal {
            false => (global, &mut self.found.confusion),
            true => (&self.personal[..], &mut self.found.confusion_own),
        };
        let mut tell = |label, prediction| {
            let place = confusion_at(classes, label, prediction);
            if let Some(times) = place.and_then(|place| confusion.get_mut(place)) {
                *times += 1.0;
            }
        };
        let step = self
            .evaluator
            .step(params, inputs, labels, workspace, max_examples, &mut tell);
        match step {
            Ok(Step::Working) => Ok(true),
            Ok(Step::Done) => Ok(self.end(global, rule)),
            // What the client has for itself fails nobody.
            Err(_) if self.is_personal => {
                self.found.confusion_own = Vec::new();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the evaluation of one model; true if another one follows.
    fn end(&mut self, global: &[f32], rule: &LocalRule) -> bool {
        let found = self.evaluator.found();
        let loss = found.mean_loss() as f32;
        if self.is_personal {
            self.found.personal_loss = Some(loss);
            return false;
        }
        self.found.num_evaluated = found.num_examples;
        self.found.loss = loss;
        self.begin_personal(global, rule)
    }

    /// Makes the personal model; false if there is none, or no memory for it.
    fn begin_personal(&mut self, global: &[f32], rule: &LocalRule) -> bool {
        let classes = self.model.shape().num_classes();
        if rule.travelling() < global.len() {
            return self.was_personal(rule);
        }
        let Ok(evaluator) = Evaluator::new(&self.model, self.arithmetic) else {
            return false;
        };
        self.is_personal = rule.keeps_personal()
            && resize(&mut self.personal, global.len())
            && rule.personal(global, &mut self.personal)
            && resize(&mut self.found.confusion_own, confusion_len(classes));
        self.evaluator = evaluator;
        self.is_personal
    }

    /// Takes the findings for those of the personal model, too: where a part of the model stays on the device,
    /// what was evaluated is the client's own already. Always false: none is left to do.
    fn was_personal(&mut self, rule: &LocalRule) -> bool {
        let found = &mut *self.found;
        if rule.has_trained() && resize(&mut found.confusion_own, found.confusion.len()) {
            found.confusion_own.copy_from_slice(&found.confusion);
            found.personal_loss = Some(found.loss);
        }
        false
    }

    /// The findings, once nothing is left to do.
    pub fn into_findings(self) -> Box<Findings> {
        self.found
    }
}
