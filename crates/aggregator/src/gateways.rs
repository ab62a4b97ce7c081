//! Gateways: edges that have no experiment and no data, as firmware is.
//!
//! A gateway asks for its [`Brief`]: all that it has to know. Data of its devices come from a listener that does
//! nothing else, and pass through the gateway: in the place of the sensors that a device would have, they are no
//! bytes of the root. A gateway is told when a device of its cluster is gone, as an edge of this process is.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fl_algo::SUM_BYTES;
use fl_proto::cluster::{Brief, GatewayMemory, LOCAL};
use fl_proto::codec::{Encodes, F32, Plan};
use fl_proto::message::Outgoing;
use fl_proto::{Word, path};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::broadcast::Broadcast;
use crate::config::{Config, Weighting};
use crate::device::Devices;
use crate::edge::{EdgeSetup, of_edge};
use crate::entry::Proof;
use crate::examples::{ExampleBody, Part};
use crate::http::{QueryResult, Sender, octets, ok_json, query, rejected};
use crate::local::PartialWork;
use crate::serve::{limits, serve_sockets};
use crate::server::{Handle, STOP_WITHIN};
use crate::shared::{Refusal, Shared};

/// Facts for gateways beside the experiment.
#[derive(Debug)]
pub(crate) struct Dealing {
    /// Port at which data are dealt out.
    port: u16,
    /// Addresses of the devices that have one of their own.
    addresses: BTreeMap<u32, Ipv4Addr>,
}

impl Config {
    /// Memory that a gateway of so many clients takes.
    pub fn gateway_memory(&self, clients: u32) -> GatewayMemory {
        let sends_changes = self.encoding_up.codec().encodes() != Encodes::Parameters;
        let numbers = u32::try_from(self.travelling()).unwrap_or(u32::MAX);
        GatewayMemory::new(numbers, clients, sends_changes, SUM_BYTES as u64)
    }
}

impl Handle {
    /// Makes the edges of this aggregator gateways, and deals data out to them there, for as long as it is polled.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn deal_data(
        &self,
        listener: TcpListener,
        addresses: BTreeMap<u32, Ipv4Addr>,
    ) -> Result<impl Future<Output = ()> + Send + use<>> {
        let port = listener.local_addr().context("no address")?.port();
        let shared = self.shared.clone();
        let _ = shared.dealing.set(Dealing { port, addresses });
        let router = Router::new()
            .route(path::TRAINING_DATA, get(inputs))
            .route(path::TRAINING_LABELS, get(labels))
            .with_state(shared.clone());
        Ok(async move {
            let (_never, over) = oneshot::channel();
            let most = limits(shared.config.clients, usize::MAX);
            serve_sockets(listener, router, shared, most, over).await;
        })
    }

    /// Tells the gateway of a client that its device is gone, if there is one; true if there is.
    pub(crate) fn tell_gateway(&self, client: u32, comes_back: bool) -> bool {
        let shared = &self.shared;
        let Some(edge) = shared.dealing.get().and(shared.edge_of(client)) else {
            return false;
        };
        let address = shared.look(|state| state.roster.get(edge)?.address);
        let what = if comes_back { path::BACK } else { path::LOST };
        let devices = Devices::new(shared.clone());
        if let Some(address) = address {
            // One that does not answer is missed with its cluster.
            tokio::spawn(async move {
                let what = format!("{what}?client={client}");
                let _ = devices.tell(edge, address, &what, STOP_WITHIN).await;
            });
        }
        true
    }
}

/// Adds the hyper-parameters of the cohort of a gateway to its order; other edges have the experiment.
///
/// # Errors
/// If they cannot be encoded.
pub(crate) fn with_local(
    shared: &Shared,
    round: u32,
    cohort: &BTreeMap<u32, fl_proto::cluster::Orders>,
    cluster: &std::ops::Range<u32>,
    order: Broadcast,
) -> Result<Broadcast> {
    if shared.dealing.get().is_none() {
        return Ok(order);
    }
    let config = &shared.config;
    let those = cohort.range(cluster.clone());
    let numbers = those.flat_map(|(client, orders)| {
        let local = config.local(round, *client);
        let most = local.local_epochs;
        let epochs = match orders.straggler {
            true => PartialWork::epochs(config.seed, round, *client, most),
            false => most,
        };
        [local.learning_rate, epochs as f32, local.batch_size as f32]
    });
    let numbers: Vec<f32> = numbers.collect();
    order.with(&Outgoing {
        name: LOCAL,
        codec: &F32,
        plan: Plan::default(),
        numbers: &numbers,
    })
}

/// Answers `GET /cluster`.
pub(crate) async fn brief(State(shared): State<Arc<Shared>>, Sender(edge): Sender) -> Response {
    match made(&shared, edge) {
        Some(brief) => ok_json(&brief),
        None => {
            let why = "this aggregator has no gateways".to_owned();
            rejected(&shared, Some(edge), Refusal(StatusCode::NOT_FOUND, why))
        }
    }
}

fn made(shared: &Shared, edge: u32) -> Option<Brief> {
    let dealing = shared.dealing.get()?;
    let cluster = shared.cluster(edge)?;
    let config = &shared.config;
    let setup = EdgeSetup {
        number: edge - config.clients,
        level: 1,
        cluster: cluster.clone(),
        clusters: Default::default(),
        upstream: ([0, 0, 0, 0], 0).into(),
        secret: None,
        rounded: false,
        rounds: 1,
    };
    let policy = of_edge(config.clone(), &setup).policy();
    let ms = |us: u64| u32::try_from(us / 1000).unwrap_or(u32::MAX);
    let address = |client| {
        let address = dealing.addresses.get(&client)?;
        address.to_string().as_str().try_into().ok()
    };
    let addresses: Option<Vec<_>> = cluster.clone().map(address).collect();
    Some(Brief {
        first: cluster.start,
        examples: cluster.map(|client| shared.num_examples(client)).collect(),
        addresses: addresses.unwrap_or_default(),
        numbers: config.travelling() as u32,
        uniform: config.weighting == Weighting::Uniform,
        data_port: dealing.port,
        ready_ms: ms(policy.ready_deadline_us),
        round_ms: ms(policy.round_deadline_us),
        start_ms: ms(policy.start.within_us),
    })
}

async fn inputs(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    asked: QueryResult,
) -> Response {
    deal(shared, &headers, asked, Part::Inputs)
}

async fn labels(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    asked: QueryResult,
) -> Response {
    deal(shared, &headers, asked, Part::Labels)
}

/// Deals the data of a client out to its gateway, which shows its secret.
fn deal(shared: Arc<Shared>, headers: &HeaderMap, asked: QueryResult, part: Part) -> Response {
    let client = query(asked).ok().and_then(|query| query.id);
    let edge = client.and_then(|client| Some((client, shared.edge_of(client)?)));
    let shown = headers.get(Word::SECRET_HEADER);
    let shown = shown.map_or(&b""[..], |shown| shown.as_bytes());
    let is_its = |edge: u32| {
        shared.look(
            |state| match state.roster.entry.fleet.as_ref()?.get(&edge)? {
                Proof::Secret(secret) => Some(secret.matches(shown)),
                Proof::Address(_) => None,
            },
        )
    };
    match edge.filter(|(_, edge)| is_its(*edge) == Some(true)) {
        Some((client, _)) => octets(ExampleBody::new(shared, client, part)),
        None => StatusCode::FORBIDDEN.into_response(),
    }
}
