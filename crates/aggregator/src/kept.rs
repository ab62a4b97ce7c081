//! The way back of a client's kept vectors to a device that has lost its own: `GET /state`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use anyhow::{Context, Result};
use bytes::Bytes;
use fl_algo::KeptVectors;
use fl_proto::codec::{F32, Plan};
use fl_proto::message::{self, Kind, Outgoing};
use fl_proto::{KeptState, json_form};

use crate::broadcast::Form;
use crate::log::lock;

/// Encoded copies that are on their way: whoever reads the same one shares its memory.
#[derive(Debug, Default)]
pub(crate) struct OnTheWay(Mutex<BTreeMap<u32, Encoded>>);

#[derive(Debug)]
struct Encoded {
    of: Weak<KeptVectors>,
    form: Form,
    body: Weak<[u8]>,
}

impl OnTheWay {
    /// The body of an answer with a client's kept vectors. It takes a while.
    pub fn body(&self, client: u32, kept: &Arc<KeptVectors>, form: Form) -> Result<Bytes> {
        let mut all = lock(&self.0);
        let same = |one: &&Encoded| one.form == form && one.of.as_ptr() == Arc::as_ptr(kept);
        let known = all.get(&client).filter(same);
        if let Some(body) = known.and_then(|one| one.body.upgrade()) {
            return Ok(Bytes::from_owner(body));
        }
        let body: Arc<[u8]> = encode(kept, form)?.into();
        let encoded = Encoded {
            of: Arc::downgrade(kept),
            form,
            body: Arc::downgrade(&body),
        };
        all.insert(client, encoded);
        Ok(Bytes::from_owner(body))
    }
}

/// Encodes the server's copy. It takes a while.
fn encode(state: &KeptVectors, form: Form) -> Result<Vec<u8>> {
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
                plan: Plan::default(),
                numbers,
            });
            let sections: Vec<_> = sections.collect();
            Ok(message::encode(Kind::Start, &control, &sections)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_of_the_same_vectors_share_one_copy_and_a_new_one_is_another() {
        let vectors = |number: f32| {
            Arc::new(KeptVectors {
                round: 3,
                sections: [("drift".to_owned(), vec![number; 100])].into(),
            })
        };
        let on_the_way = OnTheWay::default();
        let body = |kept, form| on_the_way.body(7, kept, form).unwrap();
        let (old, new) = (vectors(1.0), vectors(2.0));
        let first = body(&old, Form::Octets);
        assert_eq!(first.as_ptr(), body(&old, Form::Octets).as_ptr());
        assert_ne!(first, body(&old, Form::Json));
        let second = body(&new, Form::Octets);
        assert_ne!(first, second);
        assert_eq!(second.as_ptr(), body(&new, Form::Octets).as_ptr());
    }
}
