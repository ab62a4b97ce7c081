//! The authority of a URL, as `Host` and `Origin` have it, and the header lines by which a browser tells on
//! itself: what a guard against pages of web sites looks at.

use core::net::{IpAddr, SocketAddr};

/// A host, and the port if one is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The port.
    pub port: Option<u16>,
}

/// A host by address or by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// `127.0.0.1` or `[::1]`.
    Ip(IpAddr),
    /// Anything else, a name or no host at all.
    Name(&'a str),
}

impl<'a> Authority<'a> {
    /// Takes `host[:port]` apart. What is behind the last colon and no port stays part of a name.
    pub fn parse(text: &'a str) -> Self {
        if let Ok(address) = text.parse::<SocketAddr>() {
            let (host, port) = (Host::Ip(address.ip()), Some(address.port()));
            return Self { host, port };
        }
        if let Some(ip) = ip_literal(text) {
            let (host, port) = (Host::Ip(ip), None);
            return Self { host, port };
        }
        let port = |(host, port): (&'a str, &str)| Some((host, port.parse().ok()?));
        let (name, port) = match text.rsplit_once(':').and_then(port) {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        let host = Host::Name(name);
        Self { host, port }
    }

    /// True if the host is the name `localhost`.
    pub fn is_localhost(&self) -> bool {
        matches!(self.host, Host::Name(name) if name.eq_ignore_ascii_case("localhost"))
    }

    /// True if the host is a loopback address.
    pub fn is_loopback(&self) -> bool {
        matches!(self.host, Host::Ip(ip) if ip.is_loopback())
    }

    /// The socket's address, where both an address and a port are named.
    pub fn address(&self) -> Option<SocketAddr> {
        match (self.host, self.port) {
            (Host::Ip(ip), Some(port)) => Some(SocketAddr::new(ip, port)),
            _ => None,
        }
    }
}

/// True for a header line that a browser sends on behalf of a page. An address typed in by a person has a site
/// of `none`.
pub fn is_of_a_page(name: &str, value: &[u8]) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    is("origin") || is("sec-fetch-site") && value != b"none"
}

fn ip_literal(host: &str) -> Option<IpAddr> {
    let v6 = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']'));
    match v6 {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_an_address_or_a_name() {
        let ip = |ip: &str| Host::Ip(ip.parse().unwrap());
        for (text, host, port) in [
            ("127.0.0.1", ip("127.0.0.1"), None),
            ("127.0.0.1:80", ip("127.0.0.1"), Some(80)),
            ("[::1]", ip("::1"), None),
            ("[::1]:80", ip("::1"), Some(80)),
            ("LOCALHOST:1", Host::Name("LOCALHOST"), Some(1)),
            (
                "127.0.0.1.evil.example:80",
                Host::Name("127.0.0.1.evil.example"),
                Some(80),
            ),
            ("localhost:evil", Host::Name("localhost:evil"), None),
            ("localhost:80:80", Host::Name("localhost:80"), Some(80)),
            ("", Host::Name(""), None),
        ] {
            assert_eq!(Authority::parse(text), Authority { host, port }, "{text}");
        }
    }

    #[test]
    fn a_browser_tells_on_itself() {
        for (name, value, is_page) in [
            ("Origin", "http://evil.example", true),
            ("origin", "null", true),
            ("Sec-Fetch-Site", "cross-site", true),
            ("sec-fetch-site", "same-origin", true),
            ("Sec-Fetch-Site", "none", false),
            ("Sec-Fetch-Mode", "cors", false),
            ("Host", "evil.example", false),
        ] {
            assert_eq!(
                is_of_a_page(name, value.as_bytes()),
                is_page,
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn this_machine_has_a_name_and_addresses() {
        assert!(Authority::parse("LOCALHOST:1").is_localhost());
        assert!(Authority::parse("127.1.2.3:80").is_loopback());
        assert!(Authority::parse("[::1]").is_loopback());
        for other in [
            "localhost.evil.example",
            "user@localhost",
            "localhost:evil",
            "::1",
            "0.0.0.0:80",
        ] {
            let other = Authority::parse(other);
            assert!(!other.is_localhost() && !other.is_loopback(), "{other:?}");
        }
    }
}
