//! Ditto: a personal model beside the global one.
//!
//! Li et al. 2021, Algorithm 1: <https://arxiv.org/abs/2012.04221>. Client `k` trains the global model `w` as
//! FedAvg does, and keeps a model `v` of its own. That minimises `F(v) + lambda/2 |v - w|^2`: each of its
//! gradients gets `lambda (v - w)`, `w` the global model of the round. It begins as the global model of the
//! client's first round, and never leaves the device. With lambda 0 it is local training alone; the global
//! model is that of FedAvg to the bit, whatever lambda is.
//!
//! # Memory
//! One vector beside the model: `v` is trained first, in the place of the model, while `w` takes its place.

use super::fedprox;
use crate::client::{ClientRule, LocalJob, Pass, PassPlan};
use crate::registry::{Algorithm, DeviceHalf};
use crate::vector::{Length, VectorSpec, Vectors};
use fl_param::{ParamSpec, Params};

const LAMBDA: &str = "lambda";

/// `v`; `w` while `v` is trained.
const PERSONAL: usize = 0;

/// The pass that trains the personal model. The other one is that of FedAvg.
const PERSONAL_PASS: u32 = 0;

static VECTORS: [VectorSpec; 1] = [VectorSpec {
    name: "personal",
    length: Length::Model,
    down: false,
    up: false,
    kept: true,
}];

/// Ditto.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "ditto",
    doc: "FedAvg, and on each device a personal model that a term holds near the global one",
    paper: "Li et al. 2021, https://arxiv.org/abs/2012.04221",
    device: &DeviceHalf {
        rule: "ditto",
        params: &[ParamSpec {
            name: LAMBDA,
            default: 1.0,
            min: 0.0,
            max: 1e6,
            whole: false,
            doc: "weight of the term between personal and global model; 0 is local training",
        }],
        client: &Ditto,
    },
    params: &[],
    #[cfg(feature = "server")]
    server: super::fedavg::server::make,
};

struct Ditto;

/// Exchanges the model that is trained for the one that waits.
fn exchange(weights: &mut [f32], vectors: &mut Vectors) {
    let waiting = vectors.get_mut(PERSONAL).iter_mut();
    waiting
        .zip(weights)
        .for_each(|(a, b)| core::mem::swap(a, b));
}

impl ClientRule for Ditto {
    fn vectors(&self, _: &Params) -> &'static [VectorSpec] {
        &VECTORS
    }

    fn plan(&self, _: &Params, pass: u32, local_epochs: u32) -> PassPlan {
        let is_personal = pass == PERSONAL_PASS;
        PassPlan {
            stream: u32::from(is_personal),
            corrects: is_personal,
            ..PassPlan::new(pass, local_epochs)
        }
    }

    fn begin(&self, _: &Params, job: &LocalJob<'_>, weights: &mut [f32], vectors: &mut Vectors) {
        if job.pass != PERSONAL_PASS {
            return;
        }
        if job.state_round == 0 {
            let personal = vectors.get_mut(PERSONAL).iter_mut();
            personal.zip(&*weights).for_each(|(to, from)| *to = *from);
        }
        exchange(weights, vectors);
    }

    fn corrects(&self, params: &Params, _: &Vectors) -> bool {
        params.get(LAMBDA) != 0.0
    }

    fn correct(
        &self,
        params: &Params,
        vectors: &mut Vectors,
        first: usize,
        weights: &[f32],
        gradient: &mut [f32],
    ) {
        let lambda = params.get(LAMBDA) as f32;
        fedprox::pull_back(lambda, vectors.get(PERSONAL), first, weights, gradient);
    }

    fn end(
        &self,
        _: &Params,
        job: &LocalJob<'_>,
        weights: &mut [f32],
        vectors: &mut Vectors,
    ) -> Pass {
        if job.pass != PERSONAL_PASS {
            return Pass::Done;
        }
        exchange(weights, vectors);
        Pass::Again
    }

    fn personal(&self, _: &Params, _: &[f32], vectors: &Vectors, out: &mut [f32]) -> bool {
        let personal = vectors.get(PERSONAL).iter();
        out.iter_mut()
            .zip(personal)
            .for_each(|(to, from)| *to = *from);
        true
    }
}
