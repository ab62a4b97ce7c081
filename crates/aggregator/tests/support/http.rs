//! Requests by hand, so that a test can send what no client library would.

use fl_proto::Word;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A response: its status and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The reason of an error: every one must have it as JSON.
    pub fn reason(&self) -> String {
        let reply: fl_proto::ErrorReply = serde_json::from_slice(&self.body).expect("a reason");
        reply.error.to_string()
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The word of every device here; requests have it unless they bring lines of their own.
pub fn word() -> Word {
    Word::random([0x77; 16])
}

/// The header line with [`word`].
pub fn word_line() -> String {
    format!("{}: {}\r\n", Word::HEADER, word().text())
}

pub async fn get(server: SocketAddr, target: &str) -> Answer {
    get_with(server, target, &word_line()).await
}

/// A `GET` with these header lines.
pub async fn get_with(server: SocketAddr, target: &str, lines: &str) -> Answer {
    let stream = TcpStream::connect(server).await.unwrap();
    with_lines(stream, &format!("GET {target}"), lines).await
}

/// A `GET` whose connection comes from the address `from`.
pub async fn get_from(from: [u8; 4], server: SocketAddr, target: &str) -> Answer {
    get_from_with(from, server, target, &word_line()).await
}

/// A `GET` from the address `from` with these header lines.
pub async fn get_from_with(from: [u8; 4], server: SocketAddr, target: &str, lines: &str) -> Answer {
    let stream = connect_from(from, server).await;
    with_lines(stream, &format!("GET {target}"), lines).await
}

/// A frame posted from the address `from`.
pub async fn post_from(from: [u8; 4], server: SocketAddr, target: &str, body: &[u8]) -> Answer {
    let stream = connect_from(from, server).await;
    exchange(
        stream,
        &format!("POST {target}"),
        fl_proto::OCTET_STREAM,
        body,
    )
    .await
}

/// A connection that comes from the address `from`.
pub async fn connect_from(from: [u8; 4], server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(server).await.unwrap()
}

pub async fn post(server: SocketAddr, target: &str, media_type: &str, body: &[u8]) -> Answer {
    let stream = TcpStream::connect(server).await.unwrap();
    exchange(stream, &format!("POST {target}"), media_type, body).await
}

async fn exchange(mut stream: TcpStream, line: &str, media_type: &str, body: &[u8]) -> Answer {
    let host = stream.peer_addr().unwrap();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: {media_type}\r\n\
         {}Content-Length: {}\r\n\r\n",
        word_line(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may refuse early and stop reading; what it says is then read all the same.
    let _ = stream.write_all(body).await;
    answer(&mut stream).await
}

async fn with_lines(mut stream: TcpStream, line: &str, lines: &str) -> Answer {
    let host = stream.peer_addr().unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    answer(&mut stream).await
}

/// A request written out by hand.
pub async fn raw(server: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(&mut stream).await
}

/// All that comes until the server closes the connection.
pub async fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let end = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a whole head")
        + 4;
    let status = std::str::from_utf8(&bytes[9..12]).unwrap().parse().unwrap();
    Answer {
        status,
        body: bytes[end..].to_vec(),
    }
}
