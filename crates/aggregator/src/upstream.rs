//! The way between an edge and the aggregator above it: orders that come down, and requests that go up.
//!
//! Towards the aggregator above an edge is a device: it answers `/ready`, `/start` and `/stop` to whoever shows its
//! word, beside the endpoints for its own cluster.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use fl_algo::{Sections, Way};
use fl_proto::cluster::{COHORT, Orders as Marks, PARTIAL_SUMS};
use fl_proto::message::{Kind, Message};
use fl_proto::{DeviceState, LATER_FIELDS, Ready, Start, Welcome, Word, codec, json, path};
use futures::future::{Either, select};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::http::ok_json;
use crate::log::lock;
use crate::shared::{Refusal, Shared};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Most octets of an answer.
const MOST: usize = 4096;

/// An order: a round to be run.
#[derive(Debug)]
pub(crate) struct Order {
    pub start: Start,
    /// Clients that are to train, and what is planned for them.
    pub cohort: BTreeMap<u32, Marks>,
    /// Sections for the cluster as they came.
    pub octets: Vec<Bytes>,
    /// Their numbers.
    pub sections: Sections,
}

/// Orders from above.
#[derive(Debug)]
pub(crate) struct Orders {
    pub word: Word,
    /// ID of the edge above.
    pub id: u32,
    cluster: Mutex<Range<u32>>,
    /// The last order.
    pub order: watch::Sender<Option<Arc<Order>>>,
    pub state: Mutex<DeviceState>,
    pub stop: watch::Sender<bool>,
}

impl Orders {
    pub fn new(id: u32, cluster: Range<u32>) -> Self {
        Self {
            word: Word::random(rand::random()),
            id,
            cluster: Mutex::new(cluster),
            order: watch::Sender::new(None),
            state: Mutex::new(DeviceState::Ready),
            stop: watch::Sender::new(false),
        }
    }

    /// Clients of the edge as they are now.
    pub fn cluster(&self) -> Range<u32> {
        lock(&self.cluster).clone()
    }

    /// Gives the edge other clients.
    pub fn give(&self, cluster: Range<u32>) {
        *lock(&self.cluster) = cluster;
    }

    pub fn set(&self, state: DeviceState) {
        *lock(&self.state) = state;
    }

    fn ready(&self) -> Ready {
        let order = self.order.borrow();
        Ready {
            id: self.id,
            state: *lock(&self.state),
            round: order.as_ref().map_or(0, |order| order.start.round),
            done_examples: 0,
            total_examples: 0,
            error: None,
        }
    }

    /// Takes an order, unless the edge is at work.
    fn take(&self, order: Order) -> Result<Ready, Refusal> {
        let conflict = |why: &str| Err(Refusal(StatusCode::CONFLICT, why.to_owned()));
        let state = *lock(&self.state);
        let last = self.order.borrow().clone();
        let is_later = last.is_none_or(|last| order.start.round > last.start.round);
        match state {
            DeviceState::Training => return conflict("at work; ask /ready"),
            _ if !is_later => return conflict("this round was started already"),
            _ => {}
        }
        self.set(DeviceState::Training);
        self.order.send_replace(Some(Arc::new(order)));
        Ok(self.ready())
    }
}

/// Adds the endpoints of a device.
pub(crate) fn routes(router: Router<Arc<Shared>>) -> Router<Arc<Shared>> {
    router
        .route(path::READY, get(ready))
        .route(path::START, post(start))
        .route(path::STOP, post(stop))
}

/// The endpoints of a device alone.
pub(crate) fn alone(shared: Arc<Shared>) -> Router {
    routes(Router::new()).with_state(shared)
}

/// Orders of an edge, for who shows its word.
fn orders<'a>(shared: &'a Shared, headers: &HeaderMap) -> Result<&'a Orders, Refusal> {
    let shown = headers
        .get(Word::HEADER)
        .map_or(&b""[..], |it| it.as_bytes());
    let orders = shared.orders.get();
    let orders = orders.filter(|orders| orders.word.matches(shown));
    let why = || "no or another word".to_owned();
    orders.ok_or_else(|| Refusal(StatusCode::FORBIDDEN, why()))
}

