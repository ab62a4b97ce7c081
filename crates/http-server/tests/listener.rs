//! A listener over real connections.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use zfl_http_server::{Limits, Pace, serve};

/// Long enough that only a hang reaches it.
const LONG: Duration = Duration::from_secs(600);

fn limits(places: usize) -> Limits {
    Limits {
        head: LONG,
        pace: Pace {
            patience: LONG,
            bytes_per_s: 0,
        },
        places,
        each: 1,
    }
}

fn router() -> Router {
    let echo = |body: Result<Bytes, axum::extract::rejection::BytesRejection>| async {
        body.map_err(|error| (StatusCode::REQUEST_TIMEOUT, error.body_text()))
    };
    Router::new()
        .route("/", get(|| async { "here" }))
        .route("/echo", post(echo))
        .route("/never", get(std::future::pending::<()>))
}

async fn listen(limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connected = |stream, _| (stream, |_: &mut _, _: &_| {});
    let never = std::future::pending();
    tokio::spawn(serve(listener, router(), limits, never, connected));
    address
}

async fn send(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// All that comes until the end, which may be a reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";

#[tokio::test]
async fn a_connection_has_one_exchange() {
    let address = listen(limits(8)).await;
    let answer = rest(&mut send(address, &GET.repeat(2)).await).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_next_connection_is_always_taken() {
    let address = listen(limits(4)).await;
    let mut idle = Vec::new();
    for _ in 0..12 {
        idle.push(send(address, "GET / HT").await);
    }
    assert!(rest(&mut send(address, GET).await).await.ends_with("here"));
    for stream in &mut idle[..9] {
        assert_eq!(rest(stream).await, "");
    }
}

#[tokio::test]
async fn requests_that_never_end_keep_nobody_out() {
    let address = listen(limits(4)).await;
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(send(address, "GET /never HTTP/1.1\r\nHost: here\r\n\r\n").await);
    }
    assert!(rest(&mut send(address, GET).await).await.ends_with("here"));
}

#[tokio::test]
async fn another_source_keeps_its_places() {
    let address = listen(limits(4)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut slow = socket.connect(address).await.unwrap();
    slow.write_all(&GET.as_bytes()[..10]).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    slow.write_all(&GET.as_bytes()[10..]).await.unwrap();
    assert!(rest(&mut slow).await.ends_with("here"));
}

#[tokio::test]
async fn half_a_head_has_its_time() {
    let head = Duration::from_millis(200);
    let address = listen(Limits { head, ..limits(4) }).await;
    for part in ["", "G", "GET / HTTP/1.1\r\n"] {
        assert_eq!(rest(&mut send(address, part).await).await, "");
    }
}

#[tokio::test]
async fn a_body_that_stops_is_refused_and_the_reason_told() {
    let pace = Pace {
        patience: Duration::from_millis(200),
        bytes_per_s: 1,
    };
    let address = listen(Limits { pace, ..limits(4) }).await;
    let half = "POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf";
    let answer = rest(&mut send(address, half).await).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("no byte for 200ms"), "{answer}");
}
