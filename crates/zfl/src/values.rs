//! Values of flags that are no keys of an experiment.

use crate::args::DashboardChoice;
use std::net::{SocketAddr, ToSocketAddrs};
use zfl_runner::Capture;

/// The dashboard's address, or `off`.
///
/// # Errors
/// Advice: the value to give instead.
pub fn dashboard(text: &str) -> Result<DashboardChoice, String> {
    if text == "off" {
        return Ok(DashboardChoice::Off);
    }
    let at = address(text).map(DashboardChoice::At);
    at.map_err(|advice| format!("{advice}, or off"))
}

/// An address to listen on: `192.0.2.1:8080`, `[::1]:8080`, `localhost:8080`; `:8080` or `8080` on this machine
/// alone.
///
/// # Errors
/// Advice: the value to give instead.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    // As a browser shows it.
    let text = text.strip_prefix("http://").unwrap_or(text);
    let text = text.strip_suffix('/').unwrap_or(text);
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = parts(text)?;
    let port = port.parse::<u16>();
    let port = port.map_err(|_| "a port is a number from 0 to 65535: 127.0.0.1:8080".to_owned())?;
    if host.is_empty() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let found = (host, port).to_socket_addrs();
    let found: Vec<_> = found.into_iter().flatten().collect();
    // Devices speak IPv4, and so does most of what listens on localhost.
    let address = found
        .iter()
        .find(|address| address.is_ipv4())
        .or(found.first());
    address.copied().ok_or_else(|| {
        let host = host.escape_debug();
        format!("no machine is known as {host}: give its address, such as 192.0.2.1:{port}")
    })
}

/// Host and port; a port alone has no host.
fn parts(text: &str) -> Result<(&str, &str), String> {
    if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Ok(("", text));
    }
    let shown = text.escape_debug();
    let no_port = || format!("{shown} has no port: give it behind a colon, such as 127.0.0.1:8080");
    let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err("put the address of IPv6 into brackets: [::1]:8080".to_owned());
    }
    Ok((bare.unwrap_or(host), port))
}

/// The address of a server that listens.
///
/// # Errors
/// Advice: the value to give instead.
pub fn server(text: &str) -> Result<SocketAddr, String> {
    match address(text)? {
        address if address.port() == 0 => {
            Err("nobody listens on port 0: give the port that the server has printed".to_owned())
        }
        address => Ok(address),
    }
}

/// `all`, or clients separated by commas.
///
/// # Errors
/// Advice: the value to give instead.
pub fn capture(text: &str) -> Result<Capture, String> {
    if text == "all" {
        return Ok(Capture::All);
    }
    let clients = text.split(',').map(|client| client.trim().parse());
    let clients = clients.collect::<Result<Vec<u32>, _>>().map(Capture::Of);
    clients.map_err(|_| "give `all`, or clients separated by commas: 0,3,7".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_short_or_have_a_name() {
        for (text, is) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("8080", "127.0.0.1:8080"),
            ("0", "127.0.0.1:0"),
            ("[::1]:8080", "[::1]:8080"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("http://localhost:8080/", "127.0.0.1:8080"),
        ] {
            assert_eq!(address(text), Ok(is.parse().unwrap()), "{text}");
        }
        for (text, advice) in [
            ("", "has no port"),
            ("localhost", "localhost has no port"),
            ("192.0.2.1", "has no port"),
            ("localhost:", "a number from 0 to 65535"),
            ("localhost:http", "a number from 0 to 65535"),
            (":99999", "a number from 0 to 65535"),
            ("99999", "a number from 0 to 65535"),
            ("::1:8080", "into brackets"),
            ("no such host:80", "no machine is known as no such host"),
        ] {
            let refused = address(text).unwrap_err();
            assert!(refused.contains(advice), "{text}: {refused}");
        }
        assert_eq!(dashboard("off"), Ok(DashboardChoice::Off));
        assert_eq!(
            dashboard("8000"),
            Ok(DashboardChoice::At("127.0.0.1:8000".parse().unwrap()))
        );
        assert!(
            dashboard("here")
                .unwrap_err()
                .ends_with("127.0.0.1:8080, or off")
        );
    }

    #[test]
    fn a_server_has_an_address_and_a_port() {
        assert!(server("localhost:8080").is_ok());
        assert!(
            server("localhost:0")
                .unwrap_err()
                .contains("nobody listens")
        );
    }

    #[test]
    fn captures_are_of_all_or_of_some() {
        assert_eq!(capture("all"), Ok(Capture::All));
        assert_eq!(capture("3, 7"), Ok(Capture::Of(vec![3, 7])));
        for bad in ["", "some", "1,,2", "-1"] {
            assert!(capture(bad).is_err(), "{bad:?}");
        }
    }
}
