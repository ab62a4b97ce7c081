//! Errors: one small `Copy` enum per kind of call.

use core::fmt;

use crate::shape::{MAX_LAYERS, MAX_PARAMS, MAX_WIDTH};

/// Refusal of layer sizes that make no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// A model has an input and an output, so at least two sizes.
    TooFewSizes(usize),
    /// More than [`MAX_LAYERS`] weight layers.
    TooManyLayers(usize),
    /// A size is 0 or above [`MAX_WIDTH`].
    Width {
        /// Position in the list of sizes, from 0 (the input).
        position: usize,
        /// The size that was given.
        size: usize,
    },
    /// More than [`MAX_PARAMS`] parameters in all.
    TooManyParams,
}

/// A parameter slice of the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeError {
    /// The length that is needed.
    pub expected: usize,
    /// The length that was given.
    pub actual: usize,
}

/// Refusal of sizes for which there is no memory plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// A batch holds at least one example.
    ZeroBatchSize,
    /// No example to train on.
    NoExamples,
    /// The buffers would not fit the address space of a 32-bit device.
    TooLarge,
}

/// A part of the workspace, named in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// `Workspace::floats`.
    Floats,
    /// `Workspace::ints`.
    Ints,
    /// `Workspace::order`.
    Order,
}

/// Refusal or end of a training or an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainError {
    /// Batch size or number of examples out of range.
    Plan(PlanError),
    /// At least one local epoch is needed.
    ZeroEpochs,
    /// The learning rate is not a positive finite number.
    LearningRate,
    /// The momentum is outside `0..1`.
    Momentum,
    /// A decay of Adam's averages is outside `0..1`.
    Beta,
    /// Adam's epsilon is not a positive finite number.
    Epsilon,
    /// The weight decay is negative or not finite.
    WeightDecay,
    /// The largest norm of a gradient is not a positive number.
    ClipNorm,
    /// Integer arithmetic is asked for more than plain SGD.
    NotPlain,
    /// `params` has another length than the shape asks for.
    Params(SizeError),
    /// `inputs` is not `num_examples` times the input size.
    Inputs(SizeError),
    /// `labels` is not one per example.
    Labels(SizeError),
    /// A label names no class of this model.
    Label {
        /// Index of the example, from 0.
        example: u32,
        /// The label that was given.
        label: u8,
    },
    /// A part of the workspace is shorter than the plan.
    Workspace {
        /// The part.
        buffer: Buffer,
        /// Its size by the plan and as given, in elements.
        size: SizeError,
    },
    /// A weight, gradient or loss is no longer a finite number: lower the learning rate.
    ///
    /// The parameters are then worthless; take the last good ones.
    Diverged,
}

impl SizeError {
    pub(crate) fn check(expected: usize, actual: usize) -> Result<(), Self> {
        if expected == actual {
            Ok(())
        } else {
            Err(Self { expected, actual })
        }
    }
}

impl From<PlanError> for TrainError {
    fn from(error: PlanError) -> Self {
        TrainError::Plan(error)
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewSizes(n) => {
                write!(
                    f,
                    "{n} layer sizes given, at least 2 are needed (inputs and classes)"
                )
            }
            Self::TooManyLayers(n) => write!(f, "{n} weight layers, at most {MAX_LAYERS}"),
            Self::Width { position, size } => {
                write!(
                    f,
                    "layer size {size} at position {position} is outside 1..={MAX_WIDTH}"
                )
            }
            Self::TooManyParams => write!(f, "more than {MAX_PARAMS} parameters"),
        }
    }
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} elements expected, {} given",
            self.expected, self.actual
        )
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroBatchSize => "batch size 0: a batch holds at least one example",
            Self::NoExamples => "no training examples",
            Self::TooLarge => "the buffers exceed 2 GiB: take a smaller model or batch",
        })
    }
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(error) => error.fmt(f),
            Self::ZeroEpochs => f.write_str("0 local epochs: at least one is needed"),
            Self::LearningRate => f.write_str("the learning rate must be positive and finite"),
            Self::Momentum => f.write_str("the momentum must be at least 0 and below 1"),
            Self::Beta => f.write_str("beta_1 and beta_2 must be at least 0 and below 1"),
            Self::Epsilon => f.write_str("epsilon must be positive and finite"),
            Self::WeightDecay => f.write_str("the weight decay must be finite and not negative"),
            Self::ClipNorm => f.write_str("the norm to clip to must be positive"),
            Self::NotPlain => f.write_str(
                "integer arithmetic trains by plain SGD: without momentum, decay, clipping or a correction",
            ),
            Self::Params(size) => write!(f, "parameters: {size}"),
            Self::Inputs(size) => write!(f, "inputs: {size}"),
            Self::Labels(size) => write!(f, "labels: {size}"),
            Self::Label { example, label } => {
                write!(
                    f,
                    "label {label} of example {example} names no class of the model"
                )
            }
            Self::Workspace { buffer, size } => write!(f, "workspace {buffer:?}: {size}"),
            Self::Diverged => f.write_str("training diverged: lower the learning rate"),
        }
    }
}

impl core::error::Error for ShapeError {}
impl core::error::Error for SizeError {}
impl core::error::Error for PlanError {}
impl core::error::Error for TrainError {}
