//! A cluster: its devices, the round that they are in, and their sums.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::Range;

use fl_algo::{ExactSum, SUM_BYTES};
use fl_client::http::Refusal;
use fl_proto::cluster::{Brief, GatewayMemory};
use fl_proto::codec::{Encodes, Encoding};
use fl_proto::{DeviceState, Query, Ready, Welcome, Word};
use fl_rng::Lane;
use fl_round::{
    Action, ClientState, Closed, Faults, Machine, Note, Order as ByArrival, Policy, Start,
    StartPolicy, Stragglers,
};

use crate::order::Order;
use crate::sums::SumsBody;
use crate::told::{self, Bytes, Told};

/// Requests to devices at once.
pub(crate) const AT_ONCE: usize = 4;

/// As of the aggregator: tries of a `/start`, the pauses between them, and the silence after which nobody asks.
const START_TRIES: u32 = 6;
const START_PAUSES_US: [u64; 2] = [50_000, 2_000_000];
const GONE_AFTER_US: u64 = 10_000_000;

/// A device of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Device {
    pub address: Option<SocketAddrV4>,
    pub word: Option<Word>,
    /// HTTP bytes from it and to it, and those that were told.
    pub bytes: (u64, u64),
    pub told: (u64, u64),
    /// A question to it is under way.
    pub is_asked: bool,
    /// Time of the next question.
    pub next_us: u64,
    pub pause_us: u64,
    /// Reason for which it is gone.
    pub gone: Option<String>,
}

/// A cluster.
pub(crate) struct Cluster {
    pub brief: Brief,
    pub welcome: Welcome,
    pub encoding: Encoding,
    pub machine: Machine,
    pub devices: Vec<Device>,
    pub state: DeviceState,
    /// Body of an order, as it comes and while it is carried out.
    pub body: Vec<u8>,
    /// A connection brings a body.
    pub is_body_coming: bool,
    pub order: Option<Order>,
    pub last_round: u32,
    /// The machine waits for an order.
    waits: bool,
    /// Numbers of the update that is coming, and whether one is.
    pub update: Vec<f32>,
    pub is_update_coming: bool,
    /// Model that changes are of.
    pub base: Vec<f32>,
    pub sums: ExactSum,
    pub weight: u128,
    pub counted: BTreeMap<u32, Vec<u8>>,
    failed: BTreeMap<u32, String>,
    pub sending: Option<SumsBody>,
    /// `/start`s that are due.
    pub starts: VecDeque<Start>,
    /// `/start`s that devices refused which may have begun them.
    pub doubts: VecDeque<Start>,
    /// Devices still to be asked before the round.
    pub probes: Vec<u32>,
    is_probing: bool,
    /// Reason for which the rounds cannot go on.
    pub failure: Option<String>,
}

/// Memory of zeros; `None` if there is none.
fn reserved<T: Clone + Default>(len: usize) -> Option<Vec<T>> {
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(len).ok()?;
    numbers.resize(len, T::default());
    Some(numbers)
}

impl Cluster {
    /// A cluster of a brief, with all of its memory.
    ///
    /// # Errors
    /// The reason against it, for a person.
    pub fn new(brief: Brief, welcome: Welcome, random: [u8; 16]) -> Result<Self, String> {
        let clients = brief.examples.len();
        let is_whole = clients > 0
            && (brief.addresses.is_empty() || brief.addresses.len() == clients)
            && brief.first.checked_add(clients as u32).is_some()
            && (1..=fl_proto::MAX_PARAMS).contains(&brief.numbers);
        if !is_whole {
            return Err("the brief is of no cluster".into());
        }
        let encoding = Encoding::of_wire(&welcome.encoding_up, &welcome.encoding_args);
        let encoding = encoding.ok_or_else(|| {
            let name = &welcome.encoding_up;
            alloc::format!("this gateway has no codec {name}")
        })?;
        let memory = memory(&brief, &encoding);
        let missing = || alloc::format!("no memory: its cluster takes {} bytes", memory.total());
        let numbers = brief.numbers as usize;
        let mut body = Vec::new();
        let order = usize::try_from(memory.order_bytes).map_err(|_| missing())?;
        body.try_reserve_exact(order).map_err(|_| missing())?;
        let sends_changes = encoding.codec().encodes() != Encodes::Parameters;
        let base = if sends_changes { numbers } else { 0 };
        Ok(Self {
            machine: machine(&brief, &welcome, random),
            devices: (0..clients).map(|_| Device::default()).collect(),
            state: DeviceState::Ready,
            body,
            is_body_coming: false,
            order: None,
            last_round: 0,
            waits: false,
            update: reserved(numbers).ok_or_else(missing)?,
            is_update_coming: false,
            base: reserved(base).ok_or_else(missing)?,
            sums: ExactSum::reserved(numbers).ok_or_else(missing)?,
            weight: 0,
            counted: BTreeMap::new(),
            failed: BTreeMap::new(),
            sending: None,
            starts: VecDeque::new(),
            doubts: VecDeque::new(),
            probes: Vec::new(),
            is_probing: false,
            failure: None,
            brief,
            welcome,
            encoding,
        })
    }

