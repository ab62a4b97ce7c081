//! Guard of the dashboard: the requests that are answered, and the policy that a browser gets with the
//! answer.
//!
//! A page of any web site can make a browser ask 127.0.0.1. It cannot read the answer, unless its own
//! name is made to point there (DNS rebinding): the browser then asks with that name in `Host`. So
//! only requests are answered whose `Host`, and `Origin` if there is one, name this machine.

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;
use zfl_text::Authority;

/// Content security policy of the page: its own script, its own style, its own origin.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// Refuses what does not name this machine, and says on every answer what a browser may do with it.
pub async fn guard(
    State(bound): State<Option<SocketAddr>>,
    request: Request,
    next: Next,
) -> Response {
    let asset = request.uri().path().starts_with("/assets/");
    let mut response = if names_this_machine(request.headers(), bound) {
        next.run(request).await
    } else {
        let reason = "this address serves requests to this machine's own name only: open the \
                      dashboard by the address that zfl printed\n";
        (StatusCode::FORBIDDEN, reason).into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let cache = if asset { "no-cache" } else { "no-store" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

fn names_this_machine(headers: &HeaderMap, bound: Option<SocketAddr>) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Some(host) = host.to_str().ok() else {
        return false;
    };
    let origins = headers.get_all(header::ORIGIN);
    is_own(host, bound)
        && origins.iter().all(|origin| {
            let origin = origin
                .to_str()
                .ok()
                .and_then(|origin| origin.strip_prefix("http://"));
            origin.is_some_and(|origin| is_own(origin, bound))
        })
}

/// Tells a request of this server's own page by its `Origin`. A page that is served on another port of this
/// machine names this machine, too, and is another origin all the same.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    let one = |name: HeaderName| {
        let mut all = headers.get_all(name).iter();
        let (Some(only), None) = (all.next(), all.next()) else {
            return None;
        };
        only.to_str().ok()
    };
    let origin = one(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    let host = one(header::HOST);
    origin
        .zip(host)
        .is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

/// Accepts a `host[:port]` that is loopback, on any port (SSH may forward it), or the bound address.
fn is_own(authority: &str, bound: Option<SocketAddr>) -> bool {
    let authority = Authority::parse(authority);
    let is_bound = bound.is_some() && authority.address() == bound;
    authority.is_localhost() || authority.is_loopback() || is_bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_what_was_bound_are_this_machine() {
        let bound = Some(SocketAddr::from(([192, 0, 2, 1], 8080)));
        for own in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.1.2.3:80",
            "[::1]",
            "[::1]:80",
            "192.0.2.1:8080",
        ] {
            assert!(is_own(own, bound), "{own}");
        }
        for other in [
            "",
            ":80",
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "localhost:evil",
            "localhost:80:80",
            "192.0.2.1:8081",
            "192.0.2.1",
            "192.0.2.2:8080",
            "0.0.0.0:8080",
            "::1",
            "[::2]:80",
            "user@localhost",
        ] {
            assert!(!is_own(other, bound), "{other}");
        }
    }
}
