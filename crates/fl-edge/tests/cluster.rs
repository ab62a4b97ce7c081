//! An edge among what it talks to: an aggregator above, two devices and a place that deals data out, all in memory and
//! by a clock of the test.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Arguments;
use std::net::{Ipv4Addr, SocketAddrV4};

use fl_algo::{MODEL, Partial, Update};
use fl_client::{Activity, Port, PortError};
use fl_edge::{Config, Edge};
use fl_proto::cluster::{
    Brief, COHORT, GatewayMemory, LOCAL, PartialResults, SumCodec, parse_sums,
};
use fl_proto::codec::{self, F32, Plan};
use fl_proto::message::{Kind, Message, Outgoing, encode};
use fl_proto::{DeviceState, Ready, Results, Start, Welcome, Word, json};

const NUMBERS: usize = 130;
const FIRST: u32 = 4;
const ROOT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 8080);
const DEALER: u16 = 9000;

fn device_at(client: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, client as u8), 80)
}

fn word() -> Word {
    Word::random([9; 16])
}

#[derive(Default)]
struct Conn {
    to_edge: VecDeque<u8>,
    ended: bool,
    from_edge: Vec<u8>,
    peer: Option<Ipv4Addr>,
    dest: Option<SocketAddrV4>,
    answered: bool,
    closed: bool,
}

/// Everything around the edge.
#[derive(Default)]
struct World {
    conns: Vec<Conn>,
    waiting: VecDeque<usize>,
    now_us: u64,
    free_bytes: Option<u64>,
    log: Vec<String>,
    /// State that each device tells, and the round that it has begun.
    devices: BTreeMap<u32, (DeviceState, u32)>,
    /// Starts that devices took.
    starts: BTreeMap<u32, Start>,
    reports: Vec<String>,
    sums: Vec<Vec<u8>>,
    edge_word: String,
    refuses: Option<(u16, &'static str)>,
}

struct Net(RefCell<World>);

impl Port for &Net {
    type Connection = usize;

    fn accept(&mut self) -> Option<usize> {
        self.0.borrow_mut().waiting.pop_front()
    }

    fn connect(&mut self) -> Result<usize, PortError> {
        self.connect_to(ROOT)
    }

    fn connect_to(&mut self, to: SocketAddrV4) -> Result<usize, PortError> {
        let mut world = self.0.borrow_mut();
        world.conns.push(Conn {
            dest: Some(to),
            ..Conn::default()
        });
        Ok(world.conns.len() - 1)
    }

    fn peer(&mut self, connection: &usize) -> Option<Ipv4Addr> {
        self.0.borrow().conns[*connection].peer
    }

    fn read(&mut self, connection: &mut usize, buffer: &mut [u8]) -> Result<usize, PortError> {
        let mut world = self.0.borrow_mut();
        let conn = &mut world.conns[*connection];
        let some = conn.to_edge.len().min(buffer.len()).min(700);
        if some == 0 && !conn.ended {
            return Err(PortError::WouldBlock);
        }
        for (place, octet) in buffer.iter_mut().zip(conn.to_edge.drain(..some)) {
            *place = octet;
        }
        Ok(some)
    }

    fn write(&mut self, connection: &mut usize, bytes: &[u8]) -> Result<usize, PortError> {
        let some = bytes.len().min(999);
        let mut world = self.0.borrow_mut();
        world.conns[*connection].from_edge.extend(&bytes[..some]);
        Ok(some)
    }

    fn close(&mut self, connection: usize) {
        self.0.borrow_mut().conns[connection].closed = true;
    }

    fn now_us(&mut self) -> u64 {
        self.0.borrow().now_us
    }

    fn log(&mut self, line: Arguments<'_>) {
        self.0.borrow_mut().log.push(line.to_string());
    }

    fn random(&mut self) -> [u8; 16] {
        [7; 16]
    }

    fn free_bytes(&mut self) -> Option<u64> {
        self.0.borrow().free_bytes
    }
}

/// Head and body of a request or an answer that is whole.
fn whole(octets: &[u8]) -> Option<(String, Vec<u8>)> {
    let at = octets.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(octets[..at].to_vec()).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.map_or(0, |text| text.parse().unwrap());
    (octets.len() >= at + length).then(|| (head, octets[at..].to_vec()))
}

fn answer(status: u16, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn text<T: serde::Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).unwrap()
}