fn answer(answer: Result<Ready, Refusal>, status: StatusCode) -> Response {
    match answer {
        Ok(ready) => (status, ok_json(&ready)).into_response(),
        Err(Refusal(status, why)) => {
            (status, axum::Json(fl_proto::ErrorReply::new(why))).into_response()
        }
    }
}

async fn ready(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let ready = orders(&shared, &headers).map(Orders::ready);
    answer(ready, StatusCode::OK)
}

async fn stop(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match orders(&shared, &headers) {
        Ok(orders) => {
            orders.stop.send_replace(true);
            ok_json(&serde_json::json!({}))
        }
        Err(refusal) => answer(Err(refusal), StatusCode::OK),
    }
}

async fn start(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let taken = async {
        let orders = orders(&shared, &parts.headers)?;
        let body = Limited::new(body, longest_order(&shared.config))
            .collect()
            .await;
        let malformed = |why: String| Refusal(StatusCode::BAD_REQUEST, why);
        let body = body.map_err(|error| malformed(error.to_string()))?;
        let order = order(&shared.config, orders, &body.to_bytes()).map_err(malformed)?;
        orders.take(order)
    };
    answer(taken.await, StatusCode::ACCEPTED)
}

/// Greatest length of an order.
fn longest_order(config: &Config) -> usize {
    let counts = config
        .sections(Way::Down)
        .map(|section| section.count as u64);
    let cohort = 2 * u64::from(config.clients);
    let longest = fl_proto::wire_len::longest_body(counts.chain([cohort]));
    usize::try_from(longest).unwrap_or(usize::MAX)
}

/// Reads an order, all of it, and checks it against the experiment.
fn order(config: &Config, orders: &Orders, body: &[u8]) -> Result<Order, String> {
    let message = Message::parse(body).map_err(|error| error.to_string())?;
    let start: Option<Start> = json::decode(message.control);
    let start = start.filter(|_| message.kind == Kind::Start);
    let start = start.ok_or("malformed control message")?;
    if start.rule != config.rule() {
        let own = config.rule();
        return Err(format!(
            "the rule {}, this edge has {own}: give both the same experiment",
            start.rule
        ));
    }
    let mut sections = Sections::new();
    let mut octets = Vec::new();
    let mut cohort = Vec::new();
    for section in &message.sections {
        let numbers = section.numbers().map_err(|error| error.to_string())?;
        let name = section.header.name.as_str();
        if name == COHORT {
            cohort = numbers;
            continue;
        }
        let mut own = config.sections(Way::Down);
        let fits = own.any(|own| own.name == name && own.count == numbers.len());
        if !fits {
            return Err(format!("section {name} is not that of this experiment"));
        }
        octets.push(Bytes::from(section.octets()));
        sections.insert(name.to_owned(), numbers);
    }
    if let Some(own) = config
        .sections(Way::Down)
        .find(|own| !sections.contains_key(own.name))
    {
        return Err(format!("section {} is missing", own.name));
    }
    let cohort =
        cohort_of(&cohort, &orders.cluster()).ok_or("the cohort is not of this cluster")?;
    Ok(Order {
        start,
        cohort,
        octets,
        sections,
    })
}

/// The clients of a section `cohort`; none if it is no cohort of this cluster.
fn cohort_of(numbers: &[f32], cluster: &Range<u32>) -> Option<BTreeMap<u32, Marks>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    let mut cohort = BTreeMap::new();
    for [client, marks] in pairs {
        // What is no whole number is none of the cluster's after the cast, or not itself any more.
        let (id, bits) = (*client as u32, *marks as u8);
        let is_whole = id as f32 == *client && f32::from(bits) == *marks;
        if !is_whole || !cluster.contains(&id) {
            return None;
        }
        cohort.insert(id, Marks::of_bits(bits)?);
    }
    (rest.is_empty() && cohort.len() == pairs.len()).then_some(cohort)
}

