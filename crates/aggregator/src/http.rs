//! The aggregator's endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use fl_proto::frame::{Frame, HEADER_LEN, Kind};
use fl_proto::{ErrorReply, MAX_CONTROL_BYTES, Results, Welcome, compat, json, path};
use http_body_util::BodyExt;

use crate::device::{Devices, head_len};
use crate::event::Event;
use crate::roster::JoinError;
use crate::shared::{Refusal, Shared};

/// Longest wait for a device whose ID another one wishes for.
const OCCUPANT_WITHIN: Duration = Duration::from_secs(1);

type Asked = Result<Query<fl_proto::Query>, QueryRejection>;
type Peer = ConnectInfo<SocketAddr>;

/// The aggregator's router; it wants the peer's address as [`ConnectInfo`].
pub fn app(shared: Arc<Shared>) -> Router {
    let limit = body_limit(shared.config.network.shape().num_params());
    Router::new()
        .route(path::ID, get(join))
        .route(path::TRAINING_DATA, get(training_data))
        .route(path::TRAINING_LABELS, get(training_labels))
        .route(path::RESULTS, post(results))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(limit))
        .with_state(shared)
}

/// The longest update in either form.
fn body_limit(num_params: usize) -> usize {
    let frame = HEADER_LEN + MAX_CONTROL_BYTES + 4 * num_params;
    frame.max(compat::max_body_len(num_params).unwrap_or(frame))
}

async fn unknown() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "no such endpoint; see docs/wire-format.md",
    )
}

async fn wrong_method() -> Response {
    refuse(
        StatusCode::METHOD_NOT_ALLOWED,
        "GET /id, /training-data, /training-labels; POST /results",
    )
}

async fn join(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): Peer,
    asked: Asked,
    headers: HeaderMap,
) -> Response {
    let query = match query(asked) {
        Ok(query) => query,
        Err(refusal) => return rejected(&shared, None, refusal),
    };
    let address = match device_address(&query, peer, shared.config.any_address) {
        Ok(address) => address,
        Err(refusal) => return rejected(&shared, query.client, refusal),
    };
    // On one machine many devices share an IP address: who answers as that client keeps its ID.
    if let (Some(wish), Some(known)) = (query.client, shared.occupant(query.client, address)) {
        let exchange = Devices::default().ready(known, OCCUPANT_WITHIN).await;
        if exchange.answer.is_ok_and(|ready| ready.id == wish) {
            let refusal = Refusal(StatusCode::CONFLICT, JoinError::Taken(wish).to_string());
            return rejected(&shared, query.client, refusal);
        }
    }
    match shared.join(query.client, address) {
        Ok(id) => {
            let response = ok_json(&welcome(&shared, id));
            count(&shared, id, &headers, 0, &response);
            response
        }
        Err(error) => {
            let refusal = Refusal(StatusCode::CONFLICT, error.to_string());
            rejected(&shared, query.client, refusal)
        }
    }
}

fn welcome(shared: &Shared, id: u32) -> Welcome {
    let network = &shared.config.network;
    Welcome {
        protocol: fl_proto::PROTOCOL_VERSION,
        id,
        num_examples: shared.partition.indices(id as usize).len() as u32,
        layers: network.shape().sizes().iter().copied().collect(),
        activation: match network.activation() {
            fl_nn::Activation::Relu => fl_proto::Activation::Relu,
            fl_nn::Activation::Sigmoid => fl_proto::Activation::Sigmoid,
        },
        seed: shared.config.seed,
    }
}

/// Where a device is reached: what it says itself, if that is its own address or a loopback one
/// seen from loopback, else the connection's source.
fn device_address(
    query: &fl_proto::Query,
    peer: SocketAddr,
    any: bool,
) -> Result<SocketAddr, Refusal> {
    let Some(text) = &query.address else {
        return Ok(SocketAddr::new(peer.ip(), query.port.unwrap_or(80)));
    };
    let bad = |why: String| Refusal(StatusCode::BAD_REQUEST, why);
    let address: SocketAddr = text
        .parse()
        .map_err(|_| bad(format!("address={text} is not ip:port")))?;
    let own = address.ip() == peer.ip() || (address.ip().is_loopback() && peer.ip().is_loopback());
    if !(own || any) || address.port() == 0 {
        return Err(bad(format!(
            "address={text} is not the address of this connection, {}",
            peer.ip()
        )));
    }
    Ok(address)
}

async fn training_data(
    State(shared): State<Arc<Shared>>,
    asked: Asked,
    headers: HeaderMap,
) -> Response {
    serve_partition(&shared, asked, &headers, |shared, indices| {
        shared.train.gather_inputs(indices)
    })
}

async fn training_labels(
    State(shared): State<Arc<Shared>>,
    asked: Asked,
    headers: HeaderMap,
) -> Response {
    let response = serve_partition(&shared, asked, &headers, |shared, indices| {
        shared.train.gather_labels(indices)
    });
    if response.status().is_success()
        && let Some(id) = response.extensions().get::<Id>()
    {
        shared.fetched(id.0);
    }
    response
}

/// The client that a response is for.
#[derive(Clone, Copy)]
struct Id(u32);

fn serve_partition(
    shared: &Shared,
    asked: Asked,
    headers: &HeaderMap,
    gather: impl Fn(&Shared, &[u32]) -> Vec<u8>,
) -> Response {
    let id = match query(asked).and_then(|query| known(shared, &query)) {
        Ok(id) => id,
        Err(refusal) => return rejected(shared, None, refusal),
    };
    let octets = gather(shared, shared.partition.indices(id as usize));
    let mut response = ([(header::CONTENT_TYPE, fl_proto::OCTET_STREAM)], octets).into_response();
    count(shared, id, headers, 0, &response);
    response.extensions_mut().insert(Id(id));
    response
}

