//! Memory of an edge across its end: where its devices are, so that an edge that comes back has its cluster, and
//! what SCAFFOLD and its kin keep of them.
//!
//! Devices wait to be asked, and would wait for ever for an edge that does not know them any more.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use fl_algo::KeptVectors;
use fl_proto::Word;
use fl_proto::cluster::{Sum, SumCodec, encode_sums, parse_sums};
use fl_proto::message::section_name;
use serde::{Deserialize, Serialize};
use zfl_run_dir::Event;

use crate::broadcast::Form;
use crate::roster::Newcomer;
use crate::shared::Shared;
use crate::upstream::Orders;

/// Keeps what an edge has to remember under a name, whenever that changes.
pub type Keep = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

/// Vectors that an edge has kept, by name.
pub type Kept = BTreeMap<String, Vec<u8>>;

/// Name of where its devices are.
const DEVICES: &str = "devices.json";

/// Names of what is kept of clients begin so; the number of the client follows.
const OF_CLIENT: &str = "kept-";

/// Tells if a file of this name is of an edge's memory.
pub fn is_kept(name: &str) -> bool {
    name == DEVICES || name.starts_with(OF_CLIENT)
}

/// A device that has joined.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    client: u32,
    address: SocketAddr,
    source: IpAddr,
    word: Option<String>,
    json: bool,
    evaluates: bool,
}

/// Keeps the devices of an edge, for ever.
pub(crate) async fn keep(shared: Arc<Shared>, keep: Keep) {
    let mut events = shared.log.subscribe();
    loop {
        match events.recv().await.map(|record| record.event) {
            Ok(Event::ClientJoined { .. }) => keep(DEVICES, &saved(&shared)),
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

fn saved(shared: &Shared) -> Vec<u8> {
    let known: Vec<Known> = shared.look(|state| {
        let known = state.roster.iter().filter_map(|(client, one)| {
            Some(Known {
                client,
                address: one.address?,
                source: one.source?,
                word: one.word.map(|word| word.text().to_owned()),
                json: one.form == Form::Json,
                evaluates: one.evaluates,
            })
        });
        known.collect()
    });
    serde_json::to_vec(&known).unwrap_or_default()
}

/// Takes in the devices of an edge that was there before; each is asked whether it still is.
///
/// # Errors
/// If this is no such memory.
pub(crate) fn recall(shared: &Shared, memory: &Kept) -> anyhow::Result<()> {
    for (name, octets) in memory {
        if let Some(client) = name.strip_prefix(OF_CLIENT).and_then(|id| id.parse().ok()) {
            let state = vectors(octets).with_context(|| name.clone())?;
            shared.states.insert(client, state);
        }
    }
    let Some(devices) = memory.get(DEVICES) else {
        return Ok(());
    };
    let all: Vec<Known> = serde_json::from_slice(devices).context(DEVICES)?;
    let cluster = shared.orders.get().map(Orders::cluster).unwrap_or_default();
    shared.with(|state, now_us| {
        for known in all.iter().filter(|known| cluster.contains(&known.client)) {
            let newcomer = Newcomer {
                address: known.address,
                source: known.source,
                is_own_machine: false,
                word: known
                    .word
                    .as_deref()
                    .and_then(|it| Word::parse(it.as_bytes())),
                secret: None,
                form: match known.json {
                    true => Form::Json,
                    false => Form::Octets,
                },
                evaluates: known.evaluates,
            };
            state.roster.recall(known.client, &newcomer);
            state.machine.joined(now_us, known.client);
            state.machine.fetched(now_us, known.client);
        }
    });
    Ok(())
}

/// Keeps what is kept of these clients.
pub(crate) fn keep_vectors(shared: &Shared, clients: &[u32], keep: &Keep) {
    for client in clients {
        let state = shared.states.get(*client);
        if let Some(octets) = state.and_then(|state| octets(&state)) {
            keep(&format!("{OF_CLIENT}{client}"), &octets);
        }
    }
}

/// Kept vectors in the form of a message of sums: it has a checksum.
fn octets(state: &KeptVectors) -> Option<Vec<u8>> {
    let payloads = state.sections.iter().map(|(name, numbers)| {
        let octets: Vec<u8> = numbers.iter().flat_map(|one| one.to_le_bytes()).collect();
        Some((section_name(name)?, octets))
    });
    let payloads = payloads.collect::<Option<Vec<_>>>()?;
    let sums: Vec<_> = payloads
        .iter()
        .map(|(name, payload)| Sum {
            name: name.clone(),
            codec: SumCodec::Rounded,
            count: (payload.len() / 4) as u32,
            payload,
        })
        .collect();
    encode_sums(state.round.to_string().as_bytes(), &sums).ok()
}

fn vectors(octets: &[u8]) -> anyhow::Result<KeptVectors> {
    let (round, sums) = parse_sums(octets)?;
    let numbers = |sum: &Sum<'_>| {
        let (numbers, _) = sum.payload.as_chunks::<4>();
        let numbers = numbers.iter().map(|one| f32::from_le_bytes(*one));
        (sum.name.as_str().to_owned(), numbers.collect())
    };
    Ok(KeptVectors {
        round: std::str::from_utf8(round)?.parse()?,
        sections: sums.iter().map(numbers).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_vectors_are_read_as_they_were_to_the_bit() {
        let state = KeptVectors {
            round: 7,
            sections: [("control".to_owned(), vec![1e-45, -0.0, f32::MAX])].into(),
        };
        let mut octets = octets(&state).unwrap();
        assert_eq!(vectors(&octets).unwrap(), state);
        octets[40] ^= 1;
        assert!(vectors(&octets).is_err());
    }
}