fn brief() -> Brief {
    Brief {
        first: FIRST,
        examples: vec![60, 30],
        addresses: vec![
            "10.0.0.4".try_into().unwrap(),
            "10.0.0.5".try_into().unwrap(),
        ],
        numbers: NUMBERS as u32,
        uniform: false,
        data_port: DEALER,
        ready_ms: 10_000,
        round_ms: 50_000,
        start_ms: 5_000,
    }
}

fn welcome() -> Welcome {
    let layers = [12, 10].into_iter().collect();
    Welcome {
        protocol: fl_proto::PROTOCOL_VERSION,
        id: 9,
        num_examples: 90,
        layers,
        activation: fl_proto::Activation::Relu,
        seed: 3,
        rule: "fedavg".try_into().unwrap(),
        params: Default::default(),
        encoding_up: "f32".try_into().unwrap(),
        encoding_down: "f32".try_into().unwrap(),
        encoding_args: Default::default(),
        holdout: 0,
    }
}

impl World {
    /// Answers a request of the edge.
    fn serve(&mut self, dest: SocketAddrV4, head: &str, body: Vec<u8>) -> Vec<u8> {
        let line = head.lines().next().unwrap();
        if dest.port() == DEALER {
            return answer(200, [5; 90]);
        }
        if dest == ROOT {
            let word = head
                .lines()
                .find_map(|line| line.strip_prefix("Zfl-Word: "));
            self.edge_word = word.unwrap().to_owned();
            return match line {
                line if line.starts_with("GET /id") => match self.refuses {
                    Some((status, why)) => answer(status, text(&fl_proto::ErrorReply::new(why))),
                    None => answer(200, text(&welcome())),
                },
                line if line.starts_with("GET /cluster") => answer(200, text(&brief())),
                line if line.starts_with("POST /cluster") => {
                    self.reports.push(String::from_utf8(body).unwrap());
                    answer(200, "{}")
                }
                _ => {
                    self.sums.push(body);
                    answer(200, "{}")
                }
            };
        }
        let client = u32::from(dest.ip().octets()[3]);
        assert!(head.contains(word().text()), "{head}");
        let (state, round) = self.devices[&client];
        if line.starts_with("POST /start") {
            let message = Message::parse(&body).unwrap();
            let start: Start = json::decode(message.control).unwrap();
            self.devices
                .insert(client, (DeviceState::Training, start.round));
            self.starts.insert(client, start);
        }
        let ready = Ready {
            id: client,
            state,
            round,
            done_examples: 0,
            total_examples: 0,
            error: None,
        };
        answer(
            if line.starts_with("POST /start") {
                202
            } else {
                200
            },
            text(&ready),
        )
    }
}

struct Lab {
    net: &'static Net,
    edge: Edge<&'static Net>,
}

impl Lab {
    fn new(free_bytes: Option<u64>, refuses: Option<(u16, &'static str)>) -> Self {
        let world = World {
            free_bytes,
            refuses,
            ..World::default()
        };
        Self {
            net: Box::leak(Box::new(Net(RefCell::new(world)))),
            edge: Edge::new(Config {
                id: 9,
                http_port: 80,
                server: ROOT,
                secret: Some(word()),
            }),
        }
    }

    /// Lets everything happen until `is_done`, or until nothing would.
    fn run(&mut self, is_done: impl Fn(&World) -> bool) {
        let mut port = self.net;
        for _ in 0..20_000 {
            let activity = self.edge.poll(&mut port);
            let mut world = self.net.0.borrow_mut();
            let mut moved = activity == Activity::Busy;
            for at in 0..world.conns.len() {
                let conn = &world.conns[at];
                let Some(dest) = conn.dest.filter(|_| !conn.answered) else {
                    continue;
                };
                let Some((head, body)) = whole(&conn.from_edge) else {
                    continue;
                };
                let reply = world.serve(dest, &head, body);
                let conn = &mut world.conns[at];
                conn.to_edge.extend(reply);
                (conn.answered, conn.ended, moved) = (true, true, true);
            }
            if is_done(&world) || activity == Activity::Stopped {
                return;
            }
            if let (false, Activity::Idle { wake_at_us }) = (moved, activity) {
                let wake_us = wake_at_us.expect("it would sleep for ever");
                world.now_us = world.now_us.max(wake_us);
            }
        }
        panic!("not done: {:?}", self.net.0.borrow().log);
    }

    /// Sends a request from an address; the status and the body of the answer.
    fn ask(&mut self, from: Ipv4Addr, request: Vec<u8>) -> (u16, Vec<u8>) {
        let at = {
            let mut world = self.net.0.borrow_mut();
            world.conns.push(Conn {
                to_edge: request.into(),
                peer: Some(from),
                ..Conn::default()
            });
            let at = world.conns.len() - 1;
            world.waiting.push_back(at);
            at
        };
        self.run(|world| whole(&world.conns[at].from_edge).is_some());
        self.net.0.borrow_mut().conns[at].ended = true;
        let (head, body) = whole(&self.net.0.borrow().conns[at].from_edge).unwrap();
        (head[9..12].parse().unwrap(), body)
    }

    fn get(&mut self, client: u32, target: &str) -> (u16, Vec<u8>) {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: aggregator\r\nZfl-Word: {}\r\n\r\n",
            word().text()
        );
        self.ask(*device_at(client).ip(), request.into())
    }

