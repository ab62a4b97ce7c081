//! The aggregator's endpoints.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{
    ConnectInfo, DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, State,
};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use fl_algo::{Examples, Way};
use fl_proto::{ErrorReply, Word, path, wire_len};
use http_body_util::{BodyExt, Full};
use zfl_http_server::TooSlow;

use crate::config::Config;
use crate::edges;
use crate::evaluation::take_evaluation;
use crate::examples::{ExampleBody, Part};
use crate::gateways;
use crate::guard::guard;
use crate::intake::take_update;
use crate::join::join;
use crate::refusals::{self, Refused};
use crate::serve::Connection;
use crate::shared::{Refusal, Shared};
use crate::upstream;

pub(crate) type QueryResult = Result<Query<fl_proto::Query>, QueryRejection>;
pub(crate) type Peer = ConnectInfo<SocketAddr>;

/// The aggregator's router; it wants the peer's address as [`ConnectInfo`], and its [`Connection`].
pub fn app(shared: Arc<Shared>) -> Router {
    let limit = body_limit(&shared.config);
    let mut router = Router::new();
    if !shared.config.clusters.is_empty() {
        router = router.route(path::CLUSTER, post(edges::report).get(gateways::brief));
    }
    if shared.orders.get().is_some() {
        router = upstream::routes(router);
    }
    router
        .route(path::ID, get(join))
        .route(path::TRAINING_DATA, get(training_data))
        .route(path::TRAINING_LABELS, get(training_labels))
        .route(path::STATE, get(state))
        .route(path::RESULTS, post(results))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(limit))
        .layer(from_fn_with_state(shared.clone(), guard))
        .layer(from_fn_with_state(shared.clone(), refusals::tell))
        .with_state(shared)
}

/// Greatest length of an update in either form.
fn body_limit(config: &Config) -> usize {
    let found = config
        .evaluation
        .iter()
        .flat_map(|_| config.confusion_sections());
    let found: u64 = found.sum();
    let counts = || {
        let update = config.sections(Way::Up).map(|section| section.count as u64);
        // One behind the other they are the longer of the two.
        update.chain((found > 0).then_some(found))
    };
    let octets = wire_len::longest_body(counts());
    let json = wire_len::longest_json_body(counts());
    let most = usize::try_from(octets.max(json)).unwrap_or(usize::MAX);
    // Nobody sends the longer ones of edges where there are none.
    match config.clusters.is_empty() {
        true => most,
        false => most.max(edges::longest_sums(config)),
    }
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
        "GET /id, /training-data, /training-labels, /state; POST /results",
    )
}

async fn training_data(State(shared): State<Arc<Shared>>, Sender(id): Sender) -> Response {
    octets(ExampleBody::new(shared, id, Part::Inputs))
}

async fn training_labels(State(shared): State<Arc<Shared>>, Sender(id): Sender) -> Response {
    shared.fetched(id);
    let Some(attack) = shared.config.attackers.get(&id) else {
        return octets(ExampleBody::new(shared, id, Part::Labels));
    };
    let indices = shared.partition.indices(id as usize);
    let mut labels = shared.train.gather_labels(indices);
    let examples = Examples {
        seed: shared.config.seed,
        client: id,
        num_classes: shared.train.num_classes.try_into().unwrap_or(u8::MAX),
    };
    attack.labels(&examples, &mut labels);
    // What an attacker holds out tells of the model as it is.
    labels.extend(shared.train.gather_labels(&shared.holdout(id)));
    octets(Full::from(labels))
}

/// The server's copy of what the client keeps, for a device that has lost its own.
async fn state(State(shared): State<Arc<Shared>>, Sender(id): Sender) -> Response {
    let Some(kept) = shared.states.get(id) else {
        let why = format!("no kept vectors of client {id}");
        return rejected(&shared, Some(id), Refusal(StatusCode::GONE, why));
    };
    let form = shared.look(|state| state.roster.get(id).map(|client| client.form));
    let form = form.unwrap_or_default();
    let encode = move || shared.on_the_way.body(id, &kept, form);
    let encoded = tokio::task::spawn_blocking(encode).await;
    match encoded.map_err(anyhow::Error::from).flatten() {
        Ok(body) => ([(header::CONTENT_TYPE, form.media_type())], body).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub(crate) fn octets<B>(octets: B) -> Response
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let octets = Body::new(octets);
    ([(header::CONTENT_TYPE, fl_proto::OCTET_STREAM)], octets).into_response()
}

async fn results(
    State(shared): State<Arc<Shared>>,
    Sender(id): Sender,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let accepted = match whole_body(&shared, id, request).await {
        Err(refusal) => Err(refusal),
        // Checksums, decoding and a forward pass: not for the threads that move bytes.
        Ok(body) => {
            // Before the update counts: it may end its round, which is not counted without this answer.
            connection.answers();
            off_the_workers({
                let shared = shared.clone();
                move || {
                    if shared.cluster(id).is_some() {
                        return edges::take_sums(&shared, id, &headers, &body);
                    }
                    let evaluation = take_evaluation(&shared, id, &headers, &body);
                    evaluation.unwrap_or_else(|| take_update(&shared, id, &headers, &body))
                }
            })
            .await
        }
    };
    match accepted {
        Ok(()) => ok_json(&serde_json::json!({})),
        Err(refusal) => rejected(&shared, Some(id), refusal),
    }
}

/// Does heavy work on a thread of its own.
async fn off_the_workers(
    work: impl FnOnce() -> Result<(), Refusal> + Send + 'static,
) -> Result<(), Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        ))
    })
}

