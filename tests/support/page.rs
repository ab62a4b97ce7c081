//! The page of a run, as whoever has its token controls it.

use super::process::wait_until;
use super::run::Live;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A run's page.
#[derive(Debug)]
pub struct Page {
    host: String,
}

impl Page {
    /// Address of this run's page, from its output.
    #[track_caller]
    pub fn of(live: &Live) -> Self {
        let address = wait_until("the page's address", Duration::from_secs(60), || {
            let said = live.said_so_far();
            let line = said.lines().find_map(|l| l.strip_prefix("dashboard: "));
            line.map(str::to_owned)
        });
        let address = address.strip_prefix("http://").expect("it is a URL");
        let (host, _) = address.split_once('/').expect("it has a path");
        Self {
            host: host.to_owned(),
        }
    }

    /// The answer to a request that changes something, as a browser would send it.
    #[track_caller]
    pub fn control(&self, what: &str, token: &str, body: &str) -> String {
        let Self { host } = self;
        let mut connection = TcpStream::connect(host).expect("the page is served");
        let length = body.len();
        let request = format!(
            "POST /api/touch/{what} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\
             Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        connection
            .write_all(request.as_bytes())
            .expect("it listens");
        let mut answer = String::new();
        let read = connection.read_to_string(&mut answer);
        read.expect("the answer is text");
        answer
    }

    /// Does something to a device, and expects this answer.
    #[track_caller]
    pub fn act(&self, client: u32, token: &str, action: &str, answer: &str) {
        let body = format!(r#"{{"action":"{action}"}}"#);
        let told = self.control(&format!("devices/{client}"), token, &body);
        assert!(told.contains(answer), "{action}: no {answer:?} in {told}");
    }
}
