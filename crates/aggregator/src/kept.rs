//! The way back of a client's kept vectors to a device that has lost its own: `GET /state`.

use anyhow::{Context, Result};
use fl_algo::KeptVectors;
use fl_proto::codec::F32;
use fl_proto::message::{self, Kind, Outgoing};
use fl_proto::{KeptState, json_form};

use crate::broadcast::Form;

/// Encodes the server's copy. It takes a while.
pub(crate) fn encode(state: &KeptVectors, form: Form) -> Result<Vec<u8>> {
    let round = state.round;
    let control = serde_json::to_vec(&KeptState { round })?;
    let sections = state.sections.iter();
    match form {
        Form::Json => {
            let sections = sections.map(|(name, numbers)| (name.as_str(), numbers.as_slice()));
            let sections: Vec<_> = sections.collect();
            let text = json_form::encode_sections(&sections).context("a section's name")?;
            json_form::encode(&control, &text).context("a control message")
        }
        Form::Octets => {
            let sections = sections.map(|(name, numbers)| Outgoing {
                name,
                codec: &F32,
                numbers,
            });
            let sections: Vec<_> = sections.collect();
            Ok(message::encode(Kind::Start, &control, &sections)?)
        }
    }
}