/// The body of a client's request. Every piece of it shows that the client is there: over a slow link
/// an update takes minutes, and nothing else comes through.
async fn whole_body(shared: &Arc<Shared>, id: u32, request: Request) -> Result<Bytes, Refusal> {
    let shared = Arc::clone(shared);
    let request = request.map(|body| {
        Body::new(body.map_frame(move |frame| {
            shared.heard(id);
            frame
        }))
    });
    let body = Bytes::from_request(request, &()).await;
    body.map_err(|error| match too_slow(&error) {
        Some(slow) => Refusal(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body came too slowly: {slow}"),
        ),
        None => Refusal(error.status(), error.body_text()),
    })
}

/// The pace that a body did not keep, if that is why it failed.
fn too_slow(error: &(dyn std::error::Error + 'static)) -> Option<TooSlow> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .filter_map(|error| error.downcast_ref())
        .copied()
        .next()
}

pub(crate) fn query(asked: QueryResult) -> Result<fl_proto::Query, Refusal> {
    match asked {
        Ok(Query(query)) => Ok(query),
        Err(error) => Err(Refusal(StatusCode::BAD_REQUEST, error.body_text())),
    }
}

/// The ID of a query, if a client of it has joined, from where this comes and with the word that is shown.
/// Devices that share an address and gave no word are not told apart.
fn known(
    shared: &Shared,
    query: &fl_proto::Query,
    peer: Option<IpAddr>,
    shown: &[u8],
) -> Result<u32, Refusal> {
    let id = query
        .id
        .ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, "?id= is missing".into()))?;
    let (source, word) = shared.look(|state| {
        let client = state.roster.get(id);
        client.map_or((None, None), |client| (client.source, client.word))
    });
    match source {
        None => Err(Refusal(
            StatusCode::NOT_FOUND,
            format!("client {id} has not joined; GET {}", path::ID),
        )),
        source if source == peer && word.is_none_or(|word| word.matches(shown)) => Ok(id),
        source if source == peer => Err(Refusal(
            StatusCode::FORBIDDEN,
            format!("client {id} joined with another word"),
        )),
        Some(_) => Err(Refusal(
            StatusCode::FORBIDDEN,
            format!("client {id} joined from another address"),
        )),
    }
}

/// The client that a request is of; its connection's bytes are that client's.
pub(crate) struct Sender(pub u32);

impl FromRequestParts<Arc<Shared>> for Sender {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        let asked = QueryResult::from_request_parts(parts, shared).await;
        let asked = asked.unwrap_or_else(|never| match never {});
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.ip());
        let shown = parts.headers.get(Word::HEADER);
        let shown = shown.map_or(&b""[..], |shown| shown.as_bytes());
        let id = query(asked).and_then(|query| known(shared, &query, peer, shown));
        let id = id.map_err(|refusal| rejected(shared, None, refusal))?;
        if let Some(connection) = parts.extensions.get::<Connection>() {
            connection.belongs_to(id);
        }
        Ok(Self(id))
    }
}

pub(crate) fn ok_json<T: serde::Serialize>(body: &T) -> Response {
    axum::Json(body).into_response()
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, axum::Json(ErrorReply::new(reason))).into_response()
}

/// Refuses, and has it told ([`refusals::tell`]); nothing else changes.
pub(crate) fn rejected(
    shared: &Shared,
    client: Option<u32>,
    Refusal(status, reason): Refusal,
) -> Response {
    shared.rejected();
    let reply = ErrorReply::new(&reason);
    let refused = Refused {
        client,
        status,
        // As the device is told it: it may repeat what was sent, at any length.
        reason: zfl_text::plain(&reply.error),
    };
    let mut response = (status, axum::Json(reply)).into_response();
    response.extensions_mut().insert(refused);
    response
}