    fn post(&mut self, client: u32, body: &[u8]) -> u16 {
        let request = format!(
            "POST /results?id={client} HTTP/1.1\r\nHost: aggregator\r\nZfl-Word: {}\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {}\r\n\r\n",
            word().text(),
            body.len()
        );
        self.ask(*device_at(client).ip(), [request.as_bytes(), body].concat())
            .0
    }

    /// An order of a round to both devices, or what of it is told.
    fn order(&mut self, round: u32, marks: [f32; 2]) -> u16 {
        let control = text(&start(round, "above"));
        let model = [0.5; NUMBERS];
        let numbers: [(&str, &[f32]); 3] = [
            (MODEL, &model),
            (COHORT, &[4.0, marks[0], 5.0, marks[1]]),
            (LOCAL, &[0.5, 2.0, 10.0, 0.25, 1.0, 20.0]),
        ];
        let sections = numbers.map(|(name, numbers)| outgoing(name, numbers));
        let body = encode(Kind::Start, &control, &sections).unwrap();
        let head = format!(
            "POST /start HTTP/1.1\r\nHost: 10.0.0.9\r\nZfl-Word: {}\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {}\r\n\r\n",
            self.net.0.borrow().edge_word,
            body.len()
        );
        self.ask(*ROOT.ip(), [head.as_bytes(), &body].concat()).0
    }

    /// Comes to where both devices are ready.
    fn joined() -> Self {
        let mut lab = Self::new(None, None);
        lab.net.0.borrow_mut().devices = [4, 5]
            .map(|client| (client, (DeviceState::Ready, 0)))
            .into();
        lab.run(|world| !world.reports.is_empty());
        for client in [4, 5] {
            let (status, body) = lab.get(client, &format!("/id?client={client}&port=80"));
            assert_eq!(status, 200);
            let welcome: Welcome = json::decode(&body).unwrap();
            assert_eq!(
                (welcome.id, welcome.num_examples),
                (client, [60, 30][client as usize - 4])
            );
            assert_eq!(
                lab.get(client, &format!("/training-labels?id={client}")).1,
                [5; 90]
            );
        }
        lab.run(|world| world.reports.last().is_some_and(|it| it.contains("\"rr\"")));
        lab
    }

    fn begun(&mut self, round: u32) {
        assert_eq!(self.order(round, [0.0; 2]), 202);
        self.run(|world| {
            [4, 5]
                .iter()
                .all(|it| world.starts.get(it).is_some_and(|one| one.round == round))
        });
    }

    fn update(&self, client: u32, numbers: &[f32]) -> Vec<u8> {
        let start = self.net.0.borrow().starts[&client].clone();
        let results = Results {
            round: start.round,
            token: start.token,
            num_examples: [60, 30][client as usize - 4],
            steps: 6,
            loss: 0.5,
            metrics: Default::default(),
            cost: Default::default(),
        };
        encode(Kind::Results, &text(&results), &[outgoing(MODEL, numbers)]).unwrap()
    }
}

fn outgoing<'a>(name: &'a str, numbers: &'a [f32]) -> Outgoing<'a> {
    Outgoing {
        name,
        codec: &F32,
        plan: Plan::default(),
        numbers,
    }
}