/// Maker of sockets that are not connected yet, of IPv6 if told so: in the network of the aggregator above, which may be
/// another than that of the cluster.
pub type Sockets = Arc<dyn Fn(bool) -> io::Result<std::net::TcpStream> + Send + Sync>;

/// The network of the aggregator above, where it is another than that of the cluster.
pub struct Above {
    /// Listener for orders.
    pub listener: TcpListener,
    /// Sockets for requests; none: those of this process's own network.
    pub sockets: Option<Sockets>,
}

/// The aggregator above an edge.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub server: SocketAddr,
    pub secret: Option<Word>,
    pub word: Word,
    pub id: u32,
    pub sockets: Option<Sockets>,
}

/// Reason why the aggregator above did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection or no answer: worth another try.
    #[error("{0}")]
    Silent(String),
    /// It answered with another status.
    #[error("{0}: {1}")]
    Refused(StatusCode, String),
}

impl Upstream {
    /// Joins; the address is that at which the edge listens.
    pub async fn join(&self, port: u16) -> Result<Welcome, UpstreamError> {
        let codecs: Vec<_> = codec::ALL.iter().map(|codec| codec.name()).collect();
        let rules: Vec<_> = fl_algo::rule_names().collect();
        let asked = format!(
            "{}?client={}&port={port}&codecs={}&rules={}&can={}",
            path::ID,
            self.id,
            codecs.join(","),
            rules.join(","),
            LATER_FIELDS.join(","),
        );
        let answer = self.ask(Method::GET, &asked, "", Bytes::new()).await?;
        let malformed = |_| UpstreamError::Silent("its answer is malformed".to_owned());
        serde_json::from_slice(&answer).map_err(malformed)
    }

    /// Posts sums.
    pub async fn sums(&self, body: Bytes) -> Result<(), UpstreamError> {
        let path = format!("{}?id={}", path::RESULTS, self.id);
        self.ask(Method::POST, &path, PARTIAL_SUMS, body)
            .await
            .map(drop)
    }

    /// Posts who is there.
    pub async fn report(&self, body: Bytes) -> Result<(), UpstreamError> {
        let path = format!("{}?id={}", path::CLUSTER, self.id);
        self.ask(Method::POST, &path, fl_proto::JSON, body)
            .await
            .map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Bytes,
    ) -> Result<Bytes, UpstreamError> {
        let asked = zfl_clock::timeout(ANSWER, self.ask_now(method, path, media_type, body));
        let silent = |error: anyhow::Error| UpstreamError::Silent(format!("{error:#}"));
        let late = |_| UpstreamError::Silent(format!("no answer within {ANSWER:?}"));
        let (status, body) = asked.await.map_err(late)?.map_err(silent)?;
        if status.is_success() {
            return Ok(body);
        }
        let reply: Option<fl_proto::ErrorReply> = serde_json::from_slice(&body).ok();
        let why = reply.map_or_else(
            || "no reason given".to_owned(),
            |reply| zfl_text::plain(&reply.error),
        );
        Err(UpstreamError::Refused(status, why))
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let Some(sockets) = self.sockets.clone() else {
            return TcpStream::connect(self.server).await;
        };
        let ipv6 = self.server.is_ipv6();
        let socket = spawn_blocking(move || sockets(ipv6)).await??;
        socket.set_nonblocking(true)?;
        TcpSocket::from_std_stream(socket)
            .connect(self.server)
            .await
    }

    async fn ask_now(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, path::HOST)
            .header(header::CONTENT_LENGTH, body.len())
            .header(header::CONNECTION, "close")
            .header(Word::HEADER, self.word.text());
        if let Some(secret) = &self.secret {
            request = request.header(Word::SECRET_HEADER, secret.text());
        }
        if !media_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        let request = request.body(Full::new(body))?;
        let stream = zfl_clock::timeout(CONNECT, self.connect()).await;
        let stream = stream.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?;
        // Whether the system takes this is a matter of speed only.
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MOST).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{error}"))?;
            Ok((status, body.to_bytes()))
        };
        match select(pin!(exchange), pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, exchange)) => exchange.await,
        }
    }
}