    /// IDs of its clients.
    pub fn clients(&self) -> Range<u32> {
        let first = self.brief.first;
        first..first + self.devices.len() as u32
    }

    /// Place of a client in it.
    pub fn place(&self, client: u32) -> Option<u32> {
        let clients = self.clients();
        clients.contains(&client).then(|| client - clients.start)
    }

    /// ID of the client of a place.
    pub fn client(&self, place: u32) -> u32 {
        self.brief.first.saturating_add(place)
    }

    pub fn device(&self, place: u32) -> Option<&Device> {
        self.devices.get(place as usize)
    }

    pub fn device_mut(&mut self, place: u32) -> Option<&mut Device> {
        self.devices.get_mut(place as usize)
    }

    /// The device that a request is of, by its ID, address and word.
    pub fn sender(
        &self,
        query: &Query,
        peer: Option<Ipv4Addr>,
        word: Option<&Word>,
    ) -> Result<u32, Refusal> {
        let id = query
            .id
            .ok_or_else(|| Refusal::new(400, "?id= is missing"))?;
        let place = self.place(id);
        let known = place.and_then(|place| self.device(place));
        let (Some(place), Some(known)) = (place, known) else {
            return Err(Refusal::new(
                403,
                format_args!("client {id} is not behind this edge"),
            ));
        };
        let Some(address) = known.address else {
            return Err(Refusal::new(
                404,
                format_args!("client {id} has not joined"),
            ));
        };
        if peer.is_some_and(|peer| peer != *address.ip()) || known.word.as_ref() != word {
            let why = format_args!("client {id} joined with another word or address");
            return Err(Refusal::new(403, why));
        }
        Ok(place)
    }

    /// Lets a device join.
    pub fn join(
        &mut self,
        query: &Query,
        peer: Option<Ipv4Addr>,
        word: Option<Word>,
        now_us: u64,
    ) -> Result<(u32, Welcome), Refusal> {
        let Range { start, end } = self.clients();
        let id = query
            .client
            .ok_or_else(|| Refusal::new(409, "name the ID: ?client="))?;
        let place = self.place(id).ok_or_else(|| {
            let why = format_args!(
                "client {id} is not behind this edge, which has {start} to {}",
                end - 1
            );
            Refusal::new(409, why)
        })?;
        let expected = self.brief.addresses.get(place as usize);
        let expected = expected.and_then(|text| text.parse::<Ipv4Addr>().ok());
        if expected.is_some() && expected != peer {
            return Err(Refusal::new(
                403,
                format_args!("client {id} is another device"),
            ));
        }
        let (up, down) = (&self.welcome.encoding_up, &self.welcome.encoding_down);
        if let Some(name) = [up, down].into_iter().find(|name| !query.speaks(name)) {
            return Err(Refusal::new(
                422,
                format_args!("the device has no codec {name}"),
            ));
        }
        if !query.has_rule(&self.welcome.rule) {
            let rule = &self.welcome.rule;
            return Err(Refusal::new(
                422,
                format_args!("the device has no rule {rule}"),
            ));
        }
        let address = SocketAddrV4::new(
            peer.unwrap_or(Ipv4Addr::LOCALHOST),
            query.port.unwrap_or(80),
        );
        if let Some(device) = self.device_mut(place) {
            device.address = Some(address);
            device.word = word;
            (device.gone, device.next_us, device.pause_us) = (None, now_us, 0);
        }
        self.machine.joined(now_us, place);
        if query.has_examples() {
            self.machine.fetched(now_us, place);
        }
        let examples = self.brief.examples.get(place as usize);
        let welcome = Welcome {
            id,
            num_examples: examples.copied().unwrap_or(0),
            ..self.welcome.clone()
        };
        Ok((place, welcome))
    }