fn start(round: u32, token: &str) -> Start {
    Start {
        round,
        token: token.try_into().unwrap(),
        local_epochs: 1,
        batch_size: 1,
        learning_rate: 1.0,
        arithmetic: Default::default(),
        rule: "fedavg".try_into().unwrap(),
        params: Default::default(),
        state_round: 0,
        encoding_up: codec::F32_NAME.try_into().unwrap(),
        encoding_args: Default::default(),
        optimizer: None,
        privacy: None,
        evaluate: false,
    }
}

fn numbers(of: f32) -> Vec<f32> {
    (0..NUMBERS).map(|at| (at as f32 - 60.0) * of).collect()
}

/// Reads what is told with sums, and their octets.
fn told(body: &[u8]) -> (PartialResults, Vec<u8>) {
    let (control, sums) = parse_sums(body).unwrap();
    assert_eq!((sums.len(), sums[0].codec), (1, SumCodec::Exact));
    (
        serde_json::from_slice(control).unwrap(),
        sums[0].payload.to_vec(),
    )
}

#[test]
fn sums_are_those_of_a_host_to_the_bit_whatever_is_damaged_comes_twice_or_late() {
    let mut lab = Lab::joined();
    lab.begun(1);
    let rates = [4, 5].map(|client| {
        let start = lab.net.0.borrow().starts[&client].clone();
        (start.learning_rate, start.local_epochs, start.batch_size)
    });
    assert_eq!(rates, [(0.5, 2, 10), (0.25, 1, 20)]);
    assert_eq!(lab.order(2, [0.0; 2]), 409, "it is at work");
    let (one, other) = (numbers(0.37), numbers(-1e-9));
    let bodies = [lab.update(4, &one), lab.update(5, &other)];
    let mut damaged = bodies[0].clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(lab.post(4, &damaged), 400);
    assert_eq!(lab.post(5, &bodies[0]), 400, "of another device");
    assert_eq!(lab.post(4, &lab.update(4, &one[1..])), 400);
    assert_eq!(lab.post(4, &bodies[0]), 200);
    assert_eq!(lab.post(4, &bodies[0]), 409, "it is in already");
    assert_eq!(lab.post(5, &bodies[1]), 200);
    lab.run(|world| world.sums.len() == 1);
    assert_eq!(lab.post(5, &bodies[1]), 409);
    let mut sums = Partial::new(NUMBERS, []);
    for (client, weight, model) in [(4, 60, &one), (5, 30, &other)] {
        let update = Update {
            client,
            weight,
            num_examples: weight,
            sections: [(MODEL.to_owned(), model.clone())].into(),
            ..Update::default()
        };
        sums.add(&update, None).unwrap();
    }
    let mut payload = Vec::new();
    sums.mean.sum().pack(&mut payload);
    let (control, got) = told(&lab.net.0.borrow().sums[0]);
    assert_eq!(got, payload);
    assert_eq!(
        (control.weight.as_str(), control.token.as_str()),
        ("90", "above")
    );
    let clients: Vec<u32> = control.counted.iter().map(|one| one.client).collect();
    assert_eq!((clients, control.failed.len()), (vec![4, 5], 0));
    assert!(
        control
            .bytes
            .values()
            .all(|(up, down)| *up > 300 && *down > 300)
    );
    // An update of a round that is over counts in no later one: it is in, whatever the round.
    lab.begun(2);
    assert_eq!(lab.post(4, &bodies[0]), 409);
}

#[test]
fn planned_faults_and_a_device_that_is_gone_fail_in_the_sums_and_wait_for_nothing() {
    let mut lab = Lab::joined();
    // The first update is damaged on the way, as planned.
    assert_eq!(lab.order(1, [2.0, 0.0]), 202);
    lab.run(|world| world.starts.len() == 2);
    let body = lab.update(4, &numbers(1.0));
    assert_eq!(lab.post(4, &body), 400);
    let lost = format!(
        "POST /lost?client=5 HTTP/1.1\r\nHost: 10.0.0.9\r\nZfl-Word: {}\r\n\r\n",
        lab.net.0.borrow().edge_word
    );
    assert_eq!(lab.ask(*ROOT.ip(), lost.into()).0, 200);
    lab.run(|world| world.sums.len() == 1);
    let (control, _) = told(&lab.net.0.borrow().sums[0]);
    assert_eq!((control.weight.as_str(), control.counted.len()), ("0", 0));
    assert!(
        control.failed[&4].contains("as planned"),
        "{:?}",
        control.failed
    );
    assert!(
        control.cluster.states.ends_with('l'),
        "{:?}",
        control.cluster
    );
}

