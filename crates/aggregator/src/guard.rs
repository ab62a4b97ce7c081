//! Guard of the endpoints: devices are answered, pages of a browser are refused.
//!
//! A page of any web site can make a browser ask 127.0.0.1, and read the answer once its own name is made
//! to point there (DNS rebinding). A browser tells on itself: it sends `Origin` or `Sec-Fetch-Site`, or
//! else the page's name as `Host`. An IP address in `Host` is no page's name; it may well be another
//! than the one that was dialled, since devices of the user network dial 10.0.2.2.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use fl_proto::path;
use zfl_text::{Authority, Host};

use crate::http::rejected;
use crate::serve::Connection;
use crate::shared::{Refusal, Shared};

/// Refuses what a page asks.
pub(crate) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let local = request.extensions().get::<Connection>();
    // Elsewhere the aggregator may have a name; here only a browser would use one.
    let misnamed = local.is_none_or(|connection| connection.is_local) && !names_this(headers);
    if misnamed || is_of_a_page(headers) {
        let why = "the aggregator answers devices and no pages: ask it by its IP address";
        return rejected(&shared, None, Refusal(StatusCode::FORBIDDEN, why.into()));
    }
    next.run(request).await
}

/// True if a browser sends this on behalf of a page. An address typed in by a person has a site of `none`.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let sites = headers.get_all("sec-fetch-site");
    headers.contains_key(header::ORIGIN) || sites.iter().any(|site| site != "none")
}

/// True if every `Host` is an IP address, this machine's name for itself, or the devices' name for it.
fn names_this(headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(header::HOST);
    hosts.iter().all(|host| host.to_str().is_ok_and(is_own))
}

fn is_own(authority: &str) -> bool {
    let authority = Authority::parse(authority);
    match authority.host {
        Host::Ip(_) => true,
        Host::Name(name) => authority.is_localhost() || name == path::HOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_own_names_are_no_pages() {
        for own in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "10.0.2.2:8080",
            "192.0.2.1",
            "[::1]",
            "[::1]:8080",
            "localhost",
            "LOCALHOST:8080",
            "aggregator",
            "aggregator:8080",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "",
            ":8080",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8080",
            "aggregator.evil.example",
            "localhost:evil",
            "localhost:80:80",
            "user@localhost",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