    /// Answer to `/ready`.
    pub fn ready(&self, id: u32) -> Ready {
        Ready {
            id,
            state: self.state,
            round: self.last_round,
            done_examples: 0,
            total_examples: 0,
            error: None,
        }
    }

    /// Makes room for the body of an order.
    pub fn begin_order(&mut self, length: u64) -> Result<(), Refusal> {
        let most = self.body.capacity() as u64;
        if self.state == DeviceState::Training || self.is_body_coming {
            return Err(Refusal::new(409, "at work; ask /ready"));
        }
        if length > most {
            return Err(Refusal::new(
                413,
                format_args!("{length} bytes, at most {most} are taken"),
            ));
        }
        // What is still being sent of the round before is of no use any more.
        self.body.clear();
        self.is_body_coming = true;
        Ok(())
    }

    /// Takes an order whose body is whole.
    pub fn take_order(&mut self) -> Result<(), Refusal> {
        self.is_body_coming = false;
        let order = Order::parse(&self.body, self.clients(), self.brief.numbers)?;
        if order.start.rule != self.welcome.rule {
            return Err(Refusal::new(400, "the rule is not that of this experiment"));
        }
        let round = order.start.round;
        if round <= self.last_round {
            return Err(Refusal::new(409, "this round was started already"));
        }
        if !self.base.is_empty() && !order.model_into(&self.body, &mut self.base) {
            return Err(Refusal::new(400, "the model cannot be decoded"));
        }
        self.last_round = round;
        self.state = DeviceState::Training;
        self.order = Some(order);
        self.sending = None;
        self.sums.clear();
        self.weight = 0;
        (self.counted, self.failed) = (BTreeMap::new(), BTreeMap::new());
        Ok(())
    }

    /// Begins the round of an order, once the machine waits for one.
    fn begin_round(&mut self, now_us: u64) {
        let Some(order) = &self.order else { return };
        if !self.waits || self.state != DeviceState::Training {
            return;
        }
        self.waits = false;
        let those = |wanted: fn(&crate::order::Part) -> bool| {
            let cohort = order.cohort.iter().filter(move |(_, part)| wanted(part));
            cohort.map(|(place, _)| *place).collect()
        };
        let all = 0..self.devices.len() as u32;
        let faults = Faults {
            away: all
                .filter(|place| !order.cohort.contains_key(place))
                .collect(),
            will_fail: those(|part| part.orders.will_fail),
            corrupt: those(|part| part.orders.corrupt),
            ..Faults::default()
        };
        self.machine.come_to(order.start.round);
        self.machine.faults(now_us, faults);
    }

    /// Does what the machine of the rounds asks for.
    pub fn drive(&mut self, now_us: u64) {
        if self
            .machine
            .deadline()
            .is_some_and(|due_us| due_us <= now_us)
        {
            self.machine.tick(now_us);
        }
        loop {
            self.begin_round(now_us);
            if self.is_probing && self.probes.is_empty() {
                self.is_probing = false;
                self.machine.probed(now_us);
            }
            let Some(action) = self.machine.next_action() else {
                return;
            };
            match action {
                Action::FindFaults { .. } => {
                    self.machine.all_are_back();
                    self.waits = true;
                }
                Action::Probe { clients } => (self.probes, self.is_probing) = (clients, true),
                Action::OpenRound { .. } => self.machine.start(now_us),
                Action::Start(start) => self.starts.push_back(start),
                Action::CloseRound(closed) => {
                    self.close(&closed);
                    self.machine.made(now_us);
                }
                Action::FinishRound(_) => self.machine.completed(now_us),
                Action::Fail { reason } => self.failure = Some(reason),
                Action::Tell(Note::Lost { client, reason, .. }) => {
                    if let Some(device) = self.device_mut(client) {
                        device.gone = Some(told::plain(&reason));
                    }
                }
                Action::Finish
                | Action::OpenEvaluation { .. }
                | Action::Evaluate(_)
                | Action::Tell(_) => {}
            }
        }
    }

