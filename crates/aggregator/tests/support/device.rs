//! A device that the test plays itself: it takes orders, and the test decides what becomes of them.

use super::http::{Answer, get, post, word};
use super::{LONG, Wire};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get as on_get, post as on_post};
use fl_proto::codec::F32;
use fl_proto::message::{self, Kind, MODEL, Message, Outgoing};
use fl_proto::{
    Cost, DeviceState, ErrorReply, Metrics, OCTET_STREAM, Ready, Results, Start, Welcome, Word,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// Answer of a device to a `/start`, besides taking it.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// Refuses with this status.
    Refuse(u16),
    /// Never answers.
    Hang,
    /// Takes it, and its answer is lost on the way.
    Garble,
    /// Refuses, and answers nothing from then on.
    Vanish,
    /// Takes it, and answers when it is let go.
    Hold,
}

/// A `/start` that a device took.
#[derive(Clone, Debug)]
pub struct Order {
    pub start: Start,
    pub params: Vec<f32>,
}

/// A device that has joined.
pub struct Device {
    pub id: u32,
    pub address: SocketAddr,
    pub num_examples: u32,
    server: SocketAddr,
    inner: Arc<Inner>,
    orders: mpsc::UnboundedReceiver<Order>,
    serving: JoinHandle<()>,
}

struct Inner {
    /// Set once it has joined; nobody asks before.
    id: OnceLock<u32>,
    ready: Mutex<(DeviceState, u32)>,
    replies: Mutex<VecDeque<Reply>>,
    stops: Mutex<u32>,
    vanished: AtomicBool,
    let_go: Notify,
    orders: mpsc::UnboundedSender<Order>,
}

impl Device {
    /// Serves, joins as `client` and fetches its data.
    pub async fn join(server: SocketAddr, client: u32) -> Self {
        let device = Self::join_with(server, &format!("client={client}&"), None).await;
        assert_eq!(device.id, client);
        device
    }

    /// Joins like [`Device::join`], and can what `more` says of its query.
    pub async fn join_able(server: SocketAddr, client: u32, more: &str) -> Self {
        Self::join_with(server, &format!("client={client}{more}&"), None).await
    }

    /// Joins like [`Device::join`], with all its traffic over `wire`.
    pub async fn join_over(wire: &Wire, server: SocketAddr, client: u32) -> Self {
        let server = wire.to_server(server).await;
        Self::join_with(server, &format!("client={client}&"), Some(wire)).await
    }

    /// Serves, joins as whoever the server makes it and fetches its data.
    pub async fn join_without_wish(server: SocketAddr) -> Self {
        Self::join_with(server, "", None).await
    }

    async fn join_with(server: SocketAddr, wish: &str, wire: Option<&Wire>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, orders) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            id: OnceLock::new(),
            ready: Mutex::new((DeviceState::Ready, 0)),
            replies: Mutex::default(),
            stops: Mutex::default(),
            vanished: AtomicBool::new(false),
            let_go: Notify::new(),
            orders: sender,
        });
        let app = Router::new()
            .route("/ready", on_get(ready))
            .route("/start", on_post(start))
            .route("/stop", on_post(stop))
            .layer(from_fn(obeys))
            .with_state(inner.clone());
        let taken = Taken {
            listener,
            inner: inner.clone(),
        };
        let serving = tokio::spawn(async move { axum::serve(taken, app).await.unwrap() });
        let address = match wire {
            Some(wire) => wire.to_device(address).await,
            None => address,
        };
        let rules: Vec<_> = fl_algo::rule_names().collect();
        let able = format!("codecs=f32,f16&rules={}", rules.join(","));
        let target = format!("/id?{wish}address={address}&{able}");
        let welcome = get(server, &target).await;
        let welcome: Welcome = welcome.json();
        let id = *inner.id.get_or_init(|| welcome.id);
        for path in ["training-data", "training-labels"] {
            assert_eq!(get(server, &format!("/{path}?id={id}")).await.status, 200);
        }
        let num_examples = welcome.num_examples;
        Self {
            id,
            address,
            num_examples,
            server,
            inner,
            orders,
            serving,
        }
    }

    /// Answers to the next `/start`s, before any is taken.
    pub fn answer_next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inner.replies.lock().unwrap().extend(replies);
    }

    /// Replies not given yet.
    pub fn replies_left(&self) -> usize {
        self.inner.replies.lock().unwrap().len()
    }

    /// Sets the answer of `/ready` from now on.
    pub fn set_state(&self, state: DeviceState, round: u32) {
        *self.inner.ready.lock().unwrap() = (state, round);
    }

    /// Answers after [`Reply::Hold`].
    pub fn let_go(&self) {
        self.inner.let_go.notify_one();
    }

    /// Answers again after [`Reply::Vanish`].
    pub fn come_back(&self) {
        self.inner.vanished.store(false, Ordering::SeqCst);
    }

    /// Times that it was told that the experiment is over.
    pub fn stops(&self) -> u32 {
        *self.inner.stops.lock().unwrap()
    }

    /// The next `/start` that it takes.
    pub async fn order(&mut self) -> Order {
        let order = tokio::time::timeout(LONG, self.orders.recv()).await;
        order.expect("a /start comes").expect("the device serves")
    }

    /// Stops serving: its port refuses connections from here on.
    pub async fn kill(self) -> SocketAddr {
        self.serving.abort();
        let _ = self.serving.await;
        self.address
    }

    /// The results that this device would send for an order.
    pub fn results(&self, order: &Order) -> Results {
        Results {
            round: order.start.round,
            token: order.start.token.clone(),
            num_examples: self.num_examples,
            steps: 1,
            loss: 0.5,
            metrics: Metrics::new(),
            cost: Cost {
                train_us: 1000,
                bytes_sent: 7,
                ..Cost::default()
            },
        }
    }

    /// A training that anyone can check: every parameter grows by an eighth per ID.
    pub fn train(&self, order: &Order) -> Vec<f32> {
        order
            .params
            .iter()
            .map(|param| param + 0.125 * (self.id + 1) as f32)
            .collect()
    }

    /// The body of an honest update.
    pub fn update(&self, order: &Order) -> Vec<u8> {
        update_of(&self.results(order), &self.train(order))
    }

    /// Posts octets under its own ID.
    pub async fn post(&self, body: &[u8]) -> Answer {
        post(
            self.server,
            &format!("/results?id={}", self.id),
            OCTET_STREAM,
            body,
        )
        .await
    }

    /// Takes the next order and does what it says.
    pub async fn serve(&mut self) -> Order {
        let order = self.order().await;
        let answer = self.post(&self.update(&order)).await;
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        order
    }

    /// Obeys until the run is over, in the background; gives itself back when told to stop.
    pub fn obey_always(mut self) -> JoinHandle<Self> {
        tokio::spawn(async move {
            while self.stops() == 0 {
                tokio::select! {
                    order = self.orders.recv() => {
                        let Some(order) = order else { break };
                        self.post(&self.update(&order)).await;
                    }
                    () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
                }
            }
            self
        })
    }
}

