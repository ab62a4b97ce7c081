//! Devices of an edge: which of them is asked next, and what its answer means.

use fl_client::PortError;
use fl_proto::DeviceState::{Failed, Ready as IsReady};
use fl_proto::{ErrorReply, Ready, json};
use fl_round::{ClientState, Start, StartAnswer};

use crate::ask::{Purpose, WhyReady};
use crate::cluster::Cluster;

/// Pauses between two questions to a device that gets ready, and to one that has failed or works.
const READY_PAUSES_US: [u64; 2] = [50_000, 5_000_000];
const SUSPECT_PAUSE_US: u64 = 2_000_000;

impl Cluster {
    /// The next request to a device that is due.
    pub fn wish_of_devices(&mut self, now_us: u64) -> Option<Purpose> {
        let is_free = |place: u32| (self.device(place)).is_some_and(|device| !device.is_asked);
        if let Some(at) = self.starts.iter().position(|start| is_free(start.client)) {
            return self.starts.remove(at).map(Purpose::Start);
        }
        if let Some(at) = self.doubts.iter().position(|start| is_free(start.client)) {
            let start = self.doubts.remove(at)?;
            return Some(Purpose::Ready(start.client, WhyReady::HasBegun(start)));
        }
        if let Some(place) = self.probes.iter().find(|place| is_free(**place)) {
            return Some(Purpose::Ready(*place, WhyReady::BeforeRound));
        }
        let due = |place: &u32| {
            self.device(*place)
                .is_some_and(|one| !one.is_asked && one.next_us <= now_us)
        };
        let mut places = (0..self.devices.len() as u32).filter(due);
        places.find_map(|place| Some(Purpose::Ready(place, is_asked(self, place)?)))
    }

    /// Takes in what a device says of itself.
    pub fn ready_answered(
        &mut self,
        place: u32,
        why: WhyReady,
        ended: Result<u16, PortError>,
        text: &[u8],
        now_us: u64,
    ) {
        let client = self.client(place);
        let ready: Option<Ready> = json::decode(text);
        let ready = ready.filter(|ready| ended == Ok(200) && ready.id == client);
        match ended {
            Ok(_) => self.machine.heard(place),
            Err(_) => self.machine.unheard(now_us, place),
        }
        let is_ready = ready
            .as_ref()
            .is_some_and(|ready| matches!(ready.state, IsReady | Failed));
        match why {
            WhyReady::Waiting | WhyReady::BeforeRound if is_ready => {
                self.machine.ready(now_us, place)
            }
            WhyReady::AtWork(round) => {
                let failed = ready.filter(|ready| ready.state == Failed && ready.round == round);
                if let Some(failed) = failed {
                    let why = failed
                        .error
                        .as_ref()
                        .map_or("it gave the round up", |why| why.as_str());
                    self.machine.gave_up(now_us, place, round, why);
                }
            }
            WhyReady::HasBegun(start) => {
                let answer = match ready.is_some_and(|ready| ready.round == start.round) {
                    true => StartAnswer::Taken,
                    false => StartAnswer::Later("409: it is busy".into()),
                };
                self.machine
                    .start_answered(now_us, place, start.round, answer);
            }
            _ => {}
        }
        if why == WhyReady::BeforeRound {
            self.probes.retain(|one| *one != place);
        }
        let is_fetched = self.machine.state(place) == Some(ClientState::Fetched);
        if let Some(device) = self.device_mut(place) {
            device.pause_us = match is_fetched {
                true => (2 * device.pause_us).clamp(READY_PAUSES_US[0], READY_PAUSES_US[1]),
                false => SUSPECT_PAUSE_US,
            };
            device.next_us = now_us.saturating_add(device.pause_us);
        }
    }

    /// Takes in a device's answer to its `/start`.
    pub fn start_answered(
        &mut self,
        start: Start,
        ended: Result<u16, PortError>,
        text: &[u8],
        now_us: u64,
    ) {
        let place = start.client;
        let reply: Option<ErrorReply> = json::decode(text);
        let why = reply
            .as_ref()
            .map_or("no answer", |reply| reply.error.as_str());
        let answer = match ended {
            Ok(200..300) => {
                if let Some(device) = self.device_mut(place) {
                    device.next_us = now_us.saturating_add(SUSPECT_PAUSE_US);
                }
                StartAnswer::Taken
            }
            // It is busy with the round before, or took this very `/start` in a try whose answer was lost.
            Ok(409) => return self.doubts.push_back(start),
            // It is still joining, slow, or out of reach.
            Ok(status @ (408 | 503)) => StartAnswer::Later(alloc::format!("{status}: {why}")),
            Ok(status) => StartAnswer::Refused(alloc::format!("{status}: {why}")),
            Err(error) => StartAnswer::Later(alloc::format!("{error}")),
        };
        self.machine
            .start_answered(now_us, place, start.round, answer);
    }
}

/// Reason for which a device is asked again and again, if it is.
pub(crate) fn is_asked(cluster: &Cluster, place: u32) -> Option<WhyReady> {
    match cluster.machine.state(place)? {
        ClientState::Fetched | ClientState::Suspect => Some(WhyReady::Waiting),
        ClientState::Busy => {
            let mut at_work = cluster.machine.at_work();
            at_work
                .find(|(client, _)| *client == place)
                .map(|(_, round)| WhyReady::AtWork(round))
        }
        _ => None,
    }
}
