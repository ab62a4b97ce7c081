//! FedPer: the last layers, the *head*, stay on the device; the rest, the *body*, is that of FedAvg.
//!
//! Arivazhagan et al. 2019: <https://arxiv.org/abs/1912.00818>. Head and body are trained together. With
//! `personal_epochs` the head alone is trained before that, on the body of the round: it is fine-tuned, as in
//! Collins et al. 2021, *FedRep*: <https://arxiv.org/abs/2102.07078>. Heads begin as that of the initial
//! model. With `head_layers` 0 it is FedAvg to the bit.
//!
//! # Memory
//! None: the head stays where it is in the model.

use crate::client::{ClientRule, LocalJob, Pass, PassPlan, Trains};
use crate::registry::{Algorithm, DeviceHalf};
use crate::vector::{Stays, Vectors};
use fl_param::{ParamSpec, Params};

const HEAD_LAYERS: &str = "head_layers";
const PERSONAL_EPOCHS: &str = "personal_epochs";

/// Parameters of rules with a head, of which this many epochs are the default.
pub(super) const fn params(personal_epochs: f64) -> [ParamSpec; 2] {
    [
        ParamSpec {
            name: HEAD_LAYERS,
            default: 1.0,
            min: 0.0,
            max: fl_nn::MAX_LAYERS as f64,
            whole: true,
            doc: "weight layers at the output that stay on the device; 0 is FedAvg",
        },
        ParamSpec {
            name: PERSONAL_EPOCHS,
            default: personal_epochs,
            min: 0.0,
            max: 1e4,
            whole: true,
            doc: "epochs in which only those layers are trained, before the local epochs",
        },
    ]
}

/// FedPer.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedper",
    doc: "FedAvg of the first layers; the last ones stay on the device",
    paper: "Arivazhagan et al. 2019, https://arxiv.org/abs/1912.00818",
    device: &DeviceHalf {
        rule: "fedper",
        params: const { &params(0.0) },
        client: &Head { then: Trains::All },
    },
    params: &[],
    #[cfg(feature = "server")]
    server: server::make,
};

/// Client rule of a model whose head stays.
pub(super) struct Head {
    /// Parameters that the local epochs train.
    pub then: Trains,
}

impl Head {
    fn has_head(params: &Params) -> bool {
        params.get(HEAD_LAYERS) > 0.0
    }

    /// Tells if the head is trained alone before the rest.
    fn is_tuned(params: &Params) -> bool {
        Self::has_head(params) && params.get(PERSONAL_EPOCHS) > 0.0
    }
}

impl ClientRule for Head {
    fn stays(&self, params: &Params) -> Stays {
        match params.get(HEAD_LAYERS) as u32 {
            0 => Stays::Nothing,
            layers => Stays::LastLayers(layers),
        }
    }

    fn plan(&self, params: &Params, pass: u32, local_epochs: u32) -> PassPlan {
        if Self::is_tuned(params) && pass == 0 {
            let epochs = params.get(PERSONAL_EPOCHS) as u32;
            return PassPlan {
                stream: 1,
                trains: Trains::Staying,
                ..PassPlan::new(pass, epochs)
            };
        }
        PassPlan {
            stream: 0,
            trains: match Self::has_head(params) {
                true => self.then,
                false => Trains::All,
            },
            ..PassPlan::new(pass, local_epochs)
        }
    }

    fn end(&self, params: &Params, job: &LocalJob<'_>, _: &mut [f32], _: &mut Vectors) -> Pass {
        match Self::is_tuned(params) && job.pass == 0 {
            true => Pass::Again,
            false => Pass::Done,
        }
    }

    /// The body of the global model with the head that stays: `global` has it already.
    fn personal(&self, params: &Params, global: &[f32], _: &Vectors, out: &mut [f32]) -> bool {
        out.iter_mut()
            .zip(global)
            .for_each(|(to, from)| *to = *from);
        Self::has_head(params)
    }
}

#[cfg(feature = "server")]
pub(super) mod server {
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{HEAD_LAYERS, Stays};
    use crate::exact::ExactMean;
    use crate::server::*;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        let stays = match setup.device_params.get(HEAD_LAYERS) as u32 {
            0 => Stays::Nothing,
            layers => Stays::LastLayers(layers),
        };
        let body = stays.travelling(&setup.sizes);
        if body == 0 {
            return Err("all layers stay on the devices: take fewer head_layers".into());
        }
        let mean = ExactMean::new(body);
        Ok(Box::new(BodyMean { body, mean }))
    }

    /// The exact mean of a round's bodies so far.
    struct BodyMean {
        body: usize,
        mean: ExactMean,
    }

    impl ServerRule for BodyMean {
        fn takes_the_mean(&self) -> bool {
            true
        }

        fn begin(&mut self, _round: u32, _global: &[f32]) {
            self.mean = ExactMean::new(self.body);
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            Ok(update.add_to(&mut self.mean)?)
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let mean = self.mean.mean()?;
            global
                .iter_mut()
                .zip(mean)
                .for_each(|(to, from)| *to = from);
            Ok(RoundMetrics::new())
        }
    }
}
