//! HTTP on the aggregator's side: requests as a device could send them, in one piece and in many.

use crate::idx::{IMAGES, LABELS};
use crate::{Verdict, folder};
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zfl_aggregator::{RunDir, Server, bind};
use zfl_experiment::{Experiment, Root, Settings};

/// Request with which client 0 joins before the input comes.
const JOIN: &[u8] = b"GET /id?client=0&port=9 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

pub(crate) fn check(input: &[u8]) -> Verdict {
    let whole = answer_to(input, usize::MAX);
    let in_pieces = answer_to(input, 1 + input.len() / 7);
    if let (Some(whole), Some(in_pieces)) = (&whole, in_pieces) {
        assert_eq!(in_pieces, *whole);
    }
    let whole = whole.unwrap_or_default();
    assert!(!whole.starts_with("HTTP/1.1 5"), "{whole}");
    match whole.starts_with("HTTP/1.1 2") {
        true => Verdict::Accepted,
        false => Verdict::Refused,
    }
}

/// First line of a new aggregator's answer to a request in pieces of at most so many octets; `None` if
/// there was none. TCP may lose the answer to a request that was refused before its end, and a torn head
/// may be refused or not, by the piece in which it turns out to be malformed.
fn answer_to(request: &[u8], piece: usize) -> Option<String> {
    let files = folder([
        ("data/train-images-idx3-ubyte", IMAGES),
        ("data/train-labels-idx1-ubyte", LABELS),
        ("data/t10k-images-idx3-ubyte", IMAGES),
        ("data/t10k-labels-idx1-ubyte", LABELS),
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let server = server(files.path());
        let listener = bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let exchanges = async {
            let joined = exchange(address, JOIN, usize::MAX).await;
            assert!(is_answer(&joined), "{joined:?}");
            let answer = exchange(address, request, piece).await;
            // It goes on answering, be it with a refusal.
            let still = exchange(address, JOIN, usize::MAX).await;
            assert!(is_answer(&still), "{still:?}");
            answer.and_then(|answer| Some(answer.lines().next()?.to_owned()))
        };
        tokio::select! {
            ended = server.run(listener) => panic!("the aggregator ended: {ended:?}"),
            answer = exchanges => answer,
        }
    })
}

fn is_answer(answer: &Option<String>) -> bool {
    let mut answer = answer.iter();
    answer.any(|answer| answer.starts_with("HTTP/1.1 "))
}

/// An aggregator for two clients, of which one never comes, so that no round begins.
fn server(root: &Path) -> Server {
    let settings = Settings {
        data: Some(root.join("data")),
        clients: Some(2),
        clients_per_round: Some(2),
        hidden: Some(Vec::new()),
        ..Settings::default()
    };
    let out = root.join("run");
    let (experiment, data) =
        Experiment::of_server(&settings, Some(&out), &Root::of_tree(root)).expect("an experiment");
    let partition = experiment.partition.clone();
    let run_dir = RunDir::create(&out).expect("a run directory");
    let config = experiment.aggregator();
    Server::new(config, data, partition, run_dir).expect("an aggregator")
}

/// Sends a request and reads the answer to its end; `None` if the connection was reset.
async fn exchange(address: SocketAddr, request: &[u8], piece: usize) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    for piece in request.chunks(piece.min(request.len()).max(1)) {
        // An aggregator that has refused may close before it has read everything.
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Seeds.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.replace('\n', "\r\n").into_bytes();
    let host = "Host: 127.0.0.1\n";
    let get = |path: &str| text(&format!("GET {path} HTTP/1.1\n{host}\n"));
    let results = |length: &str, body: &str| {
        let head = format!(
            "POST /results?id=0 HTTP/1.1\n{host}Content-Type: application/json\nContent-Length: {length}\n\n"
        );
        [text(&head), body.as_bytes().to_vec()].concat()
    };
    let update = r#"{"round":1,"token":"k7Qw2xA9","num_examples":1,"steps":1,"loss":0.5,"cost":{"train_us":1,"bytes_received":2,"bytes_sent":3},"sections":{"model":"AACAPw=="}}"#;
    vec![
        ("valid-join", get("/id?client=1&port=80")),
        (
            "valid-join-with-a-word",
            text(&format!(
                "GET /id HTTP/1.1\n{host}Zfl-Word: 0123456789abcdef\n\n"
            )),
        ),
        (
            "hostile-word",
            text(&format!(
                "GET /id HTTP/1.1\n{host}Zfl-Word: 0\nZfl-Secret: \n\n"
            )),
        ),
        ("valid-data", get("/training-data?id=0")),
        ("valid-labels", get("/training-labels?id=0")),
        ("torn-head", get("/id?client=1")[..20].to_vec()),
        ("torn-results", results("200", update)),
        (
            "hostile-results-of-no-round",
            results(&update.len().to_string(), update),
        ),
        ("hostile-length", results("18446744073709551615", update)),
        ("hostile-negative-length", results("-1", update)),
        ("hostile-two-lengths", results("1\nContent-Length: 2", "ab")),
        ("hostile-client", get("/id?client=4294967295&port=0")),
        ("hostile-address", get("/id?client=1&address=192.0.2.1:80")),
        ("hostile-query", get("/id?client=%00&client=1&&=")),
        (
            "hostile-page",
            text("GET /id HTTP/1.1\nHost: evil.example\nOrigin: http://evil.example\n\n"),
        ),
        (
            "hostile-chunks",
            text("POST /results?id=0 HTTP/1.1\nTransfer-Encoding: chunked\n\nffffffffffffffff\n"),
        ),
        (
            "hostile-head",
            [b"GET /id HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 70_000]].concat(),
        ),
    ]
}
