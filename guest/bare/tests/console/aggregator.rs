//! The aggregator's side of a round with one device, as small as these tests can have it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use fl_proto::codec::F32;
use fl_proto::message::{self, Kind, MODEL, Message, Outgoing};
use fl_proto::{OCTET_STREAM, Results, Word, json};

use super::session::PATIENCE;

/// Inputs, hidden units and classes of the network that is trained: those of the default model.
const LAYERS: [usize; 3] = [784, 16, 10];
/// The first free port, as the system picks it.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Between two tries to reach a device that still boots.
const RETRY: Duration = Duration::from_millis(20);

/// Job that the device trains.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Examples of the device.
    pub num_examples: usize,
    /// Passes over them.
    pub local_epochs: u32,
    /// Examples per step.
    pub batch_size: u32,
}

/// Answer of the device.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The control message.
    pub results: Results,
    /// The model.
    pub params: Vec<f32>,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 and the like.
    pub status: u16,
    /// JSON.
    pub body: String,
}

/// Serves one device until the test is over.
pub struct Aggregator {
    /// Port on the host's loopback where it listens.
    pub port: u16,
    /// Port that QEMU forwards to the device.
    pub device: SocketAddrV4,
    job: Job,
    /// Word that the device shows at `/id`, and obeys.
    word: Arc<OnceLock<String>>,
    updates: Mutex<Receiver<Update>>,
}

impl Aggregator {
    /// Listens.
    pub fn new(job: Job) -> Self {
        let listener = TcpListener::bind(ANY).expect("the loopback has a free port");
        let port = port_of(&listener);
        let (sender, updates) = channel();
        let word = Arc::new(OnceLock::new());
        let known = Arc::clone(&word);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A device that gives a connection up tries again.
                let _ = serve(stream, job, &known, &sender);
            }
        });
        Self {
            port,
            device: own_address(),
            job,
            word,
            updates: Mutex::new(updates),
        }
    }

    /// The shell's command that makes the machine this aggregator's device.
    pub fn run_command(&self) -> String {
        let Self { port, device, .. } = self;
        format!("run 10.0.2.15 server=10.0.2.2:{port} address={device}")
    }

    /// Asks the device to train, as soon as it takes requests; its answer.
    pub fn start(&self, round: u32) -> Answer {
        let Job {
            local_epochs,
            batch_size,
            ..
        } = self.job;
        let control = format!(
            r#"{{"round":{round},"token":"t{round}","local_epochs":{local_epochs},"batch_size":{batch_size},"learning_rate":0.1}}"#
        );
        let params: Vec<f32> = (0..num_params())
            .map(|i| noise(i as u32) as f32 / 65_536.0 - 0.5)
            .map(|param| param / 10.0)
            .collect();
        let model = Outgoing {
            name: MODEL,
            codec: &F32,
            plan: fl_proto::codec::Plan::default(),
            numbers: &params,
        };
        let body = message::encode(Kind::Start, control.as_bytes(), &[model]);
        let body = body.expect("it is small");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let word = self.word.get().map(String::as_str);
            match ask(self.device, "POST", "/start", word, &body) {
                Some(answer) if answer.status != 503 => return answer,
                other => assert!(Instant::now() < deadline, "not ready: {other:?}"),
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Asks how far the device is; `None` if it cannot be reached.
    pub fn ready(&self) -> Option<Answer> {
        let word = self.word.get().map(String::as_str);
        ask(self.device, "GET", "/ready", word, &[])
    }

    /// Waits for the device's update.
    pub fn update(&self) -> Update {
        let updates = self.updates.lock().expect("no test panicked with it");
        let update = updates.recv_timeout(PATIENCE);
        update.expect("the device sends its update")
    }
}

fn ask(
    device: SocketAddrV4,
    method: &str,
    path: &str,
    word: Option<&str>,
    body: &[u8],
) -> Option<Answer> {
    let mut stream = TcpStream::connect(device).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let len = body.len();
    let shown = word.map_or_else(String::new, |word| format!("{}: {word}\r\n", Word::HEADER));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {device}\r\nConnection: close\r\n{shown}\
         Content-Type: {OCTET_STREAM}\r\nContent-Length: {len}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let (head, body) = read_message(&mut stream).ok()?;
    Some(Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        body: String::from_utf8(body).ok()?,
    })
}

/// An address that no other socket of this machine gets: a loopback address of this process's own, and
/// a port below those that the system picks.
fn own_address() -> SocketAddrV4 {
    static PORT: AtomicU16 = AtomicU16::new(10_000);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    // Apart from 127.0.0.1, at which most programs are.
    let ip = Ipv4Addr::new(127, a | 0x80, b, c);
    SocketAddrV4::new(ip, PORT.fetch_add(1, Ordering::Relaxed))
}

fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("it is bound").port()
}

fn num_params() -> usize {
    LAYERS
        .windows(2)
        .map(|pair| pair[0] * pair[1] + pair[1])
        .sum()
}

/// 16 bits that look like chance, the same for the same `index`.
fn noise(index: u32) -> u32 {
    (index ^ index >> 7)
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(0x7f4a)
        .rotate_left(13)
        .wrapping_mul(0x85eb_ca6b)
        >> 16
}

/// Answers one request.
fn serve(
    mut stream: TcpStream,
    job: Job,
    word: &OnceLock<String>,
    updates: &Sender<Update>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (head, body) = read_message(&mut stream)?;
    let path = head.split(' ').nth(1).unwrap_or("");
    let path = path.split('?').next().unwrap_or("");
    let examples = job.num_examples;
    let answer = match path {
        "/id" => {
            let shown = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case(Word::HEADER).then_some(value)
            });
            word.get_or_init(|| shown.expect("the device gives a word").to_owned());
            let layers = LAYERS;
            format!(
                r#"{{"protocol":2,"id":0,"num_examples":{examples},"layers":{layers:?},"activation":"relu","seed":7}}"#
            )
            .into_bytes()
        }
        // Four of five inputs are zero, as in handwriting.
        "/training-data" => (0..examples * LAYERS[0])
            .map(|i| noise(i as u32))
            .map(|x| if x % 5 == 0 { (x >> 8) as u8 } else { 0 })
            .collect(),
        "/training-labels" => (0..examples)
            .map(|i| (noise(i as u32) % 10) as u8)
            .collect(),
        "/results" => {
            let message = Message::parse(&body).expect("the update is a message");
            let model = message.section(MODEL).expect("it has a model");
            let update = Update {
                results: json::decode(message.control).expect("its control message is whole"),
                params: model.numbers().expect("its codec reads it"),
            };
            let _ = updates.send(update);
            b"{}".to_vec()
        }
        other => panic!("the device asks for {other:?}"),
    };
    let len = answer.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(&answer)
}

/// Reads one head and the body behind it.
fn read_message(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            len => bytes.extend(&buffer[..len]),
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())
        .unwrap_or(0);
    let start = body.len();
    body.resize(length.max(start), 0);
    stream.read_exact(&mut body[start..])?;
    Ok((head, body))
}