#[test]
fn nobody_but_the_aggregator_above_tells_that_a_device_is_gone_or_back() {
    let mut lab = Lab::joined();
    let own = lab.net.0.borrow().edge_word.clone();
    let tell = |lab: &mut Lab, from: Ipv4Addr, what: &str, words: &str| {
        let request = format!("POST {what} HTTP/1.1\r\nHost: 10.0.0.9\r\n{words}\r\n");
        lab.ask(from, request.into()).0
    };
    let shown = |word: &str| format!("Zfl-Word: {word}\r\n");
    for what in ["/lost?client=5", "/back?client=5"] {
        // A stranger, a device with its own word, and a page of a browser.
        let page = shown(&own) + "Origin: http://evil.example\r\n";
        for (from, words) in [
            (Ipv4Addr::new(10, 0, 0, 77), String::new()),
            (*device_at(4).ip(), shown(word().text())),
            (*ROOT.ip(), page),
        ] {
            assert_eq!(tell(&mut lab, from, what, &words), 403, "{what} {words}");
        }
    }
    // Nobody is gone: both take their part in the round.
    lab.begun(1);
    for client in [4, 5] {
        let body = lab.update(client, &numbers(1.0));
        assert_eq!(lab.post(client, &body), 200);
    }
    lab.run(|world| world.sums.len() == 1);
    let (control, _) = told(&lab.net.0.borrow().sums[0]);
    assert_eq!((control.weight.as_str(), control.failed.len()), ("90", 0));
    // The aggregator above is heard, and only of its own cluster.
    assert_eq!(
        tell(&mut lab, *ROOT.ip(), "/lost?client=6", &shown(&own)),
        400
    );
    assert_eq!(
        tell(&mut lab, *ROOT.ip(), "/lost?client=5", &shown(&own)),
        200
    );
}

#[test]
fn who_is_not_of_the_cluster_is_refused_and_numbers_that_diverged_are_not_added() {
    let mut lab = Lab::joined();
    assert_eq!(
        lab.get(4, "/id?client=5&port=80").0,
        403,
        "from another address"
    );
    assert_eq!(lab.get(4, "/id?client=6&port=80").0, 409);
    assert_eq!(lab.get(4, "/id?client=4&codecs=f16").0, 422);
    assert_eq!(lab.get(4, "/training-data?id=5").0, 403);
    let stranger = "GET /ready HTTP/1.1\r\nHost: 10.0.0.9\r\n\r\n";
    assert_eq!(
        lab.ask(*ROOT.ip(), stranger.into()).0,
        403,
        "without its word"
    );
    lab.begun(1);
    for number in [f32::NAN, 2e9] {
        let mut one = numbers(1.0);
        one[7] = number;
        let body = lab.update(4, &one);
        assert_eq!(lab.post(4, &body), 422, "{number}");
    }
    let body = lab.update(5, &numbers(1.0));
    assert_eq!(lab.post(5, &body), 200);
    lab.run(|world| world.sums.len() == 1);
    let (control, _) = told(&lab.net.0.borrow().sums[0]);
    assert_eq!(control.weight, "30");
    assert!(
        control.failed[&4].contains("diverged"),
        "{:?}",
        control.failed
    );
}

#[test]
fn an_edge_tells_its_memory_when_it_joins_and_ends_with_the_reason_when_it_is_too_little() {
    let why = "the sums of 2 clients need 500 bytes, 200 are free: 300 are missing";
    let mut lab = Lab::new(Some(200), Some((422, why)));
    lab.run(|_| false);
    let world = lab.net.0.borrow();
    let asked = String::from_utf8(world.conns[0].from_edge.clone()).unwrap();
    assert!(asked.contains("&memory=200"), "{asked}");
    assert!(
        world
            .log
            .iter()
            .any(|line| line.contains("300 are missing")),
        "{:?}",
        world.log
    );
    let memory = GatewayMemory::new(7850, 10, false, fl_algo::SUM_BYTES as u64);
    assert_eq!(
        (memory.sums_bytes, memory.update_bytes),
        (64 * 7850, 4 * 7850)
    );
}
