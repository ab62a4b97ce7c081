//! Requests of the aggregator to a device.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use fl_proto::{ErrorReply, Ready, path};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Most bytes taken of a device's answer: all of them are short JSON.
const MAX_ANSWER: usize = 4096;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// An HTTP client for devices, which serve one request a connection.
#[derive(Clone, Debug)]
pub struct Devices {
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Why a device did not do what it was asked.
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

/// An answer, and the HTTP bytes both ways.
#[derive(Debug)]
pub struct Exchange<T> {
    /// The answer.
    pub answer: Result<T, DeviceError>,
    /// Bytes to the device.
    pub bytes_down: u64,
    /// Bytes from the device.
    pub bytes_up: u64,
}

impl Default for Devices {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Self { client }
    }
}

impl Devices {
    /// `POST /start` with a whole body.
    pub async fn start(
        &self,
        device: SocketAddr,
        body: Vec<u8>,
        within: Duration,
    ) -> Exchange<Ready> {
        self.ask(Method::POST, device, path::START, body, within)
            .await
    }

    /// `GET /ready`.
    pub async fn ready(&self, device: SocketAddr, within: Duration) -> Exchange<Ready> {
        self.ask(Method::GET, device, path::READY, Vec::new(), within)
            .await
    }

    /// `POST /stop`: the experiment is over.
    pub async fn stop(&self, device: SocketAddr, within: Duration) -> Exchange<serde_json::Value> {
        self.ask(Method::POST, device, path::STOP, Vec::new(), within)
            .await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        device: SocketAddr,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Exchange<T> {
        let mut exchange = Exchange {
            answer: Err(DeviceError::TimedOut(within)),
            bytes_down: 0,
            bytes_up: 0,
        };
        let asked = self.ask_now(
            method,
            device,
            path,
            body,
            &mut exchange.bytes_down,
            &mut exchange.bytes_up,
        );
        if let Ok(answer) = tokio::time::timeout(within, asked).await {
            exchange.answer = answer;
        }
        exchange
    }

    async fn ask_now<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        device: SocketAddr,
        path: &str,
        body: Vec<u8>,
        down: &mut u64,
        up: &mut u64,
    ) -> Result<T, DeviceError> {
        let body_len = body.len() as u64;
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{device}{path}"))
            .header(header::CONTENT_TYPE, fl_proto::OCTET_STREAM)
            .header(header::CONTENT_LENGTH, body_len)
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| DeviceError::Connection(error.to_string()))?;
        *down += body_len + head_len(request.headers()) + path.len() as u64;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| {
            if error.is_connect() {
                *down = 0;
            }
            DeviceError::Connection(cause(&error))
        })?;
        let status = answer.status();
        *up += head_len(answer.headers());
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body
            .map_err(|error| DeviceError::Connection(error.to_string()))?
            .to_bytes();
        *up += body.len() as u64;
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
}

/// Length of a head of these header lines, with a start line of usual length, in bytes.
pub(crate) fn head_len(headers: &hyper::HeaderMap) -> u64 {
    const START_LINE_AND_BLANK: u64 = 19;
    let lines = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    START_LINE_AND_BLANK + lines.sum::<usize>() as u64
}

/// The innermost cause of an error, which is the one that says something.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
