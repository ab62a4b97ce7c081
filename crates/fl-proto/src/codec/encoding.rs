//! A codec as a run has chosen it.

use super::{Codec, Encodes, F32, by_name};
use crate::message::MODEL;
use core::fmt;
use fl_param::{ParamError, ParamSpec};
use fl_rng::{Pcg32, Purpose};

/// Most parameters of a codec.
pub const MAX_ARGS: usize = 2;

/// Facts about a vector that its writer goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan<'a> {
    /// Values of the codec's parameters, in their order.
    pub args: [f32; MAX_ARGS],
    /// Lengths of the tensors, in the order of the vector; what is behind the last is one more.
    pub tensors: &'a [u32],
    /// Seed of the random numbers by which it is rounded.
    pub seed: u64,
}

impl Plan<'_> {
    /// The end of the tensor that number `next` of `count` is in.
    pub(super) fn end_of_tensor(&self, next: u32, count: u32) -> u32 {
        let mut end = 0_u32;
        for length in self.tensors {
            end = end.saturating_add(*length);
            if end > next {
                return end.min(count);
            }
        }
        count
    }

    /// The random numbers by which the vector is rounded.
    pub(super) fn draws(&self) -> Pcg32 {
        Pcg32::new(Purpose::Encoding, self.seed)
    }
}

/// A codec with the values of its parameters.
#[derive(Clone, Copy, PartialEq)]
pub struct Encoding {
    codec: &'static dyn Codec,
    /// Values of the codec's parameters, in their order.
    values: [f64; MAX_ARGS],
}

impl Encoding {
    /// A codec with the defaults of its parameters.
    pub fn new(codec: &'static dyn Codec) -> Self {
        let mut values = [0.0; MAX_ARGS];
        for (value, spec) in values.iter_mut().zip(codec.params()) {
            *value = spec.default;
        }
        Self { codec, values }
    }

    /// An encoding as a control message names it; `None` if there is no such codec, or a parameter is out of its bounds.
    pub fn of_wire(name: &str, params: &crate::Params) -> Option<Self> {
        let mut encoding = Self::new(by_name(name)?);
        for (name, value) in params.iter() {
            match encoding.set(name, value.into()) {
                Ok(()) | Err(ParamError::Unknown) => {}
                Err(_) => return None,
            }
        }
        Some(encoding)
    }

    /// Its parameters as control messages have them.
    pub fn wire_params(&self) -> crate::Params {
        let mut params = crate::Params::new();
        for (spec, value) in self.params() {
            // Never full: a codec has no more parameters than a message takes.
            let _ = params.set(spec.name, value as f32);
        }
        params
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// [`ParamError`]; nothing has changed then.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError> {
        let mut params = self.codec.params().iter().zip(&mut self.values);
        let (spec, own) = params
            .find(|(spec, _)| spec.name == name)
            .ok_or(ParamError::Unknown)?;
        spec.check(value)?;
        *own = value;
        Ok(())
    }

    /// The codec.
    pub fn codec(&self) -> &'static dyn Codec {
        self.codec
    }

    /// Its parameters with their values.
    pub fn params(&self) -> impl Iterator<Item = (&'static ParamSpec, f64)> + use<> {
        self.codec.params().iter().zip(self.values)
    }

    /// The plan for a vector of these tensors.
    pub fn plan<'a>(&self, tensors: &'a [u32], seed: u64) -> Plan<'a> {
        Plan {
            args: self.values.map(|value| value as f32),
            tensors,
            seed,
        }
    }

    /// The encoding of one section. What is to be exact goes as it is; so does what a codec of changes
    /// cannot have changes of, and what loses nothing but its order.
    pub fn of_section(self, name: &str, exact: bool, count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let is_of_model = self.codec.encodes() != Encodes::Parameters;
        let as_it_is = exact
            || (is_of_model && name != MODEL)
            || self.codec.keeps_all(&self.plan(&[], 0), count);
        if as_it_is { Self::default() } else { self }
    }

    /// Vectors as long as the model that a device needs for updates in this encoding.
    pub fn device_vectors(&self) -> u32 {
        u32::from(self.codec.encodes() != Encodes::Parameters)
    }

    /// Octets of a section of these tensors.
    pub fn octets(&self, tensors: &[u32], count: u32) -> u64 {
        self.codec.octets(&self.plan(tensors, 0), count)
    }
}

impl Default for Encoding {
    /// The codec that loses nothing.
    fn default() -> Self {
        Self::new(&F32)
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.codec.name())?;
        for (spec, value) in self.params() {
            write!(f, " {}={value}", spec.name)?;
        }
        Ok(())
    }
}
