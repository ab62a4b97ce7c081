//! The air with the radios of all nodes: what they are given to send comes out, later, where it is heard.

use fl_radio::{Frame, Pace, Times};

use super::medium::{AirStats, Heard, Medium};
use super::mesh::MeshConfig;
use super::modem::Modem;
use super::profile::RadioProfile;
use super::topology::Topology;
use super::wakes::Wakes;

/// Questions of a leaf without an answer until it gives a message up.
const TRIES: u8 = 16;
/// Tiles granted at a time.
const CREDIT: u8 = 32;

/// Times of a mesh; `None` if its radio may not send even one frame.
fn times_of(config: &MeshConfig) -> Option<Times> {
    let frame_us = config.radio.frame_us();
    // Who listens first needs less room for the others.
    let frames = if config.radio.back_off_us.is_some() {
        4
    } else {
        12
    };
    let listen_ms = (frame_us.div_ceil(1_000) + 1).min(60_000) as u32;
    let spread_us = frames * frame_us;
    let hop_us = u64::from(listen_ms) * 1_000 + spread_us + frame_us;
    let depth = u64::from(config.topology.depth());
    // A relay repeats every packet, so its duty cycle is the pace of all. A packet that comes sooner than one and a half
    // hops after another meets it, and is sent again.
    let packet_us = config.radio.duty()?.pace_us(frame_us);
    let packet_us = packet_us.max(hop_us * 3 / 2);
    let reply_us = 2 * depth * hop_us + 2 * packet_us;
    let leaves = config.topology.nodes() as u64;
    Some(Times {
        listen_ms,
        spread_us: u32::try_from(spread_us).unwrap_or(u32::MAX),
        hops: config.topology.depth().saturating_add(2),
        pace: Pace {
            packet_us,
            reply_us,
            poll_us: (leaves * packet_us * 8).max(reply_us),
            credit: CREDIT,
            tries: TRIES,
        },
    })
}

/// The air of one mesh and its radios, in simulated time.
#[derive(Debug)]
pub struct Air {
    medium: Medium,
    modems: Vec<Modem>,
    radio: RadioProfile,
    times: Times,
    /// Times at which modems have something to do.
    wakes: Wakes,
}

impl Air {
    /// Radios with nothing to send; `None` if they may not send even one frame.
    pub fn new(config: &MeshConfig) -> Option<Self> {
        let times = times_of(config)?;
        let duty = config.radio.duty()?;
        let nodes = config.topology.nodes();
        let modem = |node| Modem::new(node, duty, config.radio.back_off_us, config.seed);
        Some(Self {
            medium: Medium::new(
                config.topology.clone(),
                config.radio.modulation,
                config.conditions,
                config.seed,
            ),
            modems: (0..nodes).map(modem).collect(),
            radio: config.radio.clone(),
            times,
            wakes: Wakes::new(nodes),
        })
    }

    /// Times of the mesh.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Nodes that hear each other.
    pub fn topology(&self) -> &Topology {
        self.medium.topology()
    }

    /// Gives a node's radio a frame to send.
    pub fn say(&mut self, node: usize, frame: Frame, now_us: u64) {
        if self.modems[node].is_on {
            self.modems[node].push(frame);
            self.wake(node, now_us);
        }
    }

    /// Turns a node's radio on or off; what waits there is lost.
    pub fn switch(&mut self, node: usize, is_on: bool) {
        self.modems[node].switch(is_on);
    }

    /// Time of the next event.
    pub fn next_us(&mut self) -> Option<u64> {
        let wake = self.wakes.next_us();
        wake.into_iter().chain(self.medium.next_us()).min()
    }

    /// Does the events that are due, and adds the frames that nodes hear.
    pub fn advance(&mut self, now_us: u64, heard: &mut Vec<Heard>) {
        let before = heard.len();
        self.medium.advance(now_us, heard);
        if heard.len() > before {
            let modems = &self.modems;
            let mut at = 0;
            heard.retain(|heard| {
                at += 1;
                at <= before || modems[heard.node].is_on
            });
        }
        while self.wakes.next_us().is_some_and(|at_us| at_us <= now_us)
            && let Some(node) = self.wakes.pop()
        {
            self.modems[node].run(now_us, &mut self.medium);
            self.wake(node, now_us);
        }
    }

    fn wake(&mut self, node: usize, now_us: u64) {
        let wake_us = self.modems[node].wake_us().unwrap_or(u64::MAX);
        self.wakes.set(node, wake_us, now_us);
    }

    /// Counts of a node's radio so far: of the air, frames dropped, and microseconds of waiting for its duty cycle.
    pub fn stats(&self, node: usize) -> (AirStats, u64, u64) {
        let modem = &self.modems[node];
        (self.medium.stats(node), modem.dropped, modem.waited_us)
    }

    /// Energy of a node's radio so far, in joules.
    pub fn energy_j(&self, node: usize, now_us: u64) -> f64 {
        let air = self.medium.stats(node);
        let seconds = |us: u64| us as f64 / 1e6;
        let rest_us = now_us.saturating_sub(air.sent_us + air.heard_us);
        let power = &self.radio.power;
        let energy_mj = power.transmit_mw * seconds(air.sent_us)
            + power.receive_mw * seconds(air.heard_us)
            + power.sleep_mw * seconds(rest_us);
        energy_mj / 1e3
    }
}
