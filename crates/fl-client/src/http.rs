//! HTTP/1.1 heads: bounded, parsed by `httparse`, one exchange a connection.

use core::fmt::{self, Write as _};
use fl_proto::{ErrorReply, MAX_CONTROL_BYTES, json, path};
use heapless::Vec;

/// Longest head taken in, in bytes.
pub const MAX_HEAD: usize = 1024;

/// Most header lines taken in.
pub const MAX_HEADERS: usize = 24;

/// A head as it arrives.
pub type HeadBuffer = Vec<u8, MAX_HEAD>;

/// A whole reply of this device: head and a short JSON body.
pub type Reply = Vec<u8, { MAX_CONTROL_BYTES + 256 }>;

/// A request refused: the status and the reason that goes with it.
#[derive(Debug)]
pub struct Refusal {
    /// Status of the answer.
    pub status: u16,
    /// Its body.
    pub reason: ErrorReply,
}

impl Refusal {
    /// A refusal for a reason, cut to what fits.
    pub fn new(status: u16, reason: impl fmt::Display) -> Self {
        Self {
            status,
            reason: ErrorReply::new(reason),
        }
    }
}

/// The body of a reply that says nothing more: `{}`.
#[derive(serde::Serialize)]
pub struct Empty {}

/// The endpoints of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Ready,
    Start,
    Stop,
}

/// A checked request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub route: Route,
    /// True if `Content-Type` is that of a message.
    pub is_message: bool,
    pub content_length: u64,
}

/// A checked response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Octets of its body.
    pub content_length: u64,
}

/// A header line as it was sent.
pub type Header<'a> = httparse::Header<'a>;

/// The length of the head at the start of `bytes`, its blank line included.
pub fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Reads a request head. `guard` looks at the header lines before anything else of it counts.
pub(crate) fn parse_request(
    head: &[u8],
    guard: impl FnOnce(&[Header<'_>]) -> Result<(), Refusal>,
) -> Result<Request, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::new(400, "the head is cut off")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "too many header lines"));
        }
        Err(e) => return Err(Refusal::new(400, format_args!("malformed request: {e}"))),
    }
    guard(parsed.headers)?;
    let target = parsed.path.unwrap_or("");
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let (route, method) = match path {
        path::READY => (Route::Ready, "GET"),
        path::START => (Route::Start, "POST"),
        path::STOP => (Route::Stop, "POST"),
        _ => {
            return Err(Refusal::new(
                404,
                "a device serves /ready, /start and /stop",
            ));
        }
    };
    if parsed.method != Some(method) {
        return Err(Refusal::new(
            405,
            format_args!("{path} takes {method} only"),
        ));
    }
    let length = content_length(parsed.headers)?;
    if route == Route::Start && length.is_none() {
        return Err(Refusal::new(411, "/start needs a Content-Length"));
    }
    Ok(Request {
        route,
        is_message: is_message(parsed.headers),
        content_length: length.unwrap_or(0),
    })
}

/// Reads a response head; `None` if it is malformed or of no known length.
pub fn parse_response(head: &[u8]) -> Option<Response> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    if !parsed.parse(head).ok()?.is_complete() {
        return None;
    }
    let content_length = content_length(parsed.headers).ok()??;
    Some(Response {
        status: parsed.code?,
        content_length,
    })
}

/// The one length that the header lines agree on.
///
/// # Errors
/// [`Refusal`] if they do not, or give none that can be known.
pub fn content_length(headers: &[Header<'_>]) -> Result<Option<u64>, Refusal> {
    let mut length = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Refusal::new(
                411,
                "send a Content-Length, no Transfer-Encoding",
            ));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = core::str::from_utf8(header.value).unwrap_or("");
            // `parse` alone would take a leading plus.
            let value = if text.bytes().all(|b| b.is_ascii_digit()) {
                text.parse().ok()
            } else {
                None
            };
            match (value, length) {
                (None, _) => return Err(Refusal::new(400, "Content-Length is not a number")),
                (Some(new), Some(old)) if new != old => {
                    return Err(Refusal::new(400, "two different Content-Length lines"));
                }
                (value, _) => length = value,
            }
        }
    }
    Ok(length)
}

/// True if `Content-Type` names octets.
pub fn is_message(headers: &[Header<'_>]) -> bool {
    let mut headers = headers.iter();
    let header = headers.find(|h| h.name.eq_ignore_ascii_case("content-type"));
    let value = header.and_then(|header| core::str::from_utf8(header.value).ok());
    let media_type = value.and_then(|value| value.split(';').next());
    media_type.is_some_and(|name| name.trim().eq_ignore_ascii_case(fl_proto::OCTET_STREAM))
}

/// Writes a reply with `body` as JSON.
pub fn write_reply<T: serde::Serialize>(reply: &mut Reply, status: u16, body: &T) {
    let mut json = [0; MAX_CONTROL_BYTES];
    // Every body here is a message of bounded fields; the wire crate's tests hold their lengths.
    let length = json::encode(body, &mut json).unwrap_or(0);
    let head = write!(
        reply,
        "HTTP/1.1 {status} {}\r\nContent-Type: {}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
        reason_phrase(status),
        fl_proto::JSON,
    );
    debug_assert!(head.is_ok());
    let body = reply.extend_from_slice(&json[..length]);
    debug_assert!(body.is_ok());
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(head: &str) -> u16 {
        parse_request(head.as_bytes(), |_| Ok(()))
            .unwrap_err()
            .status
    }

    #[test]
    fn requests_are_read() {
        let head = b"POST /start?x=1 HTTP/1.1\r\ncontent-length: 12\r\nContent-Type: application/octet-stream; v=1\r\n\r\n";
        assert_eq!(
            parse_request(head, |_| Ok(())).unwrap(),
            Request {
                route: Route::Start,
                is_message: true,
                content_length: 12
            }
        );
        assert_eq!(
            parse_request(b"GET /ready HTTP/1.1\r\n\r\n", |_| Ok(()))
                .unwrap()
                .route,
            Route::Ready
        );
    }

    #[test]
    fn bad_requests_are_refused_with_their_status() {
        assert_eq!(refused("GET /secret HTTP/1.1\r\n\r\n"), 404);
        assert_eq!(refused("GET /start HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(refused("POST /start HTTP/1.1\r\n\r\n"), 411);
        assert_eq!(
            refused("POST /start HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            411
        );
        assert_eq!(
            refused("POST /start HTTP/1.1\r\nContent-Length: +1\r\n\r\n"),
            400
        );
        assert_eq!(
            refused("POST /start HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"),
            400
        );
        assert_eq!(
            refused("POST /start HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            400
        );
        assert_eq!(refused("\u{0}\r\n\r\n"), 400);
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(
            refused(&std::format!("GET /ready HTTP/1.1\r\n{many}\r\n")),
            431
        );
    }

    #[test]
    fn a_response_needs_a_length() {
        let with = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(
            parse_response(with),
            Some(Response {
                status: 200,
                content_length: 5
            })
        );
        assert_eq!(parse_response(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(parse_response(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
    }

    #[test]
    fn the_longest_refusal_fits_a_reply() {
        let reason = ErrorReply::new(core::str::from_utf8(&[b'x'; 400]).unwrap());
        let mut bytes = Reply::new();
        write_reply(&mut bytes, 507, &reason);
        assert!(bytes.ends_with(b"\"}"));
    }
}
