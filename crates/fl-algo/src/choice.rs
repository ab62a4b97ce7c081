//! An algorithm with the values of its parameters: what a run chooses.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::registry::{Algorithm, find};
use crate::server::{ServerRule, Setup};
use crate::vector::{Sizes, Stays};
use fl_param::{ParamError, ParamSpec, Params};

/// An algorithm and the parameters of both its halves.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The algorithm.
    pub algorithm: &'static Algorithm,
    /// Parameters of its device half.
    pub device_params: Params,
    /// Parameters of its server half.
    pub params: Params,
}

impl Choice {
    /// An algorithm with its defaults.
    pub fn new(algorithm: &'static Algorithm) -> Self {
        Self {
            algorithm,
            device_params: Params::defaults(algorithm.device.params),
            params: Params::defaults(algorithm.params),
        }
    }

    /// An algorithm by its name, with its defaults.
    pub fn named(name: &str) -> Option<Self> {
        find(name).map(Self::new)
    }

    /// Declarations of all its parameters.
    pub fn specs(&self) -> impl Iterator<Item = &'static ParamSpec> {
        let Algorithm { device, params, .. } = self.algorithm;
        device.params.iter().chain(*params)
    }

    /// Sets a parameter of either half.
    ///
    /// # Errors
    /// [`ParamError`]; nothing has changed then.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        match self.device_params.set(name, value) {
            Err(ParamError::Unknown) => self.params.set(name, value),
            set => set,
        }
    }

    /// Makes the server half.
    ///
    /// # Errors
    /// Reason why the algorithm does not fit the run, for a person.
    pub fn server(
        &self,
        sizes: impl Into<Sizes>,
        clients: u32,
        clients_per_round: u32,
        seed: u64,
    ) -> Result<Box<dyn ServerRule>, String> {
        let sizes = sizes.into();
        let setup = Setup {
            device_params: self.device_params,
            params: self.params,
            num_params: sizes.num_params,
            sizes,
            clients,
            clients_per_round,
            seed,
        };
        (self.algorithm.server)(&setup).map_err(|why| format!("{}: {why}", self.algorithm.name))
    }

    /// Tells if there is a global model: all of it travels.
    pub fn has_global_model(&self) -> bool {
        self.algorithm.device.client.stays(&self.device_params) == Stays::Nothing
    }

    /// Reason for which the model of a run with this algorithm depends on time, if it does.
    pub fn notice(&self, rule: &dyn ServerRule) -> Option<String> {
        rule.depends_on_time().then(|| {
            format!(
                "{}: a round takes the first updates that come",
                self.algorithm.name
            )
        })
    }

    /// Parameters of both halves with their values.
    pub fn values(&self) -> Vec<(&'static str, f64)> {
        let both = self.device_params.iter().chain(self.params.iter());
        both.map(|(spec, value)| (spec.name, value)).collect()
    }
}

impl Default for Choice {
    /// FedAvg.
    fn default() -> Self {
        Self::new(crate::ALGORITHMS[0])
    }
}
