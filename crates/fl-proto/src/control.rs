//! The control messages. Field names are the wire's names.
//!
//! A reader ignores fields that it does not know, so that a later version can add some; it refuses a
//! message in which a field is missing, of the wrong type, out of its bounds, or there twice.

use crate::local::{Optimizer, Privacy};
use crate::params::{Metrics, Params};
use crate::{checks, codec};
use core::fmt;
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// Most entries in [`Welcome::layers`]: the inputs and up to eight weight layers.
pub const MAX_LAYER_SIZES: usize = 9;

/// A one-time word that ties an update to the `/start` that asked for it: 1 to 16 letters, digits,
/// `-` or `_`.
pub type Token = String<16>;

/// Name of an algorithm's client half: `fedavg`, `fedprox`.
pub type RuleName = String<24>;

/// Name of a codec, see [`crate::codec`]: `f32`, `f16`.
pub type CodecName = String<8>;

/// The client half that trains by the loss alone.
pub const DEFAULT_RULE: &str = "fedavg";

fn default_rule() -> RuleName {
    RuleName::try_from(DEFAULT_RULE).unwrap_or_default()
}

fn default_codec() -> CodecName {
    CodecName::try_from(codec::F32_NAME).unwrap_or_default()
}

/// The aggregator's answer to `GET /id`: who the device is and what it will train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the aggregator.
    pub protocol: u32,
    /// The client's ID, from 0.
    pub id: u32,
    /// Examples in the client's partition.
    pub num_examples: u32,
    /// Units per layer, inputs first: `[784, 16, 10]`.
    pub layers: Vec<u32, MAX_LAYER_SIZES>,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// The experiment's seed, from which every random stream of a device is derived.
    pub seed: u64,
    /// Client half of the algorithm; `fedavg` if absent.
    #[serde(default = "default_rule")]
    pub rule: RuleName,
    /// Parameters of the rule, so that the device can take the memory that it needs.
    #[serde(default)]
    pub params: Params,
    /// Codec of updates; `f32` if absent.
    #[serde(default = "default_codec")]
    pub encoding_up: CodecName,
    /// Codec of the model on its way down; `f32` if absent.
    #[serde(default = "default_codec")]
    pub encoding_down: CodecName,
    /// Parameters of the codec of updates.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub encoding_args: Params,
    /// Examples that follow the `num_examples` of the training, and only evaluate; 0 if absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub holdout: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Activation of the hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `max(0, x)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

/// Arithmetic of the training on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// Exact integer sums over non-zero inputs in the first layer, single precision in all others.
    #[default]
    Fixed,
    /// Single-precision floating point.
    Float,
    /// Fixed point in all layers.
    Integer,
}

/// The control message of `POST /start`: train one round on the model that comes with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The round, from 1.
    pub round: u32,
    /// To be sent back with the results.
    #[serde(deserialize_with = "checks::token")]
    pub token: Token,
    /// Passes over the client's partition.
    pub local_epochs: u32,
    /// Examples per step of SGD.
    pub batch_size: u32,
    /// Step size of SGD; finite, and the same bits on both sides.
    #[serde(deserialize_with = "checks::finite")]
    pub learning_rate: f32,
    /// Arithmetic of the training; `fixed` if absent.
    #[serde(default)]
    pub arithmetic: Arithmetic,
    /// Client half of the algorithm; `fedavg` if absent.
    #[serde(default = "default_rule")]
    pub rule: RuleName,
    /// Parameters of the rule, which it reads with defaults and bounds.
    #[serde(default)]
    pub params: Params,
    /// Round of the kept state that counts; 0 is none yet.
    #[serde(default)]
    pub state_round: u32,
    /// Codec of the update; `f32` if absent.
    #[serde(default = "default_codec")]
    pub encoding_up: CodecName,
    /// Parameters of that codec.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub encoding_args: Params,
    /// Optimizer; plain SGD if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// Bound and noise of the update; neither if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// Evaluate the model on the examples held out, and do not train; `false` if absent.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub evaluate: bool,
}

/// Occupation of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// Has its data and waits for `/start`.
    Ready,
    /// Trains [`Ready::round`].
    Training,
    /// Has trained and is sending its update.
    Sending,
    /// Gave the round up, see [`Ready::error`]; takes the next `/start` all the same.
    Failed,
}

/// The device's answer to `GET /ready`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// The client's ID.
    pub id: u32,
    /// Occupation.
    pub state: DeviceState,
    /// The last round started; 0 before the first.
    pub round: u32,
    /// Training passes done this round, of `total_examples`.
    pub done_examples: u32,
    /// `num_examples * local_epochs`.
    pub total_examples: u32,
    /// Reason of the state `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String<64>>,
}

/// Cost of a round to the device; a field that the body cannot measure is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Microseconds from `/start` taken to training done, by the device's own clock.
    pub train_us: u64,
    /// Instructions retired in the steps of this round's training, and in nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    /// Most heap ever in use, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap_peak_bytes: Option<u32>,
    /// Most stack ever in use, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_peak_bytes: Option<u32>,
    /// HTTP bytes received since boot.
    pub bytes_received: u64,
    /// HTTP bytes sent since boot.
    pub bytes_sent: u64,
    /// TCP segments sent since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments_sent: Option<u32>,
    /// TCP segments received since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments_received: Option<u32>,
    /// TCP segments sent again since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmissions: Option<u32>,
}

