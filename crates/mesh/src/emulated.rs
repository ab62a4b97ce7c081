//! The thread of a mesh of machines: each node is firmware behind a serial line, the air is here.
//!
//! A node gets its time with what it hears, and time goes on when all that got a step have answered
//! (`fl_radio::line`). So a machine is never late, and what is on the air follows from the seed as it does
//! natively, however fast the machines are.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fl_radio::FRAME_BYTES;
use fl_radio::line::{self, Done, Hello, NEWS, READY, Step};
use zfl_clock::Instant;
use zfl_netsim::radio::{Air, Heard, MeshConfig, NodeStats, epoch};

use crate::fleet::{Order, Stats};
use crate::run::ANNOUNCED;
use crate::watch::ready;

/// Port of the gateway for leaf 0.
pub(crate) const FIRST_PORT: u16 = 8000;
/// Time that all machines together may take to boot.
const BOOTS: Duration = Duration::from_secs(120);
/// Time that a machine may take for a step, its training included, before the others go on without it.
const PATIENCE: Duration = Duration::from_secs(300);
/// Steps after one another without time passing, before whoever wants them is off the air.
const MOST_AT_ONCE: u32 = 1_000;

/// One node and what is known of it.
#[derive(Debug, Default)]
struct Place {
    line: Option<UnixStream>,
    /// Octets that came and are no whole message.
    come: Vec<u8>,
    is_greeted: bool,
    /// It has a step and has not answered.
    awaits: bool,
    last: Done,
    /// Frames of its last answer, until all have answered.
    said: Vec<u8>,
    heard: Vec<Vec<u8>>,
    boots: u8,
    /// Its counts are wanted with the next step.
    counts: bool,
}

pub(crate) struct Thread {
    config: MeshConfig,
    air: Air,
    orders: Receiver<Order>,
    woken: io::PipeReader,
    stats: Arc<Mutex<Stats>>,
    places: Vec<Place>,
    /// Nodes that are about to boot.
    booting: BTreeSet<usize>,
    /// Leaves that the aggregator is about to ask.
    expected: usize,
    until: Instant,
    /// Requests wait until all that was before them is done.
    drains: bool,
    gone: VecDeque<u8>,
    has_news: bool,
    now_us: u64,
    /// Since when it waits for answers.
    since: Instant,
    /// Steps since time last passed.
    at_once: u32,
    /// Takes what is to be told of a machine that is off the air.
    tell: Box<dyn Fn(usize, String) + Send>,
}

impl Thread {
    /// `None` if the radio may not send even one frame.
    pub fn new(
        config: MeshConfig,
        orders: Receiver<Order>,
        woken: io::PipeReader,
        stats: Arc<Mutex<Stats>>,
        tell: Box<dyn Fn(usize, String) + Send>,
    ) -> Option<Self> {
        let nodes = config.topology.nodes();
        Some(Self {
            air: Air::new(&config)?,
            config,
            orders,
            woken,
            stats,
            places: (0..nodes).map(|_| Place::default()).collect(),
            booting: (0..nodes).collect(),
            expected: 0,
            until: Instant::now() + BOOTS,
            drains: false,
            gone: VecDeque::new(),
            has_news: false,
            now_us: 0,
            since: Instant::now(),
            at_once: 0,
            tell,
        })
    }

    pub fn run(mut self) {
        while self.obey() {
            if self.waits() {
                self.listen(Duration::from_secs(1));
                self.lose_silent();
                continue;
            }
            self.said();
            if !self.advance() {
                self.listen(Duration::from_secs(60));
            }
        }
    }

    /// Does what was ordered; false when nobody can order any more.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Plug(node, line)) => self.plug(node, line),
                Ok(Order::Expect(leaves)) => {
                    let is_up = |leaf: &&usize| self.is_up(**leaf + 1);
                    self.expected = leaves.iter().filter(is_up).count();
                    (self.until, self.drains) = (Instant::now() + ANNOUNCED, true);
                }
                // Of native leaves.
                Ok(Order::Boot(..) | Order::Stop(..) | Order::Freeze(..)) => {}
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn is_up(&self, node: usize) -> bool {
        self.places
            .get(node)
            .is_some_and(|place| place.line.is_some())
    }

    fn plug(&mut self, node: usize, line: UnixStream) {
        if line.set_nonblocking(true).is_err() {
            return;
        }
        // A machine may boot again before anybody has seen that its line has ended.
        if self.is_up(node) {
            self.unplug(node);
        }
        if let Some(place) = self.places.get_mut(node) {
            *place = Place {
                line: Some(line),
                boots: place.boots,
                ..Place::default()
            };
            self.air.switch(node, false);
        }
    }