async fn results(State(shared): State<Arc<Shared>>, asked: Asked, request: Request) -> Response {
    let id = match query(asked).and_then(|query| known(&shared, &query)) {
        Ok(id) => id,
        Err(refusal) => return rejected(&shared, None, refusal),
    };
    let headers = request.headers().clone();
    let accepted = match whole_body(&shared, id, request).await {
        Err(error) => Err(Refusal(error.status(), error.body_text())),
        Ok(body) => {
            shared.count(id, body.len() as u64 + head_len(&headers), 0);
            if shared.is_corrupted(id) {
                take_damaged(&shared, id, &headers, &body)
            } else {
                take_update(&shared, id, &headers, &body)
            }
        }
    };
    let response = match accepted {
        Ok(()) => ok_json(&serde_json::json!({})),
        Err(refusal) => rejected(&shared, Some(id), refusal),
    };
    shared.count(id, 0, response_len(&response));
    response
}

/// The body of a client's request. Every piece of it shows that the client is there: over a slow link
/// an update takes minutes, and nothing else comes through.
async fn whole_body(
    shared: &Arc<Shared>,
    id: u32,
    request: Request,
) -> Result<Bytes, BytesRejection> {
    let shared = Arc::clone(shared);
    let request = request.map(|body| {
        Body::new(body.map_frame(move |frame| {
            shared.heard(id);
            frame
        }))
    });
    Bytes::from_request(request, &()).await
}

fn take_update(shared: &Shared, id: u32, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let num_params = shared.config.network.shape().num_params();
    let (results, params) = parse_update(headers, body, num_params)?;
    if let Err(why) = shared.check(id, &params) {
        // The device has nothing better to send: its round need not be waited for.
        shared.give_up(id, &results, &why);
        return Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    shared.take_update(id, results, params)
}

/// Takes an update in as if one bit of it had been turned on the way: a fault made on purpose.
fn take_damaged(shared: &Shared, id: u32, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let mut damaged = body.to_vec();
    if let Some(byte) = damaged.last_mut() {
        *byte ^= 1;
    }
    let taken = take_update(shared, id, headers, &damaged);
    if let Err(Refusal(_, why)) = &taken {
        shared.failed(
            id,
            &format!("its update was damaged on the way, as planned: {why}"),
        );
    }
    taken
}

fn parse_update(
    headers: &HeaderMap,
    body: &[u8],
    num_params: usize,
) -> Result<(Results, Vec<f32>), Refusal> {
    let bad = |why: String| Refusal(StatusCode::BAD_REQUEST, why);
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = media_type
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    match media_type {
        Some(fl_proto::OCTET_STREAM) => {
            let frame = Frame::parse(body).map_err(|error| bad(error.to_string()))?;
            if frame.header.kind != Kind::Weights {
                return Err(bad("the update is a delta, weights are expected".into()));
            }
            if frame.header.count as usize != num_params {
                return Err(bad(format!(
                    "{} parameters, the model has {num_params}",
                    frame.header.count
                )));
            }
            let results: Results = json::decode(frame.control)
                .ok_or_else(|| bad("malformed control message".into()))?;
            if results.round != frame.header.round {
                return Err(bad(
                    "header and control message name different rounds".into()
                ));
            }
            Ok((results, frame.params().collect()))
        }
        Some(fl_proto::JSON) => {
            let results: Results =
                json::decode(body).ok_or_else(|| bad("malformed control message".into()))?;
            let mut params = vec![0.0; num_params];
            if !compat::decode_weights(body, &mut params) {
                return Err(bad(format!("weights: not base64 of {num_params} f32")));
            }
            Ok((results, params))
        }
        _ => Err(Refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("send {} or {}", fl_proto::OCTET_STREAM, fl_proto::JSON),
        )),
    }
}

fn query(asked: Asked) -> Result<fl_proto::Query, Refusal> {
    match asked {
        Ok(Query(query)) => Ok(query),
        Err(error) => Err(Refusal(StatusCode::BAD_REQUEST, error.body_text())),
    }
}

/// The ID of a query, if a client of it has joined.
fn known(shared: &Shared, query: &fl_proto::Query) -> Result<u32, Refusal> {
    let id = query
        .id
        .ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, "?id= is missing".into()))?;
    if shared.has_joined(id) {
        Ok(id)
    } else {
        Err(Refusal(
            StatusCode::NOT_FOUND,
            format!("client {id} has not joined; GET {}", path::ID),
        ))
    }
}

fn ok_json<T: serde::Serialize>(body: &T) -> Response {
    axum::Json(body).into_response()
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, axum::Json(ErrorReply::new(reason))).into_response()
}

/// Refuses and says so in the log; nothing else changes.
fn rejected(shared: &Shared, client: Option<u32>, Refusal(status, reason): Refusal) -> Response {
    shared.rejected();
    let response = refuse(status, &reason);
    shared.log.emit(Event::ResultRejected {
        client,
        status: status.as_u16(),
        reason,
    });
    response
}

fn count(shared: &Shared, id: u32, request: &HeaderMap, body_len: u64, response: &Response) {
    shared.count(id, head_len(request) + body_len, response_len(response));
}

fn response_len(response: &Response) -> u64 {
    use hyper::body::Body as _;
    head_len(response.headers()) + Body::size_hint(response.body()).exact().unwrap_or(0)
}
