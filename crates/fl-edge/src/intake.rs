//! The way of an update from a connection into the sums.

use alloc::boxed::Box;

use fl_algo::MODEL;
use fl_client::http::Refusal;
use fl_proto::codec::Encodes;
use fl_proto::message::{Kind, MessageError, Receiver, SectionHeader, Sink};
use fl_proto::token::number;
use fl_proto::{Diverged, Results, json};
use fl_round::{Delivery, Measured, Refused};

use crate::cluster::Cluster;
use crate::told;

/// An update on its way in. Its numbers are in the cluster's one place for them.
pub(crate) struct Intake {
    place: u32,
    receiver: Receiver,
    parts: Parts,
}

#[derive(Default)]
struct Parts {
    results: Option<Results>,
    /// Round and token of results whose loss is no number.
    diverged: Option<Diverged>,
    has_model: bool,
}

struct Taking<'a> {
    parts: &'a mut Parts,
    cluster: &'a mut Cluster,
}

impl Intake {
    /// Begins on a body of a device.
    pub fn new(place: u32, length: u64) -> Box<Self> {
        Box::new(Self {
            place,
            receiver: Receiver::new(Kind::Results, length),
            parts: Parts::default(),
        })
    }

    /// Octets to come.
    pub fn remaining(&self) -> u64 {
        self.receiver.remaining()
    }

    /// Takes in the next piece.
    pub fn push(
        &mut self,
        octets: &[u8],
        cluster: &mut Cluster,
        now_us: u64,
    ) -> Result<(), Refusal> {
        let parts = &mut self.parts;
        let pushed = self.receiver.push(octets, &mut Taking { parts, cluster });
        if let Some(Diverged { round, token, .. }) = &self.parts.diverged {
            let why = "the loss is not finite: the training diverged, lower the learning rate";
            let machine = &mut cluster.machine;
            machine.useless(now_us, self.place, *round, number(token), why);
            return Err(Refusal::new(422, why));
        }
        pushed
    }

    /// Adds the update to the sums, if it counts.
    pub fn finish(self, cluster: &mut Cluster, now_us: u64) -> Result<(), Refusal> {
        self.receiver.finish()?;
        let results = self.parts.results.filter(|_| self.parts.has_model);
        let results = results.ok_or(MessageError::Truncated)?;
        let (place, round, token) = (self.place, results.round, number(&results.token));
        if cluster.machine.is_corrupted(place, round, token) {
            let why = "its update was damaged on the way, as planned";
            cluster.machine.gave_up(now_us, place, round, why);
            return Err(Refusal::new(400, why));
        }
        fl_algo::add_base(&cluster.base, &mut cluster.update);
        if let Some(at) = fl_algo::first_unsound(&cluster.update) {
            let why = alloc::format!(
                "parameter {at} is {:e}: the training diverged, lower the learning rate",
                cluster.update[at]
            );
            cluster.machine.useless(now_us, place, round, token, &why);
            return Err(Refusal::new(422, why));
        }
        let expected = cluster.brief.examples.get(place as usize).copied();
        if expected != Some(results.num_examples) {
            let got = results.num_examples;
            return Err(Refusal::new(
                400,
                format_args!("{got} examples, this client has others"),
            ));
        }
        let delivery = Delivery {
            client: place,
            round,
            token,
            update: u64::from(place),
            measured: Measured {
                loss: results.loss,
                ..Measured::default()
            },
        };
        let placed = cluster.machine.deliver(now_us, delivery).map_err(refusal)?;
        if !placed.counts {
            return Err(refusal(Refused::RoundOver { round }));
        }
        cluster.count(place, placed.round_us.unwrap_or(0) / 1000, &results)
    }
}

impl Cluster {
    /// Adds the update in its place to the sums.
    fn count(&mut self, place: u32, round_ms: u64, results: &Results) -> Result<(), Refusal> {
        let weight = match self.brief.uniform {
            true => 1,
            false => u64::from(results.num_examples),
        };
        let client = self.client(place);
        let told = told::counted(client, round_ms, results);
        let told = told.ok_or_else(|| Refusal::new(400, "the results are too long"))?;
        let added = self.sums.add(weight, &self.update);
        added.map_err(|error| Refusal::new(422, error))?;
        self.weight = self.weight.saturating_add(u128::from(weight));
        self.counted.insert(client, told);
        Ok(())
    }
}

fn refusal(refused: Refused) -> Refusal {
    let status = match refused {
        Refused::NotBegun { .. } | Refused::Twice { .. } => 409,
        Refused::NotInCohort { .. } | Refused::WrongToken => 403,
        Refused::RoundOver { .. } | Refused::GivenUp { .. } | Refused::WillFail { .. } => 410,
    };
    Refusal::new(status, refused)
}

impl Sink for Taking<'_> {
    type Refusal = Refusal;

    fn control(&mut self, control: &[u8], _sections: u8) -> Result<(), Refusal> {
        self.parts.results = json::decode(control);
        if self.parts.results.is_none() {
            self.parts.diverged = json::decode(control).filter(Diverged::is_so);
            return Err(Refusal::new(400, "malformed control message"));
        }
        Ok(())
    }

    fn buffer(&mut self, header: &SectionHeader) -> Result<&mut [f32], Refusal> {
        let (name, got) = (&header.name, header.count as usize);
        let want = self.cluster.update.len();
        if name != MODEL || self.parts.has_model {
            return Err(Refusal::new(
                400,
                format_args!("section {name} is not wanted"),
            ));
        }
        if got != want {
            return Err(Refusal::new(
                400,
                format_args!("{got} parameters, the model has {want}"),
            ));
        }
        let codec = header.codec;
        let is_asked =
            codec.encodes() == Encodes::Parameters || codec == self.cluster.encoding.codec();
        if !is_asked || (codec.encodes() == Encodes::Parameters) != self.cluster.base.is_empty() {
            let why = format_args!(
                "section {name} in {}, which was not asked for",
                codec.name()
            );
            return Err(Refusal::new(400, why));
        }
        Ok(&mut self.cluster.update)
    }

    fn complete(&mut self, _header: &SectionHeader) -> Result<(), Refusal> {
        self.parts.has_model = true;
        Ok(())
    }
}