    /// Readies the sums of a round to be sent.
    fn close(&mut self, closed: &Closed) {
        let bytes = self.bytes();
        let Some(order) = &self.order else { return };
        self.starts.clear();
        self.doubts.clear();
        for failure in &closed.failed {
            let client = self.brief.first + failure.client;
            self.failed.insert(client, told::plain(&failure.reason));
        }
        for place in order.cohort.keys() {
            let client = self.brief.first + place;
            if !self.counted.contains_key(&client) {
                let why = || "its edge did not find it ready".to_string();
                self.failed.entry(client).or_insert_with(why);
            }
        }
        let control = Told {
            round: order.start.round,
            token: &order.start.token,
            weight: self.weight,
            counted: &self.counted,
            failed: &self.failed,
            cluster: &self.report(),
            bytes: &bytes,
        };
        self.sending = SumsBody::new(control.text(), &self.sums);
        self.state = DeviceState::Sending;
    }

    /// Bytes that have not been told; they have been from now on.
    fn bytes(&mut self) -> Bytes {
        let first = self.brief.first;
        let all = (first..).zip(&mut self.devices);
        let news = all.filter_map(|(client, device)| {
            let told = core::mem::replace(&mut device.told, device.bytes);
            let news = (device.bytes.0 - told.0, device.bytes.1 - told.1);
            (news != (0, 0)).then_some((client, news))
        });
        news.collect()
    }

    /// Notes that a device is gone, as who runs it says.
    pub fn lose(&mut self, place: u32, comes_back: bool, now_us: u64) {
        match comes_back {
            true => self.machine.reboots(now_us, place, "its device reboots"),
            false => self.machine.lost(now_us, place, "its device is gone"),
        }
    }

    /// The sums are with the aggregator above, or of no use to it.
    pub fn sent(&mut self) {
        self.sending = None;
        if self.state == DeviceState::Sending {
            self.state = DeviceState::Ready;
        }
    }

    /// Tells who is there.
    pub fn report(&self) -> String {
        let letter = |place| match self.machine.state(place).unwrap_or_default() {
            ClientState::Absent | ClientState::Joined | ClientState::Fetched => 'a',
            ClientState::Ready => 'r',
            ClientState::Busy => 'b',
            ClientState::Suspect => 's',
            ClientState::Lost => 'l',
        };
        let states: String = (0..self.devices.len() as u32).map(letter).collect();
        let is_lost = |place: u32| self.machine.state(place) == Some(ClientState::Lost);
        let all = (0..).zip(&self.devices);
        let lost = all.filter_map(|(place, device)| {
            let why = device.gone.clone().filter(|_| is_lost(place))?;
            Some((self.client(place), why))
        });
        told::cluster(&states, &lost.collect())
    }
}

/// Memory that a cluster takes.
pub(crate) fn memory(brief: &Brief, encoding: &Encoding) -> GatewayMemory {
    GatewayMemory::new(
        brief.numbers,
        brief.examples.len() as u32,
        encoding.codec().encodes() != Encodes::Parameters,
        SUM_BYTES as u64,
    )
}

/// The machine of the rounds of a cluster, whose clients are places in it.
fn machine(brief: &Brief, welcome: &Welcome, random: [u8; 16]) -> Machine {
    let us = |ms: u32| u64::from(ms) * 1000;
    let clients = brief.examples.len() as u32;
    let policy = Policy {
        clients,
        first_round: 1,
        last_round: u32::MAX - 1,
        seed: welcome.seed,
        clients_per_round: clients,
        over_commit: 0,
        quorum: 0,
        wait_for: clients,
        ready_deadline_us: us(brief.ready_ms),
        round_deadline_us: us(brief.round_ms),
        gone_after_us: GONE_AFTER_US,
        stragglers: Stragglers::Refuse,
        order: ByArrival::Arrival,
        start: StartPolicy {
            at_once: AT_ONCE,
            tries: START_TRIES,
            first_pause_us: START_PAUSES_US[0],
            longest_pause_us: START_PAUSES_US[1],
            within_us: us(brief.start_ms),
        },
        evaluation: None,
    };
    let [a, b] = [0, 8].map(|at| {
        let octets = random[at..].first_chunk().copied();
        u64::from_le_bytes(octets.unwrap_or_default())
    });
    // Who sends an update has shown its word before the token counts.
    let (lane, mut index) = (Lane::new(a, b), 0);
    let tokens = move || {
        index += 1;
        lane.word(index)
    };
    Machine::new(policy, Box::new(tokens))
}
