//! Joining: `GET /id`, from the header lines to the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use fl_proto::{NoWord, Query, Welcome, Word};

use crate::broadcast::Form;
use crate::capabilities;
use crate::config::{codec_name, wire_params};
use crate::device::{DeviceError, Devices};
use crate::edges;
use crate::http::{Peer, QueryResult, ok_json, query, rejected};
use crate::roster::{JoinError, Newcomer};
use crate::serve::Connection;
use crate::shared::{Refusal, Shared};

/// Longest wait for a device whose ID another one is to have.
const OCCUPANT_WITHIN: Duration = Duration::from_secs(1);

/// Devices that are asked whether they are there, for one newcomer without a place.
const ASKED_AT_MOST: usize = 4;

/// Answers `GET /id`.
pub(crate) async fn join(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): Peer,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    asked: QueryResult,
) -> Response {
    let query = match query(asked) {
        Ok(query) => query,
        Err(refusal) => return rejected(&shared, None, refusal),
    };
    let newcomer = newcomer(&query, peer, &headers, &connection);
    let granted = match newcomer {
        Ok(newcomer) => grant(&shared, &query, newcomer).await,
        Err(refusal) => Err(refusal),
    };
    match granted {
        Ok(id) => {
            connection.belongs_to(id);
            if query.has_examples() {
                shared.fetched(id);
            }
            ok_json(&welcome(&shared, id))
        }
        Err(refusal) => rejected(&shared, query.client, refusal),
    }
}

/// Grants an ID: to who proves to be it, who is it already, or who finds its place empty.
async fn grant(shared: &Arc<Shared>, query: &Query, newcomer: Newcomer) -> Result<u32, Refusal> {
    let proven = shared.look(|state| state.roster.entry.proven(query.client, &newcomer))?;
    edges::check(shared, query).map_err(|why| Refusal(StatusCode::CONFLICT, why))?;
    capabilities::check(shared, query)
        .map_err(|why| Refusal(StatusCode::UNPROCESSABLE_ENTITY, why))?;
    if proven.is_some() {
        return Ok(shared.join(proven, newcomer, None)?);
    }
    for (id, known) in shared.in_the_way(query.client, &newcomer, ASKED_AT_MOST) {
        if is_gone(shared, id, known).await {
            return Ok(shared.join(Some(id), newcomer, Some(id))?);
        }
    }
    Ok(shared.join(query.client, newcomer, None)?)
}

/// True if nobody is at the address of a client any more, or somebody else. A device that does not answer
/// in time is there.
async fn is_gone(shared: &Arc<Shared>, id: u32, known: SocketAddr) -> bool {
    let devices = Devices::new(shared.clone());
    match devices.ready(id, known, OCCUPANT_WITHIN).await {
        Ok(ready) => ready.id != id,
        Err(DeviceError::TimedOut(_)) => false,
        // Still fetching its data. A device that has rebooted does not know the word.
        Err(DeviceError::Refused { status, .. }) => status != StatusCode::SERVICE_UNAVAILABLE,
        Err(_) => true,
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        Self(error.status(), error.to_string())
    }
}

/// The device that asks.
fn newcomer(
    query: &Query,
    peer: SocketAddr,
    headers: &HeaderMap,
    connection: &Connection,
) -> Result<Newcomer, Refusal> {
    Ok(Newcomer {
        address: device_address(query, peer)?,
        source: peer.ip(),
        is_own_machine: connection.is_own_machine,
        word: word(headers, Word::HEADER)?,
        secret: word(headers, Word::SECRET_HEADER)?,
        form: form(query),
        evaluates: query.can_evaluate(),
    })
}

/// The word of a header line, if there is that line.
fn word(headers: &HeaderMap, name: &str) -> Result<Option<Word>, Refusal> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let word = Word::parse(value.as_bytes());
    let bad = || Refusal(StatusCode::BAD_REQUEST, format!("{name}: {NoWord}"));
    word.map(Some).ok_or_else(bad)
}

/// Form of the bodies that a client asks for.
fn form(query: &fl_proto::Query) -> Form {
    match query.form.as_deref() {
        Some(fl_proto::Query::JSON_FORM) => Form::Json,
        _ => Form::Octets,
    }
}

fn welcome(shared: &Shared, id: u32) -> Welcome {
    let model = &shared.config.model;
    Welcome {
        protocol: fl_proto::PROTOCOL_VERSION,
        id,
        num_examples: match shared.cluster(id) {
            Some(cluster) => cluster.map(|client| shared.num_examples(client)).sum(),
            None => shared.num_examples(id),
        },
        layers: model.shape().sizes().iter().copied().collect(),
        activation: match model.activation() {
            fl_nn::Activation::Relu => fl_proto::Activation::Relu,
            fl_nn::Activation::Sigmoid => fl_proto::Activation::Sigmoid,
        },
        seed: shared.config.seed,
        rule: shared.config.rule(),
        params: wire_params(&shared.config.algorithm.device_params),
        encoding_up: codec_name(shared.config.encoding_up),
        encoding_down: codec_name(shared.config.encoding_down),
        encoding_args: shared.config.encoding_up.wire_params(),
        holdout: shared.holdout(id).len() as u32,
    }
}

/// Address of a device: its own word, if that is its own address or a loopback one seen from loopback,
/// else the connection's source.
fn device_address(query: &fl_proto::Query, peer: SocketAddr) -> Result<SocketAddr, Refusal> {
    let Some(text) = &query.address else {
        return Ok(SocketAddr::new(peer.ip(), query.port.unwrap_or(80)));
    };
    let bad = |why: String| Refusal(StatusCode::BAD_REQUEST, why);
    let address: SocketAddr = text
        .parse()
        .map_err(|_| bad(format!("address={text} is not ip:port")))?;
    let own = address.ip() == peer.ip() || (address.ip().is_loopback() && peer.ip().is_loopback());
    if !own || address.port() == 0 {
        return Err(bad(format!(
            "address={text} is not the address of this connection, {}",
            peer.ip()
        )));
    }
    Ok(address)
}