    fn unplug(&mut self, node: usize) {
        self.booting.remove(&node);
        let Some(place) = self
            .places
            .get_mut(node)
            .filter(|place| place.line.is_some())
        else {
            return;
        };
        *place = Place {
            boots: place.boots,
            ..Place::default()
        };
        place.last.wake_us = u64::MAX;
        self.air.switch(node, false);
        self.gone
            .extend(node.checked_sub(1).and_then(|leaf| u8::try_from(leaf).ok()));
    }

    /// True while somebody has to answer, or to boot, before time goes on.
    fn waits(&mut self) -> bool {
        if self.until <= Instant::now() {
            self.booting.clear();
        }
        !self.booting.is_empty() || self.places.iter().any(|place| place.awaits)
    }

    /// Goes on without the machines that do not answer.
    fn lose_silent(&mut self) {
        if self.since + PATIENCE > Instant::now() {
            return;
        }
        let silent = self.places.iter().enumerate();
        let silent = silent.filter_map(|(node, place)| place.awaits.then_some(node));
        let why = format!("no answer to its radio for {} s", PATIENCE.as_secs());
        for node in silent.collect::<Vec<_>>() {
            self.put_off(node, &why);
        }
    }

    /// Takes a machine off the air that does not behave as a node.
    fn put_off(&mut self, node: usize, why: &str) {
        self.unplug(node);
        (self.tell)(node, why.to_owned());
    }

    /// Reads what came over the lines, after so long a wait for that or for an order.
    fn listen(&mut self, patience: Duration) {
        let lines = self.places.iter().enumerate();
        let lines = lines.filter_map(|(node, place)| Some((node, place.line.as_ref()?.as_fd())));
        for node in ready(&self.woken, &lines.collect::<Vec<_>>(), patience) {
            match self.read(node) {
                Ok(()) => {}
                // Its machine has ended, which others tell.
                Err(Broken::Line) => self.unplug(node),
                Err(Broken::Words) => self.put_off(node, "it says to its radio what no node says"),
            }
        }
    }

    /// Reads what a node says.
    ///
    /// # Errors
    /// If its line is broken, or it says what no node says.
    fn read(&mut self, node: usize) -> Result<(), Broken> {
        let place = &mut self.places[node];
        let Some(line) = &mut place.line else {
            return Ok(());
        };
        let mut buffer = [0; 2048];
        match line.read(&mut buffer) {
            Ok(0) => return Err(Broken::Line),
            Ok(length) => place.come.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(_) => return Err(Broken::Line),
        }
        while let Some(&first) = self.places[node].come.first() {
            match first {
                READY if !self.places[node].is_greeted => {
                    self.places[node].come.remove(0);
                    self.greet(node).map_err(|()| Broken::Line)?;
                }
                NEWS if node == 0 => {
                    self.places[node].come.remove(0);
                    self.has_news = true;
                }
                _ => {
                    let place = &mut self.places[node];
                    let Some((done, head)) =
                        Done::parse(&place.come, self.now_us).map_err(|_| Broken::Words)?
                    else {
                        return Ok(());
                    };
                    let length = head + usize::from(done.frames) * FRAME_BYTES;
                    if place.come.len() < length {
                        return Ok(());
                    }
                    if !place.awaits {
                        return Err(Broken::Words);
                    }
                    // Its frames are taken when all have answered, in the order of nodes.
                    place.said = place.come.drain(..length).skip(head).collect();
                    (place.last, place.awaits) = (done, false);
                }
            }
        }
        Ok(())
    }

    fn greet(&mut self, node: usize) -> Result<(), ()> {
        let place = &mut self.places[node];
        place.boots = place.boots.wrapping_add(1);
        let small = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        let hello = Hello {
            node: small(node),
            leaves: small(self.config.topology.nodes() - 1),
            epoch: epoch(node, place.boots),
            first_port: FIRST_PORT,
            seed: self.config.node_seed(node),
            now_us: self.now_us,
            times: *self.air.times(),
        };
        self.air.switch(node, true);
        self.booting.remove(&node);
        let place = &mut self.places[node];
        // Its first step is now.
        (place.is_greeted, place.last.due_us) = (true, Some(self.now_us));
        write(place, &hello.emit())
    }

