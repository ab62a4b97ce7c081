//! Joining an experiment: the answer to `GET /id`, and the memory that it asks for.

use crate::buffers::Buffers;
use crate::examples::{Partition, Source};
use crate::storage::Owner;
use alloc::sync::Arc;
use core::fmt;
use fl_algo::{LocalRule, RuleError};
use fl_nn::{Model, Shape};
use fl_proto::codec::{self, Encoding};
use fl_proto::{CodecName, Welcome};

/// Membership in an experiment: what the aggregator told, and the partition it gave.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: u32,
    pub seed: u64,
    pub model: Model,
    pub num_examples: u32,
    /// Examples that evaluate only.
    pub holdout: u32,
    pub partition: Arc<Partition>,
}

impl Session {
    /// Examples to train on and examples held out.
    pub fn all_examples(&self) -> usize {
        // Fits: there was memory for so many.
        self.num_examples as usize + self.holdout as usize
    }

    /// Owner of the personal part in these buffers.
    pub fn owner(&self, buffers: &Buffers) -> Owner<'static> {
        Owner {
            client: self.id,
            seed: self.seed,
            rule: buffers.rule.name(),
            count: buffers.personal_len() as u32,
        }
    }
}

/// Takes in a welcome: memory for model, rule and data is taken here, or never.
pub(crate) fn join(welcome: &Welcome, source: Source) -> Result<(Session, Buffers), JoinError> {
    if welcome.protocol != fl_proto::PROTOCOL_VERSION {
        return Err(JoinError::Protocol(welcome.protocol));
    }
    let model = model(welcome)?;
    if welcome.num_examples == 0 {
        return Err(JoinError::NoData);
    }
    let unknown = |name: &CodecName| JoinError::Codec(name.clone());
    let (up, down) = (&welcome.encoding_up, &welcome.encoding_down);
    codec::by_name(down).ok_or_else(|| unknown(down))?;
    let encoding = Encoding::of_wire(up, &welcome.encoding_args).ok_or_else(|| unknown(up))?;
    let mut rule = LocalRule::named(&welcome.rule, model.shape())?;
    rule.prepare(welcome.params.iter())?;
    let buffers = Buffers::new(&model, rule)
        .and_then(|mut buffers| buffers.encode_by(encoding).then_some(buffers));
    let memory = buffers.zip(partition(welcome, &model, source));
    let (buffers, partition) = memory.ok_or(JoinError::OutOfMemory {
        examples: welcome.num_examples.saturating_add(welcome.holdout),
    })?;
    let session = Session {
        id: welcome.id,
        seed: welcome.seed,
        model,
        num_examples: welcome.num_examples,
        holdout: welcome.holdout,
        partition: Arc::new(partition),
    };
    Ok((session, buffers))
}

fn model(welcome: &Welcome) -> Result<Model, JoinError> {
    let mut sizes = [0; fl_proto::MAX_LAYER_SIZES];
    for (size, layer) in sizes.iter_mut().zip(&welcome.layers) {
        *size = *layer as usize;
    }
    let sizes = &sizes[..welcome.layers.len()];
    let shape = Shape::new(sizes).map_err(|_| JoinError::Shape)?;
    let activation = match welcome.activation {
        fl_proto::Activation::Relu => fl_nn::Activation::Relu,
        fl_proto::Activation::Sigmoid => fl_nn::Activation::Sigmoid,
    };
    Ok(Model::new(shape, activation))
}

/// The view on the client's examples, or room for them; `None` if there is not enough.
fn partition(welcome: &Welcome, model: &Model, source: Source) -> Option<Partition> {
    let (num_examples, holdout) = (welcome.num_examples as usize, welcome.holdout as usize);
    Partition::new((num_examples, holdout), model.shape().num_inputs(), source)
}

/// Reason why a welcome was of no use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JoinError {
    Protocol(u32),
    Shape,
    NoData,
    Rule(RuleError),
    Codec(CodecName),
    OutOfMemory { examples: u32 },
}

impl From<RuleError> for JoinError {
    fn from(error: RuleError) -> Self {
        Self::Rule(error)
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(theirs) => {
                let ours = fl_proto::PROTOCOL_VERSION;
                write!(
                    f,
                    "the aggregator speaks wire version {theirs}, this device {ours}: build both from the same zfl"
                )
            }
            Self::Shape => write!(f, "the model's layers are no model that fl-nn can train"),
            Self::NoData => write!(f, "the aggregator has no examples for this client"),
            Self::Rule(error) => write!(f, "{error}"),
            Self::Codec(name) => write!(f, "this device has no codec {name}"),
            Self::OutOfMemory { examples } => {
                write!(
                    f,
                    "no memory for {examples} examples: give the board more, or the client less data"
                )
            }
        }
    }
}
