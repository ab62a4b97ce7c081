//! Requests of the aggregator to a device.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fl_proto::{ErrorReply, Ready, Word, path};
use futures::future::{Either, select};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::broadcast::{Form, Pieces};
use crate::shared::Shared;
use crate::traffic::{Counted, Tally};

/// Most bytes taken of a device's answer: all of them are short JSON.
const MAX_ANSWER: usize = 4096;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Requests to devices, each on a connection of its own.
#[derive(Clone, Debug)]
pub struct Devices {
    shared: Arc<Shared>,
}

/// Reason why a device did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeviceError {
    /// No connection, or it broke: worth another try.
    #[error("{0}")]
    Connection(String),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It answered with another status.
    #[error("{status}: {reason}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// Its own words, as [plain](zfl_text::plain) text.
        reason: String,
    },
    /// It answered with something else than the wire format has.
    #[error("its answer is malformed")]
    Malformed,
}

impl Devices {
    /// The bytes are counted in `shared`, byte by byte as they pass.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// `POST /start` with a body of that form.
    pub(crate) async fn start(
        &self,
        id: u32,
        device: SocketAddr,
        (body, form): (Pieces, Form),
        within: Duration,
    ) -> Result<Ready, DeviceError> {
        self.ask(Method::POST, id, device, path::START, (body, form), within)
            .await
    }

    /// `GET /ready`.
    pub async fn ready(
        &self,
        id: u32,
        device: SocketAddr,
        within: Duration,
    ) -> Result<Ready, DeviceError> {
        let nothing = Default::default();
        self.ask(Method::GET, id, device, path::READY, nothing, within)
            .await
    }

    /// `POST /stop`: the experiment is over.
    pub async fn stop(
        &self,
        id: u32,
        device: SocketAddr,
        within: Duration,
    ) -> Result<serde_json::Value, DeviceError> {
        let nothing = Default::default();
        self.ask(Method::POST, id, device, path::STOP, nothing, within)
            .await
    }

    /// `POST` without a body, to a gateway.
    pub(crate) async fn tell(
        &self,
        id: u32,
        device: SocketAddr,
        path: &str,
        within: Duration,
    ) -> Result<serde_json::Value, DeviceError> {
        let nothing = Default::default();
        self.ask(Method::POST, id, device, path, nothing, within)
            .await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        id: u32,
        device: SocketAddr,
        path: &str,
        body: (Pieces, Form),
        within: Duration,
    ) -> Result<T, DeviceError> {
        let asked = self.ask_now(method, id, device, path, body);
        let (status, body) = zfl_clock::timeout(within, asked)
            .await
            .unwrap_or(Err(DeviceError::TimedOut(within)))?;
        if !status.is_success() {
            let reply: Result<ErrorReply, _> = serde_json::from_slice(&body);
            let reason = reply.map_or_else(
                |_| "no reason given".to_owned(),
                |r| zfl_text::plain(&r.error),
            );
            return Err(DeviceError::Refused { status, reason });
        }
        serde_json::from_slice(&body).map_err(|_| DeviceError::Malformed)
    }

    async fn ask_now(
        &self,
        method: Method,
        id: u32,
        device: SocketAddr,
        path: &str,
        body: (Pieces, Form),
    ) -> Result<(StatusCode, Bytes), DeviceError> {
        let (body, form) = body;
        let word = self.shared.look(|state| state.roster.get(id)?.word);
        let word = word.iter().map(|word| (Word::HEADER, word.text()));
        let named = Request::builder().method(method);
        let named = word.fold(named, |request, (name, word)| request.header(name, word));
        let request = named
            .uri(path)
            .header(header::HOST, device.to_string())
            .header(header::CONTENT_TYPE, form.media_type())
            .header(header::CONTENT_LENGTH, body.len())
            .header(header::CONNECTION, "close")
            .body(body)
            .map_err(|error| DeviceError::Connection(error.to_string()))?;
        let no_way = |error: std::io::Error| DeviceError::Connection(cause(&error));
        if let Some((lines, number)) = self.shared.lines().zip(zfl_pipe::number_of(device)) {
            let stream = lines.dial(number).map_err(no_way)?;
            return self.send(id, stream, request).await;
        }
        let stream = zfl_clock::timeout(CONNECT, TcpStream::connect(device)).await;
        let stream = stream.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(no_way)?;
        // Whether the system takes this is a matter of speed only.
        let _ = stream.set_nodelay(true);
        self.send(id, stream, request).await
    }

    /// Sends a request by a stream of its own, and returns the answer.
    async fn send(
        &self,
        id: u32,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Pieces>,
    ) -> Result<(StatusCode, Bytes), DeviceError> {
        let stream = Counted::new(stream, Tally::of(self.shared.clone(), id));
        let broken = |error: hyper::Error| DeviceError::Connection(cause(&error));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| DeviceError::Connection(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        // The connection moves the bytes, so both are polled; it may be over before the answer is read.
        match select(pin!(exchange), pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, exchange)) => exchange.await,
        }
    }
}

/// The innermost cause of an error, which is the one that says something.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