    /// Gives the air what nodes said in their last step.
    fn said(&mut self) {
        for node in 0..self.places.len() {
            let place = &mut self.places[node];
            let octets = std::mem::take(&mut place.said);
            for frame in line::frames(&octets) {
                self.air.say(node, frame, self.now_us);
            }
            // Those of the gateway are of the leaf whose message has come: below.
            if node > 0
                && let Some(counts) = place.last.counts.take()
            {
                let mut stats = NodeStats::of(&self.air, node, self.now_us);
                let [packets, again, dropped] =
                    [counts.packets, counts.again, counts.dropped].map(u64::from);
                stats.own(packets, again, dropped);
                let mut all = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
                all.tell_own(node, stats, self.now_us);
            }
        }
        let gateway = &mut self.places[0].last;
        if let (Some(leaf), Some(counts)) = (gateway.came, gateway.counts.take()) {
            let [sum, count] = counts.hops.map(f64::from);
            let mut all = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
            all.tell_way(usize::from(leaf) + 1, counts.again, sum / count.max(1.0));
        }
    }

    /// Begins the next step; false if nothing is on its way.
    fn advance(&mut self) -> bool {
        if let Some(leaf) = self.places[0].last.came.take()
            && let Some(place) = self.places.get_mut(usize::from(leaf) + 1)
        {
            // Whoever takes an update in reads what it has cost until it came.
            place.counts = true;
            self.step([usize::from(leaf) + 1]);
            return true;
        }
        if self.until <= Instant::now() {
            self.expected = 0;
        }
        let is_moving = self.places.iter().any(|place| place.last.is_busy);
        let waiting = self.places[0].last.waiting.unwrap_or(0);
        if self.has_news || !self.gone.is_empty() {
            self.has_news = false;
            self.step([0]);
            return true;
        }
        if self.drains && !is_moving || !self.drains && usize::from(waiting) < self.expected {
            // Time stands until the aggregator has asked all whom it is about to ask.
            self.drains = false;
            if usize::from(waiting) < self.expected {
                self.listen(Duration::from_secs(1));
                return true;
            }
        }
        if !self.drains && waiting > 0 {
            self.expected = 0;
            self.step([0]);
            return true;
        }
        let up = || self.places.iter().filter(|place| place.is_greeted);
        let due_us = up().filter_map(|place| place.last.due_us).min();
        if !is_moving && due_us.is_none() {
            return false;
        }
        let wakes = up().map(|place| place.last.wake_us);
        let next = wakes.chain(due_us).chain(self.air.next_us()).min();
        let Some(at_us) = next.filter(|at_us| *at_us < u64::MAX) else {
            // Somebody is busy and wants nothing: no request waits for that.
            return std::mem::take(&mut self.drains);
        };
        self.at_once = if at_us > self.now_us {
            0
        } else {
            self.at_once + 1
        };
        self.now_us = self.now_us.max(at_us);
        let mut heard = Vec::new();
        self.air.advance(self.now_us, &mut heard);
        for Heard { node, octets } in heard {
            self.places[node].heard.push(octets);
        }
        let is_due = |place: &Place| {
            let times = [Some(place.last.wake_us), place.last.due_us];
            let wants = times.iter().flatten().any(|at| *at <= self.now_us);
            place.is_greeted && (wants || !place.heard.is_empty())
        };
        let due = self.places.iter().enumerate();
        let due: Vec<usize> = due
            .filter_map(|(node, place)| is_due(place).then_some(node))
            .collect();
        if self.at_once > MOST_AT_ONCE {
            self.at_once = 0;
            let why = "it asks its radio for another step at the same time, again and again";
            due.into_iter().for_each(|node| self.put_off(node, why));
            return true;
        }
        self.step(due);
        true
    }

    /// Gives these nodes a step, now.
    fn step(&mut self, nodes: impl IntoIterator<Item = usize>) {
        self.since = Instant::now();
        for node in nodes {
            let holds = self.drains
                || self.expected > 0 && {
                    let waiting = self.places[0].last.waiting.unwrap_or(0);
                    usize::from(waiting) < self.expected
                };
            let gone = if node == 0 {
                self.gone.pop_front()
            } else {
                None
            };
            let place = &mut self.places[node];
            let heard = std::mem::take(&mut place.heard);
            if !place.is_greeted {
                continue;
            }
            let frames = heard.len().min(line::MAX_FRAMES);
            let step = Step {
                now_us: self.now_us,
                holds,
                counts: std::mem::take(&mut place.counts),
                gone,
                frames: frames as u8,
            };
            let mut bytes = step.emit().to_vec();
            heard[..frames]
                .iter()
                .for_each(|octets| bytes.extend(octets));
            bytes.resize(step.total_bytes(), 0);
            place.awaits = true;
            if write(place, &bytes).is_err() {
                self.unplug(node);
            }
        }
    }
}

/// Reason why a node is heard no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Line,
    Words,
}

/// Writes to a node. A message is shorter than the buffer of a socket, and the last one was answered.
fn write(place: &mut Place, bytes: &[u8]) -> Result<(), ()> {
    let line = place.line.as_mut().ok_or(())?;
    line.write_all(bytes).map_err(drop)
}
