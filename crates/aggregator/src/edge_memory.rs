//! Memory of an edge across its end: where its devices are, so that an edge that comes back has its cluster.
//!
//! Devices wait to be asked, and would wait for ever for an edge that does not know them any more.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fl_proto::Word;
use serde::{Deserialize, Serialize};
use zfl_run_dir::Event;

use crate::broadcast::Form;
use crate::roster::Newcomer;
use crate::shared::Shared;

/// Keeps what an edge has to remember, whenever that changes.
pub type Keep = Arc<dyn Fn(&[u8]) + Send + Sync>;

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
            Ok(Event::ClientJoined { .. }) => keep(&saved(&shared)),
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
pub(crate) fn recall(shared: &Shared, memory: &[u8]) -> anyhow::Result<()> {
    let all: Vec<Known> = serde_json::from_slice(memory)?;
    let cluster = shared.orders.get().map(|orders| orders.cluster.clone());
    let cluster = cluster.unwrap_or_default();
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