/// An update of `results` and `params`.
pub fn update_of(results: &Results, params: &[f32]) -> Vec<u8> {
    message_of(Kind::Results, &serde_json::to_vec(results).unwrap(), params)
}

/// A message with a model.
pub fn message_of(kind: Kind, control: &[u8], params: &[f32]) -> Vec<u8> {
    let model = Outgoing {
        name: MODEL,
        codec: &F32,
        plan: fl_proto::codec::Plan::default(),
        numbers: params,
    };
    message::encode(kind, control, &[model]).unwrap()
}

/// Connections to a device, closed at once while it has vanished.
struct Taken {
    listener: TcpListener,
    inner: Arc<Inner>,
}

impl axum::serve::Listener for Taken {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let taken = axum::serve::Listener::accept(&mut self.listener).await;
            if !self.inner.vanished.load(Ordering::SeqCst) {
                return taken;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Passes on what the aggregator asks, which knows the word.
async fn obeys(request: Request, next: Next) -> Response {
    let shown = request.headers().get(Word::HEADER);
    match shown.is_some_and(|shown| word().matches(shown.as_bytes())) {
        true => next.run(request).await,
        false => refuse(403),
    }
}

async fn ready(State(inner): State<Arc<Inner>>) -> Response {
    json_ready(&inner, 200)
}

async fn start(State(inner): State<Arc<Inner>>, body: Bytes) -> Response {
    let reply = inner.replies.lock().unwrap().pop_front();
    match reply {
        Some(Reply::Refuse(status)) => return refuse(status),
        Some(Reply::Vanish) => {
            inner.vanished.store(true, Ordering::SeqCst);
            return refuse(400);
        }
        Some(Reply::Hang) => std::future::pending().await,
        Some(Reply::Garble | Reply::Hold) | None => {}
    }
    let message = Message::parse(&body).expect("a well-formed message");
    assert_eq!(message.kind, Kind::Start);
    let start: Start = fl_proto::json::decode(message.control).expect("a start");
    let model = message.section(MODEL).expect("a model");
    inner.ready.lock().unwrap().1 = start.round;
    let _ = inner.orders.send(Order {
        start,
        params: model.numbers().expect("a codec that is spoken"),
    });
    if let Some(Reply::Hold) = reply {
        inner.let_go.notified().await;
    }
    if let Some(Reply::Garble) = reply {
        return (StatusCode::ACCEPTED, "{").into_response();
    }
    json_ready(&inner, 202)
}

fn refuse(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, axum::Json(ErrorReply::new("told to refuse"))).into_response()
}

async fn stop(State(inner): State<Arc<Inner>>) -> Response {
    *inner.stops.lock().unwrap() += 1;
    axum::Json(serde_json::json!({})).into_response()
}

fn json_ready(inner: &Inner, status: u16) -> Response {
    let (state, round) = *inner.ready.lock().unwrap();
    let (id, done_examples, total_examples) = (*inner.id.get().expect("it has joined"), 0, 0);
    let error = None;
    let ready = Ready {
        id,
        state,
        round,
        done_examples,
        total_examples,
        error,
    };
    (StatusCode::from_u16(status).unwrap(), axum::Json(ready)).into_response()
}