/// The control message of `POST /results`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The round of the [`Start`] that this answers.
    pub round: u32,
    /// The token of the [`Start`] that this answers.
    #[serde(deserialize_with = "checks::token")]
    pub token: Token,
    /// Training examples of this client: the weight of its update.
    pub num_examples: u32,
    /// Steps of the optimiser done in this round.
    pub steps: u32,
    /// Mean cross-entropy over the last local epoch; finite.
    #[serde(deserialize_with = "checks::finite")]
    pub loss: f32,
    /// Further numbers of this round, by name.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub metrics: Metrics,
    /// Cost of the round.
    pub cost: Cost,
}

/// The control message of `POST /results` after a [`Start`] that asks for an evaluation. Its sections are the
/// [confusion](crate::message::confusion_len) of the global model and of the personal one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// The round of the [`Start`] that this answers.
    pub round: u32,
    /// The token of the [`Start`] that this answers.
    #[serde(deserialize_with = "checks::token")]
    pub token: Token,
    /// Examples evaluated.
    pub num_evaluated: u32,
    /// Mean cross-entropy of the global model; finite.
    #[serde(deserialize_with = "checks::finite")]
    pub loss: f32,
    /// Mean cross-entropy of the personal model; absent if there is none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "checks::finite_if_there"
    )]
    pub personal_loss: Option<f32>,
    /// Cost of the evaluation.
    pub cost: Cost,
}

/// The control message of the answer to `GET /state`: the kept vectors are its sections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptState {
    /// Round whose update left these vectors.
    pub round: u32,
}

/// The body of every 4xx and 5xx, on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// The reason, for a person.
    pub error: String<160>,
}

impl ErrorReply {
    /// Formats a reason, cut to what fits.
    pub fn new(reason: impl fmt::Display) -> Self {
        struct Cut(String<160>);
        impl fmt::Write for Cut {
            fn write_str(&mut self, s: &str) -> fmt::Result {
                for c in s.chars() {
                    // JSON's own characters would have to be escaped, which the device's parser
                    // does not undo.
                    let c = if c == '"' || c == '\\' || c.is_control() {
                        '\''
                    } else {
                        c
                    };
                    self.0.push(c).map_err(|_| fmt::Error)?;
                }
                Ok(())
            }
        }
        let mut cut = Cut(String::new());
        // An error here only means that the text is full.
        let _ = fmt::write(&mut cut, format_args!("{reason}"));
        Self { error: cut.0 }
    }
}

/// The query of the aggregator's endpoints.
///
/// `GET /id?client=3&port=80&codecs=f32,f16&rules=fedavg&can=optimizer&memory=2097152&isa=i686`, all optional;
/// `?id=3` elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// The client's ID, as [`Welcome::id`] told it.
    pub id: Option<u32>,
    /// The ID that the device would like to have: its own from before a reboot, or the one it was
    /// told on its command line.
    pub client: Option<u32>,
    /// Address at which the device is reached, if not the connection's source: `ip:port`.
    pub address: Option<String<32>>,
    /// The device's HTTP port at the connection's source address; 80 if absent.
    pub port: Option<u16>,
    /// Codecs that the device speaks, separated by commas; `f32` if absent.
    pub codecs: Option<String<64>>,
    /// Rules that the device has, separated by commas; `fedavg` if absent.
    pub rules: Option<String<256>>,
    /// Fields of a [`Start`] that the device understands beyond those of the first version, separated by
    /// commas; none if absent.
    pub can: Option<String<64>>,
    /// Free memory for model, data and training, in bytes; not bounded if absent.
    pub memory: Option<u64>,
    /// Instruction set.
    pub isa: Option<String<16>>,
    /// Form of the bodies of `/start`: `json`, or absent.
    pub form: Option<String<8>>,
    /// Storage that keeps what the device writes to it when it reboots, in bytes; none if absent.
    pub storage: Option<u64>,
    /// Flash that holds the lists of the device's inputs, in bytes; they lie in its `memory` if absent.
    pub flash: Option<u64>,
    /// `own` if the device has its examples and does not ask for them; absent otherwise.
    pub examples: Option<String<8>>,
}

impl Query {
    /// The value of `examples` of a device that has them.
    pub const OWN_EXAMPLES: &'static str = "own";

    /// The value of `form` that asks for the JSON form.
    pub const JSON_FORM: &'static str = "json";

    /// The field of a [`Start`] that asks for an evaluation.
    pub const EVALUATE: &'static str = "evaluate";

    /// True if the device can evaluate a model on examples held out.
    pub fn can_evaluate(&self) -> bool {
        self.understands(Self::EVALUATE)
    }

    /// True if the device has its examples.
    pub fn has_examples(&self) -> bool {
        self.examples.as_deref() == Some(Self::OWN_EXAMPLES)
    }

    /// True if the device speaks a codec.
    pub fn speaks(&self, codec: &str) -> bool {
        let own = self.codecs.as_ref().map(String::as_str);
        list(own.unwrap_or(codec::F32_NAME)).any(|name| name == codec)
    }

    /// True if the device understands a field of a [`Start`].
    pub fn understands(&self, field: &str) -> bool {
        list(self.can.as_deref().unwrap_or("")).any(|name| name == field)
    }

    /// True if the device has a rule.
    pub fn has_rule(&self, rule: &str) -> bool {
        let own = self.rules.as_ref().map(String::as_str);
        list(own.unwrap_or(DEFAULT_RULE)).any(|name| name == rule)
    }
}

/// The items of a list with commas.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}
